"""One process, killed at one named point, and started again: nothing is lost, and no effect in our database is doubled.

The campaign does the same under load; here each point has its test, which a planted bug turns red in seconds.
"""

import http.client
import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from allocation.bootstrap import Application, bootstrap
from allocation.config import load_settings
from allocation.domain.commands import Allocate, ChangeBatchQuantity, CreateBatch
from tests.e2e.truth import assert_sound
from tests.faults.oracle import await_head, await_overtaken, cursor_of, faults_after_the_commit, read_after_the_commit
from tests.faults.programs import Web, Worker
from tests.faults.trigger import AFTER_COMMIT, BEFORE_COMMIT, BEFORE_CURSOR, Trigger, point

SKUS = [f"LAMP-{n}" for n in range(5)]
COUNTING = "count_movements"
LEASE_SECONDS = 0.5
PATIENCE_SECONDS = 20.0


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
    await_head(url, PATIENCE_SECONDS)
    assert faults_after_the_commit(assert_sound(url), read_after_the_commit(url)) == []


def worker_on(url: str, trigger: Trigger) -> Worker:
    return Worker(url, trigger.folder, lease_seconds=LEASE_SECONDS)


@pytest.mark.parametrize("moment", [BEFORE_COMMIT, AFTER_COMMIT, BEFORE_CURSOR])
def test_a_worker_that_dies_there_has_counted_each_event_once(
    moment: str, trigger: Trigger, shop: Application, postgres_url: str
) -> None:
    trade(shop, 1)
    trigger.arm(point("worker", moment, COUNTING))
    with closing(worker_on(postgres_url, trigger)) as worker:
        worker.launch()
        trigger.await_strike()
        worker.await_death()
        worker.launch()
        trade(shop, 2)
        assert_right(postgres_url)


@pytest.mark.parametrize("moment", [BEFORE_CURSOR, BEFORE_COMMIT])
def test_a_worker_held_up_for_longer_than_its_lease_writes_nothing_any_more(
    moment: str, trigger: Trigger, shop: Application, postgres_url: str
) -> None:
    """Held up in the middle of its transaction, it would also hold the locks of what the other has to take over."""
    trade(shop, 1)
    trigger.arm(point("worker", moment, COUNTING), signal.SIGSTOP)
    workers = [worker_on(postgres_url, trigger) for _ in range(2)]
    with closing(workers[0]), closing(workers[1]):
        for worker in workers:
            worker.launch()
        group = trigger.await_strike().group
        before = cursor_of(postgres_url, COUNTING)
        [stopped] = [worker for worker in workers if worker.group == group]
        await_overtaken(postgres_url, before, PATIENCE_SECONDS)
        stopped.go_on()
        stopped.await_words(f"{COUNTING}, partition 0: ", 1, PATIENCE_SECONDS)
        trade(shop, 2)
        assert_right(postgres_url)


@pytest.mark.parametrize(("database", "moment"), [("sqlite", BEFORE_COMMIT), ("postgres", AFTER_COMMIT)])
def test_a_service_that_dies_there_does_once_what_is_asked_again(
    database: str, moment: str, trigger: Trigger, request: pytest.FixtureRequest
) -> None:
    url = request.getfixturevalue(f"{database}_url")
    batch = {"ref": "b1", "sku": "RED-CHAIR", "qty": 10, "eta": None}
    with closing(Web(url, trigger.folder, workers=1)) as web:
        web.start()
        trigger.arm(point("web", moment))
        with pytest.raises((OSError, http.client.HTTPException)):
            web.ask("POST", "/v1/batches", batch, "key-1")
        web.await_death()
        assert len(assert_sound(url).log) == (moment == AFTER_COMMIT)
        web.start()
        status, told = web.ask("POST", "/v1/batches", batch, "key-1")
        assert (status, told["available"]) == (201, 10)
        assert len(assert_sound(url).log) == 1
