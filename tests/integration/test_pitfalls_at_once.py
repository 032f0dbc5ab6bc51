"""What breaks in the book's own code when several work at once, or one dies: each breakage by its number and name."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from threading import Barrier
from typing import TypeVar

import pytest
from sqlalchemy import text

from allocation.adapters.sql.engine import make_engine
from allocation.bootstrap import Application, bootstrap, load_settings
from allocation.domain.commands import Allocate, ChangeBatchQuantity, CreateBatch
from allocation.domain.events import Allocated
from allocation.domain.model import Product
from allocation.service_layer.answers import Answer, Promise
from allocation.service_layer.envelope import EventEnvelope
from allocation.service_layer.handlers import COMMAND_HANDLERS, allocate
from allocation.service_layer.unit_of_work import UnitOfWork
from tests.integration.conftest import Start

PATIENCE_SECONDS = 60
T = TypeVar("T")


def at_once(count: int, work: Callable[[int], T]) -> list[T]:
    barrier = Barrier(count, timeout=PATIENCE_SECONDS)

    def begin(n: int) -> T:
        barrier.wait()
        return work(n)

    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(begin, range(count), timeout=PATIENCE_SECONDS))


def whole_log(shop: Application) -> list[EventEnvelope]:
    return list(shop.views.events([], 1_000_000).events)


def folded(log: list[EventEnvelope]) -> dict[str, Product]:
    products: dict[str, Product] = {}
    for logged in log:
        product = products.setdefault(logged.key, Product(logged.key))
        product.apply(logged.event)
        assert logged.version == product.version_number
    return products


def expect_tables_to_equal_the_folded_log(shop: Application) -> None:
    for sku, product in folded(whole_log(shop)).items():
        view = shop.views.product(sku)
        assert view is not None
        assert view.version == product.version_number
        assert [(b.ref, b.qty, b.available) for b in view.batches] == [
            (b.reference, b.purchased_quantity, b.available_quantity) for b in product.batches
        ]
        for line in product.lines.values():
            placed = shop.views.line(line.orderid, sku)
            assert placed is not None
            assert (placed.qty, placed.batchref) == (line.qty, line.batchref)


def test_01_one_unit_of_work_shared_by_all_threads_loses_requests(start: Start, empty_database_url: str) -> None:
    shop = start(empty_database_url, log_partitions=4, database_pool_size=2)
    for n in range(8):
        shop.bus.handle(CreateBatch(f"b{n}", f"CHAIR-{n}", 100))

    def client(n: int) -> list[Answer]:
        return [shop.bus.ask(shop.bus.envelope(Allocate(f"o{n}-{m}", f"CHAIR-{n}", 1))) for m in range(8)]

    answers = [answer for mine in at_once(8, client) for answer in mine]
    assert Counter(repr(answer.error) for answer in answers) == {"None": 64}
    stored = Counter(logged.event.orderid for logged in whole_log(shop) if isinstance(logged.event, Allocated))
    assert stored == Counter(f"o{n}-{m}" for n in range(8) for m in range(8))
    assert {shop.views.line(f"o{n}-{m}", f"CHAIR-{n}").batchref for n in range(8) for m in range(8)} == {  # type: ignore[union-attr]  # it is there
        f"b{n}" for n in range(8)
    }


def test_03_a_changed_quantity_that_leaves_the_version_alone_oversells(start: Start, database_url: str) -> None:
    one, two = start(database_url), start(database_url)
    assert one.bus.handle(CreateBatch("b1", "RED-CHAIR", 100)).version == 1
    assert one.bus.handle(ChangeBatchQuantity("b1", 20)).version == 2
    assert two.bus.handle(ChangeBatchQuantity("b1", 21)).version == 3

    def work(n: int) -> list[Answer]:
        shop = (one, two)[n % 2]
        if n < 2:
            return [shop.bus.ask(shop.bus.envelope(ChangeBatchQuantity("b1", qty))) for qty in (30, 4, 18, 6 + n)]
        return [shop.bus.ask(shop.bus.envelope(Allocate(f"o{n}-{m}", "RED-CHAIR", 2))) for m in range(6)]

    answers = [answer for mine in at_once(6, work) for answer in mine]
    assert Counter(repr(answer.error) for answer in answers) == {"None": 32}
    promised = sum(x.qty for n in range(2, 6) for m in range(6) for x in one.views.order(f"o{n}-{m}") if x.batchref)
    batch = one.views.batch("b1")
    assert batch is not None
    assert promised == batch.qty - batch.available <= batch.qty
    assert batch.version == len(whole_log(one))
    expect_tables_to_equal_the_folded_log(one)


def test_04_a_conflict_that_is_not_tried_again_becomes_an_error(start: Start, database_url: str) -> None:
    shop = start(database_url, lock_timeout_seconds=0.05)
    shop.bus.handle(CreateBatch("b1", "RED-CHAIR", 100))
    other = make_engine(database_url)
    with ThreadPoolExecutor(1) as thread, other.connect() as connection:
        connection.execute(text("BEGIN IMMEDIATE" if other.dialect.name == "sqlite" else "BEGIN"))
        connection.execute(text("UPDATE products SET version_number = version_number"))
        asked = thread.submit(shop.bus.handle, Allocate("o1", "RED-CHAIR", 1))
        done, _ = wait([asked], timeout=0.3)  # several times what one attempt waits for the lock
        assert not done, f"it gave up: {asked.exception()!r}"
        connection.execute(text("ROLLBACK"))
        assert asked.result(PATIENCE_SECONDS).batchref == "b1"
    other.dispose()


def test_04_a_hot_sku_answers_everybody(start: Start, database_url: str) -> None:
    shops = [start(database_url) for _ in range(3)]
    shops[0].bus.handle(CreateBatch("b1", "RED-CHAIR", 1000))

    def client(n: int) -> list[Answer]:
        shop = shops[n % 3]
        return [shop.bus.ask(shop.bus.envelope(Allocate(f"o{n}-{m}", "RED-CHAIR", 1))) for m in range(6)]

    answers = [answer for mine in at_once(32, client) for answer in mine]
    assert Counter(repr(answer.error) for answer in answers) == {"None": 192}
    expect_tables_to_equal_the_folded_log(shops[0])


CLIENTS_UNTIL_KILLED = """
import sys
from concurrent.futures import ThreadPoolExecutor
from allocation.bootstrap import bootstrap, load_settings
from allocation.domain.commands import Allocate

