"""One process, killed at one named point, and started again: nothing is lost, and no effect in our database is doubled.

The campaign does the same under load; here each point has its test, which a planted bug turns red in seconds.
"""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from allocation.bootstrap import Application, bootstrap
from allocation.config import load_settings
from allocation.domain.commands import Allocate, ChangeBatchQuantity, CreateBatch
from tests.e2e.truth import assert_sound
from tests.faults.oracle import QUERIES, await_head, faults_after_the_commit, read_after_the_commit, rows
from tests.faults.programs import Web, Worker
from tests.faults.trigger import AFTER_COMMIT, BEFORE_COMMIT, BEFORE_CURSOR, Trigger, point

SKUS = [f"LAMP-{n}" for n in range(5)]
COUNTING, LEVELS = "count_movements", "project_stock_levels"
LEASE_SECONDS = 0.5


@pytest.fixture
def trigger(tmp_path: Path) -> Trigger:
    folder = tmp_path / "triggers"
    folder.mkdir()
    return Trigger(folder)


@pytest.fixture
def shop(postgres_url: str) -> Iterator[Application]:
    """Handles commands in this process, and delivers nothing."""
    application = bootstrap(load_settings(database_url=postgres_url))
    yield application
    application.close()


def trade(shop: Application, day: int) -> None:
    """A few events of every kind."""
    for sku in SKUS:
        ref = f"batch-{day}-{sku}"
        shop.bus.handle(CreateBatch(ref, sku, 10))
        for n in range(6):
            shop.bus.handle(Allocate(f"order-{day}-{n}", sku, 2))
        shop.bus.handle(ChangeBatchQuantity(ref, 6))


def assert_right(url: str) -> None:
    await_head(url)
    faults = faults_after_the_commit(assert_sound(url), read_after_the_commit(url))
    assert faults == []


@pytest.mark.parametrize("moment", [BEFORE_COMMIT, AFTER_COMMIT, BEFORE_CURSOR])
@pytest.mark.parametrize("subscription", [COUNTING])
def test_a_worker_dies(moment: str, subscription: str, trigger: Trigger, shop: Application, postgres_url: str) -> None:
    trade(shop, 1)
    trigger.arm(point("worker", moment, subscription))
    with Worker(postgres_url, trigger.folder, lease_seconds=LEASE_SECONDS) as worker:
        trigger.await_strike()
        worker.await_death()
        trade(shop, 2)
        worker.start()
        assert_right(postgres_url)
