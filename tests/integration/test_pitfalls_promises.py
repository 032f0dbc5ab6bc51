"""What the book's own code promises and does not keep: each breakage by its number and name."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import date

import pytest

from allocation import views
from allocation.bootstrap import Application
from allocation.domain.commands import (
    Allocate,
    ChangeBatchEta,
    ChangeBatchQuantity,
    Command,
    CreateBatch,
    Deallocate,
    IfShort,
)
from allocation.domain.errors import BatchExists, InvalidQuantity
from allocation.domain.events import Allocated
from allocation.service_layer.answers import Promise
from tests.integration.conftest import Start


def batches_of(shop: Application, sku: str) -> dict[str, int]:
    """What is still available, by batch."""
    product = shop.views.product(sku)
    assert product is not None
    return {batch.ref: batch.available for batch in product.batches}


def placements(shop: Application, orderid: str) -> list[str]:
    feed = shop.views.events([], 10_000).events
    return [e.event.batchref for e in feed if isinstance(e.event, Allocated) and e.event.orderid == orderid]


def test_02_the_same_allocate_twice_puts_the_line_on_two_batches(start: Start, database_url: str) -> None:
    one, two = start(database_url), start(database_url)
    for ref in ("b1", "b2"):
        one.bus.handle(CreateBatch(ref, "RED-CHAIR", 10))
    order = Allocate("o1", "RED-CHAIR", 10)
    first, again, elsewhere = one.bus.handle(order), one.bus.handle(order), two.bus.handle(order)
    assert first == again == elsewhere == Promise("o1", "RED-CHAIR", 10, "allocated", "b1", None)
    with ThreadPoolExecutor(6) as threads:
        asked = [threads.submit(shop.bus.handle, Allocate("o2", "RED-CHAIR", 1)) for shop in (one, two) * 3]
        assert {future.result(60).batchref for future in asked} == {"b2"}
    assert batches_of(one, "RED-CHAIR") == {"b1": 0, "b2": 9}
    assert (placements(one, "o1"), placements(one, "o2")) == (["b1"], ["b2"])


def test_09_a_line_that_loses_its_stock_vanishes_and_is_never_tried_again(application: Application) -> None:
    bus = application.bus
    bus.handle(CreateBatch("b1", "RED-CHAIR", 10))
    bus.handle(Allocate("o1", "RED-CHAIR", 8))
    bus.handle(ChangeBatchQuantity("b1", 5))
    assert application.views.order("o1") == [Promise("o1", "RED-CHAIR", 8, "waiting", None, None)]
    bus.handle(CreateBatch("b2", "RED-CHAIR", 7))
    assert application.views.order("o1")[0].status == "waiting"
    bus.handle(CreateBatch("b3", "RED-CHAIR", 8))
    assert application.views.order("o1") == [Promise("o1", "RED-CHAIR", 8, "allocated", "b3", None)]


@pytest.mark.parametrize("qty", [-1000, -1, 0, 2**31, 2**63])
def test_10_a_negative_quantity_makes_stock(application: Application, qty: int) -> None:
    bus = application.bus
    bus.handle(CreateBatch("b1", "RED-CHAIR", 10))
    wrong: list[Command] = [
        Allocate("o1", "RED-CHAIR", qty),
        Allocate("o1", "RED-CHAIR", qty, IfShort.REFUSE),
        CreateBatch("b2", "RED-CHAIR", qty),
        ChangeBatchQuantity("b1", qty or -5),
    ]
    for command in wrong:
        assert type(bus.ask(bus.envelope(command)).error) is InvalidQuantity
    assert batches_of(application, "RED-CHAIR") == {"b1": 10}
    assert application.views.order("o1") == []


def test_10_a_repeated_batch_doubles_stock(application: Application) -> None:
    bus, batch = application.bus, CreateBatch("b1", "RED-CHAIR", 10, date(2031, 3, 1))
    bus.handle(batch)
    bus.handle(Allocate("o1", "RED-CHAIR", 4))
    assert bus.handle(batch).available == 6
    for other in (CreateBatch("b1", "RED-CHAIR", 20), CreateBatch("b1", "BLUE-CHAIR", 10, date(2031, 3, 1))):
        assert isinstance(bus.ask(bus.envelope(other)).error, BatchExists)
    assert batches_of(application, "RED-CHAIR") == {"b1": 6}
    assert application.views.product("BLUE-CHAIR") is None


WHO_LOSES = """
from allocation.domain.model import OrderLine, Product

chairs = Product("RED-CHAIR")
chairs.create_batch("b1", 100)
chairs.create_batch("b2", 10)
for n in range(40):
    chairs.allocate(OrderLine(f"order-{n}", "RED-CHAIR", 1 + n % 5))
chairs.change_batch_quantity("b1", 37)
chairs.deallocate("order-3")
chairs.change_batch_quantity("b1", 60)
print(chairs.events)
"""


def test_12_chance_picks_who_loses_the_stock() -> None:
    runs = [
        subprocess.run(
            [sys.executable, "-c", WHO_LOSES],
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in range(4)
    ]
    assert "Deallocated" in runs[0]
    assert len(set(runs)) == 1


def test_12_the_newest_gives_way(application: Application) -> None:
    bus = application.bus
    bus.handle(CreateBatch("b1", "RED-CHAIR", 30))
    for n in range(10):
        bus.handle(Allocate(f"o{n}", "RED-CHAIR", 3))
    bus.handle(ChangeBatchQuantity("b1", 20))
    statuses = [application.views.order(f"o{n}")[0].status for n in range(10)]
    assert statuses == ["allocated"] * 6 + ["waiting"] * 4


def test_13_a_read_after_the_answer_is_stale(start: Start, database_url: str) -> None:
    writer, reader = start(database_url), start(database_url)
    for n in range(5):
        sku = f"CHAIR-{n}"
        batch = writer.bus.handle(CreateBatch(f"b{n}", sku, 10, date(2031, 3, 1)))
        assert reader.views.batch(f"b{n}") == batch
        promise = writer.bus.handle(Allocate(f"o{n}", sku, 10))
        assert reader.views.line(f"o{n}", sku) == promise
        assert views.allocations(f"o{n}", reader.views) == [{"sku": sku, "batchref": f"b{n}"}]
        writer.bus.handle(ChangeBatchEta(f"b{n}", None))
        assert reader.views.order(f"o{n}")[0].eta is None
        answer = writer.bus.ask(writer.bus.envelope(Deallocate(f"o{n}", sku)))
        assert reader.views.order(f"o{n}") == []
        assert reader.views.events([], 1000).events[-1].position == answer.position
