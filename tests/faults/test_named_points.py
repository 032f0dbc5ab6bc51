"""One process, killed at one named point after the other and started again: nothing is lost, no effect is doubled.

The campaign does the same under load; here each role has its test, which a planted bug turns red in seconds.
"""

import http.client
import random
import signal
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from allocation.bootstrap import Application, bootstrap
from allocation.config import load_settings
from allocation.domain.commands import Allocate, ChangeBatchQuantity, CreateBatch
from tests.e2e.truth import assert_sound
from tests.faults.oracle import (
    assert_none,
    await_head,
    await_overtaken,
    faults_after_the_commit,
    faults_of_commands,
    read_after_the_commit,
)
from tests.faults.programs import Consumer, Web, Worker
from tests.faults.streams import Sender
from tests.faults.trigger import (
    AFTER_COMMIT,
    BEFORE_ACKNOWLEDGEMENT,
    BEFORE_COMMIT,
    BEFORE_CURSOR,
    Trigger,
    point,
)

SKUS = [f"LAMP-{n}" for n in range(5)]
COUNTING = "count_movements"
LEASE_SECONDS = 0.5
PATIENCE_SECONDS, SHORT_PATIENCE_SECONDS = 30.0, 10.0


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
    assert_none(faults_after_the_commit(assert_sound(url), read_after_the_commit(url)))


def worker_on(url: str, trigger: Trigger) -> Worker:
    return Worker(url, trigger.folder, lease_seconds=LEASE_SECONDS)


def test_a_worker_that_dies_at_any_point_has_counted_each_event_once(
    trigger: Trigger, shop: Application, postgres_url: str
) -> None:
    with closing(worker_on(postgres_url, trigger)) as worker:
        worker.launch()
        for day, moment in enumerate((BEFORE_COMMIT, AFTER_COMMIT, BEFORE_CURSOR)):
            trigger.arm(point("worker", moment, COUNTING))
            trade(shop, day)
            trigger.await_strike()
            worker.await_death()
            worker.launch()
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
        [stopped] = [worker for worker in workers if worker.group == group]
        await_overtaken(postgres_url, COUNTING, PATIENCE_SECONDS)
        stopped.go_on()
        it_noticed = stopped.says(f"{COUNTING}, partition 0: ", 1, SHORT_PATIENCE_SECONDS)
        trade(shop, 2)
        assert_right(postgres_url)
        assert it_noticed, stopped.words()


def test_a_service_that_dies_at_any_point_does_once_what_is_asked_again(trigger: Trigger, postgres_url: str) -> None:
    with closing(Web(postgres_url, trigger.folder, workers=1)) as web:
        web.start()
        for done, moment in enumerate((BEFORE_COMMIT, AFTER_COMMIT)):
            batch = {"ref": f"batch-{done}", "sku": "RED-CHAIR", "qty": 10, "eta": None}
            trigger.arm(point("web", moment))
            with pytest.raises((OSError, http.client.HTTPException)):
                web.ask("POST", "/v1/batches", batch, f"key-{done}")
            web.await_death()
            assert len(assert_sound(postgres_url).log) == done + (moment == AFTER_COMMIT)
            web.start()
            status, told = web.ask("POST", "/v1/batches", batch, f"key-{done}")
            assert (status, told["available"]) == (201, 10)
            assert len(assert_sound(postgres_url).log) == done + 1


def test_a_consumer_that_dies_at_any_point_does_once_what_was_sent(
    trigger: Trigger, shop: Application, postgres_url: str, redis_url: str
) -> None:
    batches = [(f"batch-{sku}", sku) for sku in SKUS]
    for ref, sku in batches:
        shop.bus.handle(CreateBatch(ref, sku, 100))
        shop.bus.handle(Allocate(f"order-{sku}", sku, 20))
    streams = f"{redis_url.replace('redis:', 'redis+streams:')}?lease_seconds={LEASE_SECONDS}"
    sender = Sender(redis_url, random.Random(1))
    with closing(Consumer(postgres_url, trigger.folder, receive_from=streams)) as consumer:
        consumer.launch()
        for moment in (BEFORE_COMMIT, AFTER_COMMIT, BEFORE_ACKNOWLEDGEMENT):
            trigger.arm(point("consumer", moment))
            sender.send(20, batches)
            trigger.await_strike()
            consumer.await_death()
            consumer.launch()
        deadline = time.monotonic() + PATIENCE_SECONDS
        while sender.waiting() and time.monotonic() < deadline:
            time.sleep(0.02)
    assert_none(faults_of_commands(sender.sent, assert_sound(postgres_url)))
    assert read_after_the_commit(postgres_url).dead_letters == []
