"""Fault after fault under load, on SQLite and on PostgreSQL: see `campaign`.

ALLOCATION_TEST_FAULTS says how many in all (`make test-faults`: 200), ALLOCATION_TEST_SEED makes a run choose the same
faults and requests as another (what the machine makes of them differs all the same). Each kind of fault that a
campaign has comes equally often.
"""

import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.faults.campaign import Campaign
from tests.faults.stage import embedded, large

FAULTS = int(os.environ.get("ALLOCATION_TEST_FAULTS", "17"))
SEED = int(os.environ.get("ALLOCATION_TEST_SEED", random.randrange(1_000_000)))
STAGES = {"embedded": embedded, "large": large}
KINDS = {"embedded": 6, "large": 11}


def waged(name: str, folder: Path) -> str:
    """Wage a campaign and judge it; its report. Raises `AssertionError` with what was wrong."""
    folder.mkdir()
    begun = time.monotonic()
    with STAGES[name](folder, SEED) as stage:
        campaign = Campaign(stage, SEED)
        assert len(campaign.faults) == KINDS[name]
        campaign.wage(-(-FAULTS // sum(KINDS.values())), progress)
        try:
            campaign.judge()
        except AssertionError as wrong:
            raise AssertionError(f"{wrong}\n{campaign.report()}") from wrong
        return f"{campaign.report()}\nseed {SEED}, {time.monotonic() - begun:.0f} seconds"


def progress(line: str) -> None:
    """Where somebody can see it: `make test-faults`, or a test that failed."""
    sys.stderr.write(f"{line}\n")


@pytest.fixture(scope="module")
def campaigns(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[str]]]:
    """Both at the same time: a process that starts leaves a processor to the other campaign."""
    folder = tmp_path_factory.mktemp("campaigns")
    with ThreadPoolExecutor(len(STAGES)) as threads:
        yield {name: threads.submit(waged, name, folder / name) for name in STAGES}


@pytest.mark.slow
@pytest.mark.parametrize("name", STAGES)
def test_whatever_breaks_every_event_arrives_and_every_effect_is_there_once(
    name: str, campaigns: dict[str, Future[str]], measured: Callable[[str], None]
) -> None:
    measured(f"faults, {campaigns[name].result()}")
