"""The contract of the views: the present state, and the feed of events."""

from __future__ import annotations

from datetime import date
from functools import partial
from threading import Thread

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allocation.domain.commands import Allocate, ChangeBatchEta, CreateBatch, Deallocate
from allocation.domain.errors import MAX_QUANTITY, Available
from allocation.domain.events import BatchCreated, BatchEtaChanged
from allocation.service_layer.answers import BatchState, Promise
from allocation.service_layer.envelope import BEYOND, EventEnvelope, LogPosition
from allocation.service_layer.errors import UnknownPosition
from allocation.views import ProductView, Views
from tests.contracts.harness import MakeStore, Opened, SharedStore
from tests.thoroughness import examples

SPRING, SUMMER = date(2031, 3, 21), date(2031, 6, 21)
PRINTABLE = "".join(chr(n) for n in range(0x21, 0x7F) if chr(n) != "/")


class ReadingContract:
    # State

    def test_nothing_is_known_of_what_never_was(self, opened: Opened) -> None:
        views = opened.views
        assert (views.order("o1"), views.line("o1", "S"), views.batch("b1"), views.product("S")) == (
            [],
            None,
            None,
            None,
        )
        assert list(views.events([], 10).events) == []
        views.ready()

    def test_what_a_write_answered_is_read_at_once(self, opened: Opened) -> None:
        batch = opened.handle(CreateBatch("b1", "RED-CHAIR", 10, SPRING))
        assert opened.views.batch("b1") == batch == BatchState("b1", "RED-CHAIR", 10, 10, SPRING, version=1)
        placed = opened.handle(Allocate("o1", "RED-CHAIR", 10))
        waits = opened.handle(Allocate("o2", "RED-CHAIR", 1))
        assert opened.views.line("o1", "RED-CHAIR") == placed
        assert opened.views.line("o2", "RED-CHAIR") == waits == Promise("o2", "RED-CHAIR", 1, "waiting", None, None)
        moved = opened.handle(ChangeBatchEta("b1", SUMMER))
        assert opened.views.batch("b1") == moved == BatchState("b1", "RED-CHAIR", 10, 0, SUMMER, version=5)
        assert opened.views.line("o1", "RED-CHAIR") == Promise("o1", "RED-CHAIR", 10, "allocated", "b1", SUMMER)
        opened.handle(Deallocate("o1", "RED-CHAIR"))
        assert opened.views.line("o1", "RED-CHAIR") is None
        assert opened.views.line("o2", "RED-CHAIR") == Promise("o2", "RED-CHAIR", 1, "allocated", "b1", SUMMER)

    def test_an_order_lists_its_lines_by_sku(self, opened: Opened) -> None:
        skus = ["b", "B", "_", "a-1", "a", "~"]
        for sku in skus:
            opened.group(CreateBatch(f"batch-{sku}", sku, 1), Allocate("o1", sku, 1), Allocate("o2", sku, 1))
        lines = opened.views.order("o1")
        assert [line.sku for line in lines] == sorted(skus)
        assert lines == [opened.views.line("o1", sku) for sku in sorted(skus)]
        assert [line.batchref for line in opened.views.order("o2")] == [None] * 6

    def test_a_product_shows_its_batches_what_is_free_and_who_waits(self, opened: Opened) -> None:
        opened.group(
            CreateBatch("late", "RED-CHAIR", 5, SUMMER),
            CreateBatch("soon", "RED-CHAIR", 2, SPRING),
            CreateBatch("b", "RED-CHAIR", 3),
            CreateBatch("B", "RED-CHAIR", 4),
            CreateBatch("other", "BLUE-CHAIR", 4),
            Allocate("o1", "RED-CHAIR", 2),
            *(Allocate(f"waits-{n}", "RED-CHAIR", 10 + n) for n in range(5)),
        )
        assert opened.views.product("RED-CHAIR", waiting_limit=3) == ProductView(
            "RED-CHAIR",
            15,
            [
                BatchState("B", "RED-CHAIR", 4, 2, None, 15),
                BatchState("b", "RED-CHAIR", 3, 3, None, 15),
                BatchState("soon", "RED-CHAIR", 2, 2, SPRING, 15),
                BatchState("late", "RED-CHAIR", 5, 5, SUMMER, 15),
            ],
            (Available(None, 5, 3), Available(SPRING, 2, 2), Available(SUMMER, 5, 5)),
            [Promise(f"waits-{n}", "RED-CHAIR", 10 + n, "waiting", None, None) for n in range(3)],
            waiting_lines=5,
            waiting_qty=60,
        )

    # One snapshot

    def test_an_answer_and_the_heads_of_the_log_are_of_one_moment(self, make_store: MakeStore) -> None:
        opened = make_store(2).open()
        opened.group(*(CreateBatch(f"b-{sku}", sku, 10) for sku in ("RED-CHAIR", "LAMP", "TABLE", "SOFA")))
        changed = Thread(target=lambda: opened.handle(Allocate("o1", "RED-CHAIR", 1)))

        def ask(views: Views) -> tuple[list[Promise], list[Promise], Promise | None, int]:
            before = views.order("o1")
            changed.start()
            changed.join(0.2)  # where a reader does not make the writer wait, it commits now
            product = views.product("RED-CHAIR")
            assert product is not None
            return before, views.order("o1"), views.line("o1", "RED-CHAIR"), product.version

        answer, heads = opened.views.with_heads(ask)
        changed.join()
        assert answer == ([], [], None, 1)
        assert sum(heads.values()) == 4
        assert all(opened.views.log_reached(LogPosition(*head)) for head in heads.items())
        later, heads = opened.views.with_heads(lambda views: views.order("o1"))
        assert (later, sum(heads.values())) == (opened.views.order("o1"), 5)
        assert len(later) == 1

    def test_a_position_is_reached_when_the_log_has_it(self, opened: Opened) -> None:
        position = opened.ask(CreateBatch("b1", "RED-CHAIR", 10)).position
        assert position == LogPosition(0, 1)
        for reached in (opened.views.reached, opened.views.log_reached):
            assert reached(position)
            assert not reached(LogPosition(0, 2))

    # Values

    @pytest.mark.parametrize(
        "eta", [None, date(1, 1, 1), date(999, 12, 31), date(2028, 2, 29), date(2031, 10, 26), date(9999, 12, 31)]
    )
    def test_a_day_is_the_same_day_when_it_is_read(self, opened: Opened, eta: date | None) -> None:
        opened.group(CreateBatch("b1", "RED-CHAIR", 5, eta), CreateBatch("b2", "RED-CHAIR", 5, SPRING))
        opened.group(ChangeBatchEta("b2", eta), Allocate("o1", "RED-CHAIR", 1))
        assert [opened.views.batch(ref).eta for ref in ("b1", "b2")] == [eta, eta]  # type: ignore[union-attr]  # it is there
        assert opened.log()[0].event == BatchCreated("b1", "RED-CHAIR", 5, eta)
        assert opened.log()[2].event == BatchEtaChanged("b2", "RED-CHAIR", eta)
        assert opened.views.order("o1")[0].eta == eta
        assert opened.handle(CreateBatch("b1", "RED-CHAIR", 5, eta)).eta == eta

    def test_quantities_reach_to_the_largest(self, opened: Opened) -> None:
        opened.group(CreateBatch("b1", "RED-CHAIR", MAX_QUANTITY), CreateBatch("b2", "RED-CHAIR", MAX_QUANTITY))
        product = opened.views.product("RED-CHAIR")
        assert product is not None
        assert product.available_now == 2 * MAX_QUANTITY
        for n in range(4):
            opened.handle(Allocate(f"o{n}", "RED-CHAIR", MAX_QUANTITY))
        product = opened.views.product("RED-CHAIR")
        assert product is not None
        assert (product.available, product.waiting_lines, product.waiting_qty) == ((), 2, 2 * MAX_QUANTITY)
        assert opened.views.line("o1", "RED-CHAIR") == Promise("o1", "RED-CHAIR", MAX_QUANTITY, "allocated", "b2", None)

    @examples(25)
    @given(data=st.data())
    def test_any_id_comes_through_as_it_is(self, shared: SharedStore, data: st.DataObject) -> None:
        opened = shared.open()
        ids = st.text(PRINTABLE, min_size=1, max_size=255)
        ref, sku, orderid = data.draw(ids), data.draw(ids), data.draw(ids)
        self.expect_to_come_through(opened, ref, sku, orderid)

    def test_every_printable_character_comes_through(self, opened: Opened) -> None:
        for character in PRINTABLE:
            self.expect_to_come_through(opened, character, character, character)
        self.expect_to_come_through(opened, PRINTABLE, PRINTABLE, PRINTABLE)
        self.expect_to_come_through(opened, "x" * 255, "y" * 255, "z" * 255)

    def expect_to_come_through(self, opened: Opened, ref: str, sku: str, orderid: str) -> None:
        known = opened.views.batch(ref)
        sku = known.sku if known else sku
        opened.handle(CreateBatch(ref, sku, 1))
        promise = opened.handle(Allocate(orderid, sku, 1))
        assert (promise.orderid, promise.sku) == (orderid, sku)
        assert opened.views.line(orderid, sku) == promise
        assert promise in opened.views.order(orderid)
        batch, product = opened.views.batch(ref), opened.views.product(sku)
        assert batch is not None
        assert product is not None
        assert (batch.ref, batch.sku, product.sku) == (ref, sku, sku)
        assert opened.views.events([], 1, sku).events[0].event.sku == sku

    # The feed

    def test_the_feed_pages_with_a_cursor(self, opened: Opened) -> None:
        opened.group(*(CreateBatch(f"b{n}", "RED-CHAIR", 1) for n in range(7)))
        pages, cursor = [], []
        for _ in range(5):
            page = opened.views.events(cursor, 3)
            pages.append([e.position.seq for e in page.events])
            cursor = list(page.next)
        assert pages == [[1, 2, 3], [4, 5, 6], [7], [], []]
        assert cursor == [LogPosition(0, 7)]
        opened.handle(CreateBatch("b7", "RED-CHAIR", 1))
        assert [e.position.seq for e in opened.views.events(cursor, 3).events] == [8]

    def test_the_feed_begins_behind_the_cursor(self, opened: Opened) -> None:
        opened.group(*(CreateBatch(f"b{n}", "RED-CHAIR", 1) for n in range(7)))
        assert [e.position.seq for e in opened.views.events([LogPosition(0, 5)], 10).events] == [6, 7]
        assert list(opened.views.events([LogPosition(0, 7)], 10).events) == []
        assert list(opened.views.events([LogPosition(0, BEYOND)], 10).events) == []

    def test_a_cursor_that_the_log_does_not_reach_is_of_another_log(self, make_store: MakeStore) -> None:
        opened = make_store(2).open()
        opened.group(*(CreateBatch(f"b{n}", f"CHAIR-{n}", 1) for n in range(20)))
        heads = opened.views.with_heads(lambda _: None)[1]
        of_one = partial(opened.views.events, sku="CHAIR-1")
        for partition, head in heads.items():
            for ask in (opened.views.events, of_one, opened.views.stock):
                ask([LogPosition(1 - partition, 0), LogPosition(partition, head)], 10)
                for seq in (head + 1, BEYOND - 1):
                    with pytest.raises(UnknownPosition, match=f"no position {partition}-{seq}"):
                        ask([LogPosition(1 - partition, 0), LogPosition(partition, seq)], 10)

    def test_the_feed_of_one_sku_has_its_events_only_and_misses_none(self, opened: Opened) -> None:
        for n in range(5):
            opened.group(CreateBatch(f"r{n}", "RED-CHAIR", 1), *(CreateBatch(f"b{n}-{m}", "B", 1) for m in range(3)))
        assert self.paged(opened, 2, "RED-CHAIR") == [f"r{n}" for n in range(5)]
        assert self.paged(opened, 100, "RED-CHAIR") == [f"r{n}" for n in range(5)]
        assert self.paged(opened, 4, "B") == [f"b{n}-{m}" for n in range(5) for m in range(3)]
        assert self.paged(opened, 4, "NOBODYS") == []

    def test_a_cursor_of_the_whole_feed_goes_on_in_that_of_a_sku_and_back(self, opened: Opened) -> None:
        for n in range(5):
            opened.group(CreateBatch(f"r{n}", "RED-CHAIR", 1), CreateBatch(f"b{n}", "BLUE-CHAIR", 1))
        whole = opened.views.events([], 4)
        mine = opened.views.events(whole.next, 1, "RED-CHAIR")
        assert [e.position.seq for e in mine.events] == [5]
        assert [e.position.seq for e in opened.views.events(mine.next, 3, "RED-CHAIR").events] == [7, 9]
        assert next(e.position.seq for e in opened.views.events(mine.next, 3).events) == 6

    def test_the_feed_of_several_partitions_misses_nothing_and_repeats_nothing(self, make_store: MakeStore) -> None:
        opened = make_store(3).open()
        opened.group(*(CreateBatch(f"b{n}", f"CHAIR-{n}", 1) for n in range(20)))
        half = opened.views.events([], 10)
        opened.group(*(CreateBatch(f"b{n}", f"CHAIR-{n}", 1) for n in range(20, 40)))
        seen = [e.event for e in half.events] + [e.event for e in self.rest(opened, half.next)]
        assert sorted(e.ref for e in seen if isinstance(e, BatchCreated)) == sorted(f"b{n}" for n in range(40))
        assert self.paged(opened, 1, "CHAIR-7") == ["b7"]

    def test_a_version_of_a_product_stands_at_a_position(self, make_store: MakeStore) -> None:
        opened = make_store(3).open()
        opened.group(*(CreateBatch(f"{sku}-{n}", sku, 1) for n in range(3) for sku in ("RED-CHAIR", "B", "C")))
        for sku in ("RED-CHAIR", "B", "C"):
            logged = opened.log(sku)
            found = [opened.views.position_at(sku, version) for version in range(5)]
            assert found == [None, *(e.position for e in logged), logged[-1].position]
        assert opened.views.position_at("NOBODYS", 1) is None

    def rest(self, opened: Opened, cursor: object) -> list[EventEnvelope]:
        found: list[EventEnvelope] = []
        page = opened.views.events(cursor, 7)  # type: ignore[arg-type]  # as the page before gave it
        while page.events:
            found += page.events
            page = opened.views.events(page.next, 7)
        return found

    def paged(self, opened: Opened, limit: int, sku: str) -> list[str]:
        found: list[str] = []
        page = opened.views.events([], limit, sku)
        while page.events:
            assert len(page.events) <= limit
            assert {e.key for e in page.events} == {sku}
            found += [e.event.ref for e in page.events if isinstance(e.event, BatchCreated)]
            page = opened.views.events(page.next, limit, sku)
        return found