shop = bootstrap(load_settings(database_url=sys.argv[1]))

def client(n):
    for m in range(100_000):
        promise = shop.bus.handle(Allocate(f"{sys.argv[2]}-{n}-{m}", f"CHAIR-{n % 3}", 1))
        sys.stdout.write(f"{promise.orderid} {promise.sku} {promise.batchref}\\n")
        sys.stdout.flush()

with ThreadPoolExecutor(16) as threads:
    list(threads.map(client, range(16)))
"""


@pytest.mark.slow
def test_05_events_kept_in_memory_until_after_the_commit_die_with_the_process(
    start: Start, database_url: str, tmp_path: Path
) -> None:
    shop = start(database_url)
    for n in range(3):
        shop.bus.handle(CreateBatch(f"b{n}", f"CHAIR-{n}", 300))
    acknowledged: list[str] = []
    chance = random.Random(5)
    for life in range(2):
        command = [sys.executable, "-c", CLIENTS_UNTIL_KILLED, database_url, f"life{life}"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as service:
            assert service.stdout is not None
            acknowledged += [service.stdout.readline() for _ in range(chance.randint(1, 150))]
            os.kill(service.pid, signal.SIGKILL)
            # Whole lines only: the last word may have been cut short.
            acknowledged += [line for line in service.stdout if line.endswith("\n")]
    told = [line.split() for line in acknowledged]
    assert len(told) >= 2
    events = {(e.event.orderid, e.key): e.event.batchref for e in whole_log(shop) if isinstance(e.event, Allocated)}
    for orderid, sku, batchref in told:
        placed = shop.views.line(orderid, sku)
        assert placed is not None, f"{orderid} was acknowledged and is gone"
        if batchref != "None":
            assert events.get((orderid, sku)) == placed.batchref == batchref, f"{orderid} has no event in the log"
    positions = [logged.position.seq for logged in whole_log(shop)]
    assert positions == list(range(1, len(positions) + 1))
    expect_tables_to_equal_the_folded_log(shop)


@pytest.mark.parametrize("store", ["memory", "sqlite", "postgres"])
def test_06_events_of_a_rolled_back_unit_of_work_are_published_by_the_next(
    request: pytest.FixtureRequest, store: str
) -> None:
    database_url = "memory:" if store == "memory" else request.getfixturevalue(f"{store}_url")

    def failing_late(cmd: Allocate, uow: UnitOfWork) -> Promise:
        promise = allocate(cmd, uow)
        if cmd.orderid.startswith("poison"):
            raise ZeroDivisionError("after it had recorded something")
        return promise

    shop = bootstrap(load_settings(database_url=database_url), handlers={**COMMAND_HANDLERS, Allocate: failing_late})
    shop.bus.handle(CreateBatch("b1", "RED-CHAIR", 100))
    for n in range(3):
        poison, good = shop.bus.handle_many(
            [shop.bus.envelope(Allocate(orderid, "RED-CHAIR", 1)) for orderid in (f"poison{n}", f"o{n}")]
        )
        assert isinstance(poison.error, ZeroDivisionError)
        assert good.error is None
        assert isinstance(shop.bus.ask(shop.bus.envelope(Allocate("poison", "RED-CHAIR", 1))).error, ZeroDivisionError)
    assert [e.event.orderid for e in whole_log(shop) if isinstance(e.event, Allocated)] == ["o0", "o1", "o2"]
    expect_tables_to_equal_the_folded_log(shop)
    shop.close()
