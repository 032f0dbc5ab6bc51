"""Fault after fault under load, on SQLite and on PostgreSQL: see `campaign`.

ALLOCATION_TEST_FAULTS says how many in all (`make test-faults`: 200), ALLOCATION_TEST_SEED makes a run choose the same
faults and requests as another (what the machine makes of them differs all the same).
"""

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.campaign import embedded, large

FAULTS = int(os.environ.get("ALLOCATION_TEST_FAULTS", "13"))
SEED = int(os.environ.get("ALLOCATION_TEST_SEED", random.randrange(1_000_000)))
KINDS = 13
CAMPAIGNS = {"embedded": embedded, "large": large}


@pytest.mark.slow
@pytest.mark.parametrize("name", CAMPAIGNS)
def test_whatever_breaks_every_event_arrives_and_every_effect_is_there_once(
    name: str, tmp_path: Path, measured: Callable[[str], None]
) -> None:
    with CAMPAIGNS[name](tmp_path, SEED) as campaign:
        try:
            campaign.wage(-(-FAULTS // KINDS), print)
            campaign.judge()
        finally:
            measured(campaign.table())
