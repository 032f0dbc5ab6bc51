"""How many examples the property tests try: few in every run, as many as wanted with ALLOCATION_TEST_EXAMPLES=50 (times
fifty). With ALLOCATION_TEST_AS_FOUND=1 a failure is shown as it was found: to look for a smaller one takes long."""

import os

from hypothesis import HealthCheck, Phase, settings

FACTOR = int(os.environ.get("ALLOCATION_TEST_EXAMPLES", "1"))
LEFT_OUT = {Phase.shrink, Phase.explain} if os.environ.get("ALLOCATION_TEST_AS_FOUND") else set()


def examples(count: int, steps: int = 50) -> settings:
    """Settings for a property test of `count` examples. Slowness is no failure: databases take what they take."""
    return settings(
        max_examples=count * FACTOR,
        stateful_step_count=steps,
        deadline=None,
        phases=[phase for phase in Phase if phase not in LEFT_OUT],
        print_blob=True,
        suppress_health_check=[
            HealthCheck.too_slow,
            HealthCheck.data_too_large,
            HealthCheck.function_scoped_fixture,  # examples keep apart by the names they use
            HealthCheck.differing_executors,  # one contract runs in several classes on purpose
        ],
    )
