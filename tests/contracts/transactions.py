"""The contract of unit of work and repository: all or nothing, and products as they are."""

from __future__ import annotations

import gc
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from threading import Event

import pytest

from allocation.domain.commands import Allocate, ChangeBatch, ChangeBatchQuantity, CreateBatch, Deallocate
from allocation.domain.errors import BatchExists, InvalidQuantity, InvalidSku
from allocation.domain.events import Allocated, Backordered, BatchCreated, OutOfStock
from allocation.domain.model import OrderLine, Product
from allocation.service_layer.answers import BatchState
from allocation.service_layer.errors import Conflict
from allocation.service_layer.unit_of_work import Handled
from tests.contracts.harness import Opened, Store, decide, transact

CHAIRS = CreateBatch("b1", "RED-CHAIR", 10)
ORDER = Allocate("o1", "RED-CHAIR", 4)
SPRING = date(2031, 3, 21)


class TransactionContract:
    # All or nothing

    def test_what_is_committed_is_there_for_everyone(self, store: Store) -> None:
        writer, reader = store.open(), store.open()
        writer.group(CHAIRS, ORDER)
        for opened in (writer, reader, store.open()):
            batch, line = opened.views.batch("b1"), opened.views.line("o1", "RED-CHAIR")
            assert batch is not None
            assert line is not None
            assert (batch.available, batch.version, line.batchref) == (6, 2, "b1")
            assert len(opened.log()) == 2

    def test_what_is_not_committed_is_gone(self, opened: Opened) -> None:
        opened.handle(CHAIRS)
        envelope = opened.bus.envelope(ORDER, "id-1")
        with opened.unit_of_work() as uow:
            uow.begin([envelope])
            assert decide(uow, envelope).changed
        self.expect_only_the_chairs(opened)
        assert opened.ask(ORDER, "id-1").repeated is False

    def test_an_exception_on_the_way_undoes_everything(self, opened: Opened) -> None:
        opened.handle(CHAIRS)
        envelope = opened.bus.envelope(ORDER)

        def fail_on_the_way() -> None:
            with opened.unit_of_work() as uow:
                uow.begin([envelope])
                decide(uow, envelope)
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            fail_on_the_way()
        self.expect_only_the_chairs(opened)

    def test_a_commit_that_fails_half_way_leaves_nothing(self, opened: Opened) -> None:
        opened.handle(CHAIRS)
        good, forged = opened.bus.envelope(ORDER, "id-1"), opened.bus.envelope(CreateBatch("b2", "RED-CHAIR", 1))
        twice = Handled(forged, events=[(OutOfStock("RED-CHAIR"), 2)], changed=True)
        with pytest.raises(Conflict):
            transact(opened, [good], [twice])
        self.expect_only_the_chairs(opened)
        answer = opened.ask(ORDER, "id-1")
        assert (answer.repeated, answer.position and answer.position.seq) == (False, 2)

    def expect_only_the_chairs(self, opened: Opened) -> None:
        batch = opened.views.batch("b1")
        assert batch is not None
        assert (batch.available, batch.version) == (10, 1)
        assert opened.views.line("o1", "RED-CHAIR") is None
        assert [e.event for e in opened.log()] == [BatchCreated("b1", "RED-CHAIR", 10)]

    def test_a_unit_of_work_that_did_nothing_leaves_nothing(self, opened: Opened) -> None:
        with opened.unit_of_work() as uow:
            assert uow.begin([]) == {}
            assert uow.collect_new_events() == []
        assert opened.log() == []

    def test_the_next_unit_of_work_begins_where_the_last_commit_ended(self, opened: Opened) -> None:
        opened.handle(CHAIRS)
        envelope = opened.bus.envelope(ORDER)
        with opened.unit_of_work() as uow:
            uow.begin([envelope])
            decide(uow, envelope)
        with opened.unit_of_work() as uow:
            uow.begin([envelope])
            product = uow.products.get("RED-CHAIR")
            assert product is not None
            assert (product.version_number, product.lines.get("o1")) == (1, None)
            assert product.can_allocate(OrderLine("o1", "RED-CHAIR", 10))

    def test_readers_never_see_what_is_not_committed(self, store: Store) -> None:
        writer, reader = store.open(), store.open()
        writer.handle(CHAIRS)
        envelope = writer.bus.envelope(ORDER)
        started = Event()

        def look() -> object:
            started.set()
            return reader.views.line("o1", "RED-CHAIR")

        with ThreadPoolExecutor(1) as thread:
            with writer.unit_of_work() as uow:
                uow.begin([envelope])
                decide(uow, envelope)
                seen = thread.submit(look)
                assert started.wait(30)
            assert seen.result(30) is None

    # Products

    def test_a_product_is_found_by_sku_and_by_batch_and_is_one_object(self, opened: Opened) -> None:
        opened.group(CHAIRS, CreateBatch("b2", "RED-CHAIR", 5), CreateBatch("b3", "BLUE-CHAIR", 5))
        with opened.unit_of_work() as uow:
            uow.begin([opened.bus.envelope(ORDER)])
            red = uow.products.get("RED-CHAIR")
            assert red is not None
            assert red.sku == "RED-CHAIR"
            assert uow.products.get_by_batchref("b1") is uow.products.get_by_batchref("b2") is red
            assert uow.products.get("RED-CHAIR") is red
            blue = uow.products.get_by_batchref("b3")
            assert blue is not None
            assert (blue.sku, blue.version_number, uow.products.get("BLUE-CHAIR") is blue) == ("BLUE-CHAIR", 1, True)

    def test_what_was_never_bought_is_not_found(self, opened: Opened) -> None:
        opened.handle(CHAIRS)
        with opened.unit_of_work() as uow:
            uow.begin([])
            assert uow.products.get("BLUE-CHAIR") is None
            assert uow.products.get_by_batchref("b9") is None

    def test_a_product_taken_in_is_found_before_the_commit(self, opened: Opened) -> None:
        envelope = opened.bus.envelope(CHAIRS)
        with opened.unit_of_work() as uow:
            uow.begin([envelope])
            product = Product("RED-CHAIR")
            product.create_batch("b1", 10)
            uow.products.add(product)
            assert uow.products.get("RED-CHAIR") is product
            assert uow.collect_new_events() == [(BatchCreated("b1", "RED-CHAIR", 10), 1)]
            assert uow.products.get_by_batchref("b1") is product

    def test_events_are_collected_once_with_the_versions_they_made(self, opened: Opened) -> None:
        opened.group(CHAIRS, CreateBatch("b2", "BLUE-CHAIR", 10))
        with opened.unit_of_work() as uow:
            uow.begin([opened.bus.envelope(ORDER)])
            for sku, qty in (("RED-CHAIR", 11), ("BLUE-CHAIR", 4)):
                product = uow.products.get(sku)
                assert product is not None
                product.allocate(OrderLine("o1", sku, qty))
            assert uow.collect_new_events() == [
                (Backordered("o1", "RED-CHAIR", 11), 2),
                (OutOfStock("RED-CHAIR"), 3),
                (Allocated("o1", "BLUE-CHAIR", 4, "b2"), 2),
            ]
            assert uow.collect_new_events() == []

    def test_a_refused_command_leaves_no_product_behind(self, opened: Opened) -> None:
        refused = opened.ask(CreateBatch("b1", "RED-CHAIR", 0), "id-1")
        assert refused.error == InvalidQuantity(0)
        assert opened.views.product("RED-CHAIR") is None
        assert opened.ask(ORDER).error == InvalidSku("RED-CHAIR")
        assert opened.handle(CHAIRS).version == 1

    def test_a_group_sees_what_its_earlier_commands_did(self, opened: Opened) -> None:
        answers = opened.group(
            CHAIRS,
            ORDER,
            Allocate("o2", "RED-CHAIR", 7),
            ChangeBatchQuantity("b1", 11),
            Deallocate("o1", "RED-CHAIR"),
            Allocate("o1", "RED-CHAIR", 5),
            CreateBatch("b2", "RED-CHAIR", 5),
            Deallocate("o2", "RED-CHAIR"),
        )
        assert [answer.error for answer in answers] == [None] * 8
        view = opened.views.product("RED-CHAIR")
        assert view is not None
        assert [(b.ref, b.qty, b.available) for b in view.batches] == [("b1", 11, 11), ("b2", 5, 0)]
        assert [line.batchref for line in opened.views.order("o1")] == ["b2"]
        assert opened.views.order("o2") == []

    def test_a_batch_stands_for_one_product_even_inside_a_group(self, opened: Opened) -> None:
        first, second = opened.group(CHAIRS, CreateBatch("b1", "BLUE-CHAIR", 10))
        assert (first.changed, type(second.error).__name__) == (True, "BatchExists")
        assert opened.views.product("BLUE-CHAIR") is None

    def test_the_same_batch_again_is_known_after_it_changed(self, opened: Opened) -> None:
        opened.group(CHAIRS, ChangeBatch("b1", 7, SPRING), ORDER)
        again = opened.ask(CHAIRS)
        assert (again.result, again.changed) == (BatchState("b1", "RED-CHAIR", 7, 3, SPRING, version=4), False)
        assert opened.ask(CreateBatch("b1", "RED-CHAIR", 7, SPRING)).error == BatchExists("b1")

    def test_a_group_leaves_no_cycles_for_the_collector_of_garbage(self, opened: Opened) -> None:
        """Work in bulk has it look rarely: what hangs together in a cycle would pile up, group after group."""
        opened.group(CHAIRS, *(Allocate(f"first-{n}", "RED-CHAIR", 1) for n in range(200)))
        gc.collect()
        gc.disable()
        try:
            opened.group(*(Allocate(f"o{n}", "RED-CHAIR", 1) for n in range(200)))
            found = gc.collect()
        finally:
            gc.enable()
        assert found < 100, "each of 200 commands left something"
