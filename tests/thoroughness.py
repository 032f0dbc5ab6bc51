"""How many examples the property tests try: few in every run, as many as wanted with ALLOCATION_TEST_EXAMPLES=50 (times
fifty)."""

import os

from hypothesis import HealthCheck, settings

FACTOR = int(os.environ.get("ALLOCATION_TEST_EXAMPLES", "1"))


def examples(count: int, steps: int = 50) -> settings:
    """Settings for a property test of `count` examples. Slowness is no failure: databases take what they take."""
    return settings(
        max_examples=count * FACTOR,
        stateful_step_count=steps,
        deadline=None,
        print_blob=True,
        suppress_health_check=[
            HealthCheck.too_slow,
            HealthCheck.data_too_large,
            HealthCheck.function_scoped_fixture,  # examples keep apart by the names they use
            HealthCheck.differing_executors,  # one contract runs in several classes on purpose
        ],
    )
