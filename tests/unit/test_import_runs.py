"""Groups of rows through a bus in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from threading import Event
from typing import Any

import pytest

from allocation.bootstrap import Application, bootstrap
from allocation.config import Settings
from allocation.domain.commands import Allocate, Command, CreateBatch
from allocation.domain.errors import BatchExists
from allocation.entrypoints.importing.dry_run import DryRun
from allocation.entrypoints.importing.from_csv import CsvRows
from allocation.entrypoints.importing.rows import Rows, Shape, batches
from allocation.entrypoints.importing.run import (
    Import,
    Outcome,
    RowNotReached,
    RowNotTakenIn,
    StopAtFirstRefusal,
    Stopped,
)
from allocation.service_layer.answers import Answer
from allocation.service_layer.envelope import CommandEnvelope, LogPosition
from allocation.service_layer.errors import Unavailable
from allocation.service_layer.fork_join import ForkJoin, Send
from allocation.service_layer.handlers import COMMAND_HANDLERS
from allocation.service_layer.unit_of_work import UnitOfWork
from tests.unit.import_rows import ORDERS, REFUSING, csv_rows


@dataclass
class Shop:
    """An application in memory, and imports into it."""

    stop: bool = True
    handlers: Mapping[type, Callable[..., Any]] = field(default_factory=lambda: COMMAND_HANDLERS)
    app: Application = field(init=False)
    handle_many: Send = field(init=False)
    sent: list[Sequence[CommandEnvelope]] = field(default_factory=list)
    told: list[RowNotTakenIn] = field(default_factory=list)
    position: LogPosition | None = None

    def __post_init__(self) -> None:
        stop = StopAtFirstRefusal()
        handlers = stop.wrap(self.handlers) if self.stop else self.handlers
        self.app = bootstrap(Settings(database_url="memory:"), handlers=handlers)
        self.handle_many = stop.each(self.app.bus.handle_many)

    def send(self, envelopes: Sequence[CommandEnvelope]) -> list[Answer]:
        self.sent.append(envelopes)
        return self.handle_many(envelopes)

    def dry_run(self) -> DryRun:
        return DryRun(self.app.views, COMMAND_HANDLERS, self.app.ids, self.app.clock)

    def take_in(
        self, *files: Rows, group: int = 1000, send: Send | None = None
    ) -> tuple[list[dict[Outcome, int]], Stopped | None]:
        self.told.clear()
        run = Import(
            send or self.send,
            self.app.ids,
            self.app.clock,
            "anna",
            group,
            "stop" if self.stop else "skip",
            self.told.append,
            lambda *_: None,
        )
        stopped = run.run(files)
        self.position = run.position
        return [dict(+tally.counts) for tally in run.tallies], stopped

    def lines(self, *orderids: str) -> list[str]:
        return [orderid for orderid in orderids if self.app.views.order(orderid)]


def stock(*lines: str) -> CsvRows:
    return csv_rows("\n".join(["ref,sku,qty,eta", *lines]), batches(), "batches.csv")


def ordered(*lines: str, shape: Shape = ORDERS) -> CsvRows:
    return csv_rows("\n".join(["orderid,sku,qty", *lines]), shape)


def test_every_row_ends_as_one_of_taken_in_allocated_or_waiting() -> None:
    counts, stopped = Shop().take_in(stock("B-1,RED-CHAIR,10,"), ordered("o-1,RED-CHAIR,6", "o-2,RED-CHAIR,6"))
    assert counts == [{Outcome.TAKEN_IN: 1}, {Outcome.ALLOCATED: 1, Outcome.WAITING: 1}]
    assert stopped is None


def test_the_same_import_again_changes_nothing_and_says_so() -> None:
    shop = Shop()
    files = (["B-1,RED-CHAIR,10,"], ["o-1,RED-CHAIR,6", "o-2,RED-CHAIR,6"])
    shop.take_in(stock(*files[0]), ordered(*files[1]))
    log = shop.app.views.events((), 1000).events
    counts, _ = shop.take_in(stock(*files[0]), ordered(*files[1]))
    assert counts == [{Outcome.THERE_ALREADY: 1}, {Outcome.THERE_ALREADY: 2}]
    assert shop.app.views.events((), 1000).events == log


def test_a_row_that_stands_twice_is_taken_in_once() -> None:
    counts, _ = Shop().take_in(
        stock("B-1,RED-CHAIR,10,", "B-1,RED-CHAIR,10,"), ordered("o-1,RED-CHAIR,1", "o-1,RED-CHAIR,1")
    )
    assert counts == [
        {Outcome.TAKEN_IN: 1, Outcome.THERE_ALREADY: 1},
        {Outcome.ALLOCATED: 1, Outcome.THERE_ALREADY: 1},
    ]


@pytest.mark.parametrize("group", [1, 2, 1000])
def test_it_stops_at_the_first_unreadable_row_with_all_before_and_none_behind_taken_in(group: int) -> None:
    shop = Shop()
    rows = ordered("o-1,RED-CHAIR,1", "o-2,RED-CHAIR,1", "o-3,RED-CHAIR,x", "o-4,RED-CHAIR,1", "o-5,RED-CHAIR,y")
    counts, stopped = shop.take_in(stock("B-1,RED-CHAIR,10,"), rows, group=group)
    assert counts[1] == {Outcome.ALLOCATED: 2, Outcome.UNREADABLE: 1}
    assert shop.lines("o-1", "o-2", "o-3", "o-4", "o-5") == ["o-1", "o-2"]
    assert stopped is not None
    assert stopped.reason.startswith("orders.csv, line 4: the qty 'x' is not a whole number")


@pytest.mark.parametrize("group", [1, 2, 1000])
def test_it_stops_at_the_first_refused_row_with_all_before_and_none_behind_taken_in(group: int) -> None:
    shop = Shop()
    rows = ordered("o-1,RED-CHAIR,1", "o-2,RED-CHAIR,1", "o-1,RED-CHAIR,2", "o-4,RED-CHAIR,1", "o-5,RED-CHAIR,y")
    counts, stopped = shop.take_in(stock("B-1,RED-CHAIR,10,"), rows, group=group)
    assert counts[1] == {Outcome.ALLOCATED: 2, Outcome.REFUSED: 1}
    assert shop.lines("o-1", "o-2", "o-4", "o-5") == ["o-1", "o-2"]
    assert stopped is not None
    assert stopped.reason == "orders.csv, line 4: Order o-1 already has a line for RED-CHAIR, with quantity 1"


def test_after_a_stop_the_mended_file_goes_on_where_it_stopped() -> None:
    shop = Shop()
    shop.take_in(stock("B-1,RED-CHAIR,10,"), ordered("o-1,RED-CHAIR,1", "o-2,RED-CHAIR,x", "o-3,RED-CHAIR,1"))
    counts, stopped = shop.take_in(ordered("o-1,RED-CHAIR,1", "o-2,RED-CHAIR,2", "o-3,RED-CHAIR,1"))
    assert counts == [{Outcome.THERE_ALREADY: 1, Outcome.ALLOCATED: 2}]
    assert stopped is None


def test_a_stop_in_the_batches_leaves_the_orders_alone() -> None:
    shop = Shop()
    counts, stopped = shop.take_in(stock("B-1,RED-CHAIR,10,", "B-1,RED-CHAIR,11,"), ordered("o-1,RED-CHAIR,1"))
    assert len(counts) == 1
    assert stopped is not None
    assert shop.lines("o-1") == []


def test_skipping_leaves_out_what_is_wrong_and_tells_each_in_the_order_of_the_file() -> None:
    shop = Shop(stop=False)
    rows = ordered(
        "o-1,RED-CHAIR,1", "o-2,RED-CHAIR,x", "o-3,BLUE-CHAIR,1", "o-1,RED-CHAIR,7", "o-4", "o-5,RED-CHAIR,1"
    )
    counts, stopped = shop.take_in(stock("B-1,RED-CHAIR,10,"), rows)
    assert stopped is None
    assert counts[1] == {Outcome.ALLOCATED: 2, Outcome.REFUSED: 2, Outcome.UNREADABLE: 2}
    assert [(x.number, x.outcome) for x in shop.told] == [
        (3, "unreadable"),
        (4, "refused"),
        (5, "refused"),
        (6, "unreadable"),
    ]
    assert shop.told[1] == RowNotTakenIn(
        "orders.csv",
        4,
        "o-3,BLUE-CHAIR,1",
        Outcome.REFUSED,
        "Invalid sku BLUE-CHAIR: no batch of it was ever imported or created",
    )


def test_out_of_stock_is_an_answer_and_never_stops() -> None:
    shop = Shop()
    rows = ordered("o-1,RED-CHAIR,11", "o-2,RED-CHAIR,10", "o-3,RED-CHAIR,1", shape=REFUSING)
    counts, stopped = shop.take_in(stock("B-1,RED-CHAIR,10,"), rows)
    assert stopped is None
    assert counts[1] == {Outcome.OUT_OF_STOCK: 2, Outcome.ALLOCATED: 1}
    assert [x.number for x in shop.told] == [2, 4]


def test_groups_are_as_large_as_asked_and_share_one_correlation() -> None:
    shop = Shop()
    shop.take_in(stock("B-1,RED-CHAIR,10,"), ordered(*(f"o-{n},RED-CHAIR,1" for n in range(5))), group=2)
    assert [len(group) for group in shop.sent] == [1, 2, 2, 1]
    envelopes = [envelope for group in shop.sent for envelope in group]
    assert len({e.correlation_id for e in envelopes}) == 1
    assert len({e.id for e in envelopes}) == 6
    assert {(e.source, e.client, e.brought_id) for e in envelopes} == {("import", "anna", False)}
    assert all(len({e.time for e in group}) == 1 for group in shop.sent)


def test_when_the_store_goes_away_it_stops_and_says_why() -> None:
    shop = Shop()
    groups_left = 1

    def send(envelopes: Sequence[CommandEnvelope]) -> list[Answer]:
        nonlocal groups_left
        if not groups_left:
            raise Unavailable("the database is away")
        groups_left -= 1
        return shop.send(envelopes)

    counts, stopped = shop.take_in(stock("B-1,A,1,", "B-2,A,1,"), group=1, send=send)
    assert counts == [{Outcome.TAKEN_IN: 1}]
    assert stopped == Stopped("the database is away")


def test_when_the_store_goes_away_within_a_group_no_row_is_called_refused() -> None:
    shop = Shop(stop=False)

    def send(envelopes: Sequence[CommandEnvelope]) -> list[Answer]:
        return [Answer(error=Unavailable("the database is away")) for _ in envelopes]

    counts, stopped = shop.take_in(stock("B-1,A,1,"), send=send)
    assert stopped == Stopped("the database is away")
    assert (counts, shop.told) == ([{}], [])


def test_each_group_stops_at_its_own_first_refusal_whatever_happens_in_other_threads() -> None:
    def refuse(command: Command, uow: object) -> None:
        raise BatchExists("B-1")

    stop = StopAtFirstRefusal()
    handlers = stop.wrap({CreateBatch: refuse, Allocate: lambda command, uow: "taken in"})
    bad, good, first = CreateBatch("B-1", "A", 1), Allocate("o-1", "A", 1), Allocate("o-0", "A", 1)
    begin = stop.each(lambda envelopes: [])
    group = [CommandEnvelope(command, "id", datetime(2031, 1, 1, tzinfo=UTC), "id") for command in (first, bad, good)]
    with ThreadPoolExecutor(1) as other:
        for call in (lambda f, *args: f(*args), lambda f, *args: other.submit(f, *args).result()):
            call(begin, group)
            assert call(handlers[Allocate], good, None) == "taken in"
            with pytest.raises(BatchExists):
                call(handlers[CreateBatch], bad, None)
        for call in (lambda f, *args: f(*args), lambda f, *args: other.submit(f, *args).result()):
            with pytest.raises(RowNotReached):
                call(handlers[Allocate], good, None)
            call(begin, group)
            assert call(handlers[Allocate], good, None) == "taken in", "the next group begins afresh"


@pytest.mark.parametrize("again", ["first", "bad"])
def test_a_group_that_is_tried_again_begins_afresh_and_so_does_the_row_it_stopped_at(again: str) -> None:
    refusals = [BatchExists("B-1")]

    def refuse_once(command: Command, uow: object) -> str:
        if refusals:
            raise refusals.pop()
        return "taken in"

    stop = StopAtFirstRefusal()
    handlers = stop.wrap({CreateBatch: refuse_once, Allocate: lambda command, uow: "taken in"})
    rows = {"first": Allocate("o-0", "A", 1), "bad": CreateBatch("B-1", "A", 1), "good": Allocate("o-1", "A", 1)}
    group = [CommandEnvelope(command, "id", datetime(2031, 1, 1, tzinfo=UTC), "id") for command in rows.values()]
    stop.each(lambda envelopes: [])(group)
    with pytest.raises(BatchExists):
        handlers[CreateBatch](rows["bad"], None)
    with pytest.raises(RowNotReached):
        handlers[Allocate](rows["good"], None)
    assert handlers[type(rows[again])](rows[again], None) == "taken in"
    assert handlers[Allocate](rows["good"], None) == "taken in"


def test_a_row_that_fails_stops_the_import_too_and_those_of_its_product_behind_it_stay_out() -> None:
    def fail_once(command: Allocate, uow: UnitOfWork) -> Any:
        if command.orderid == "o-5":
            raise RuntimeError("out of order")
        return COMMAND_HANDLERS[Allocate](command, uow)

    shop = Shop(handlers={**COMMAND_HANDLERS, Allocate: fail_once})
    shop.take_in(stock("B-1,CHAIR,3,"))
    lines = [f"o-{n},CHAIR,1" for n in (1, 5, 3, 4, 6)]
    counts, stopped = shop.take_in(ordered(*lines))
    assert stopped is not None
    assert stopped.reason == "orders.csv, line 3: it could not be handled (RuntimeError: out of order)"
    assert counts == [{Outcome.ALLOCATED: 1, Outcome.REFUSED: 1}]
    assert shop.lines("o-1", "o-5", "o-3", "o-4", "o-6") == ["o-1"]


def test_with_several_transactions_at_once_it_stops_at_the_first_wrong_row_of_the_file() -> None:
    shop = Shop()
    shop.take_in(stock("B-1,CHAIR,1000,", "B-2,TABLE,1000,"))
    lines = [f"o-{n},{('CHAIR', 'TABLE')[n % 2]},1" for n in range(200)]
    wrong = dict(enumerate(lines)) | {100: "o-2,CHAIR,9", 61: "o-1,TABLE,9", 150: "o-150,CHAIR,x"}
    send = ForkJoin(shop.send, 2, 1000)
    counts, stopped = shop.take_in(ordered(*wrong.values()), send=send)
    assert [len(group) for group in shop.sent[-2:]] == [75, 75], "up to the unreadable one, by products"
    assert stopped is not None
    assert stopped.reason == "orders.csv, line 63: Order o-1 already has a line for TABLE, with quantity 1"
    assert [row.number for row in shop.told] == [63, 102], "every wrong row that was found, in order"
    assert counts == [{Outcome.ALLOCATED: 30 + 50, Outcome.REFUSED: 2}]
    there = shop.lines(*(f"o-{n}" for n in range(200)))
    assert there == [f"o-{n}" for n in range(200) if n < 61 or (n < 100 and n % 2 == 0)]
    counts, stopped = shop.take_in(ordered(*lines), send=send)
    assert (counts, stopped) == ([{Outcome.THERE_ALREADY: 80, Outcome.ALLOCATED: 120}], None)


def test_the_position_is_that_of_the_last_event_whichever_transaction_it_came_from() -> None:
    shop = Shop()
    shop.take_in(stock("B-1,CHAIR,1000,", "B-2,TABLE,1000,"))
    chairs_are_in = Event()

    def send(envelopes: Sequence[CommandEnvelope]) -> list[Answer]:
        if envelopes[0].command.sku == "TABLE":  # type: ignore[union-attr]  # these have one
            assert chairs_are_in.wait(30)
        answers = shop.send(envelopes)
        chairs_are_in.set()
        return answers

    at_once = ForkJoin(send, 2, 1000)
    shop.take_in(ordered(*(f"o-{n},{('CHAIR', 'TABLE')[n % 2]},1" for n in range(101))), send=at_once)
    assert shop.position == LogPosition(0, 103)


def test_ctrl_c_ends_a_run_with_its_count() -> None:
    shop = Shop()

    def send(envelopes: Sequence[CommandEnvelope]) -> list[Answer]:
        raise KeyboardInterrupt

    assert shop.take_in(stock("B-1,A,1,"), send=send) == ([{}], Stopped("interrupted"))


# --- a dry run ------------------------------------------------------------------------------------------------------


def test_a_dry_run_decides_as_the_real_run_would_and_stores_nothing() -> None:
    shop = Shop(stop=False)
    shop.take_in(
        stock("B-1,RED-CHAIR,10,", "B-9,OAK-SHELF,1,"), ordered("o-1,RED-CHAIR,4", "o-2,RED-CHAIR,9", "o-8,OAK-SHELF,1")
    )
    before = shop.app.views.events((), 1000).events

    def files() -> tuple[Rows, Rows]:
        return (
            stock("B-1,RED-CHAIR,10,", "B-2,RED-CHAIR,9,2030-05-01", "B-9,TALL-MIRROR,1,", "B-4,TALL-MIRROR,2,"),
            ordered(
                "o-1,RED-CHAIR,4",
                "o-1,RED-CHAIR,5",
                "o-3,RED-CHAIR,6",
                "o-4,RED-CHAIR,1",
                "o-5,TALL-MIRROR,2",
                "o-6,X,1",
            ),
        )

    foreseen = shop.take_in(*files(), group=2, send=shop.dry_run().handle_many)
    told = list(shop.told)
    assert shop.app.views.events((), 1000).events == before
    assert shop.take_in(*files()) == foreseen
    assert shop.told == told
    assert (
        foreseen[0]
        == [
            {Outcome.THERE_ALREADY: 1, Outcome.TAKEN_IN: 2, Outcome.REFUSED: 1},
            {Outcome.THERE_ALREADY: 1, Outcome.REFUSED: 2, Outcome.ALLOCATED: 2, Outcome.WAITING: 1},
        ]
        or foreseen[0][1][Outcome.REFUSED] == 2
    )


def test_a_dry_run_reads_a_long_history_page_by_page() -> None:
    shop = Shop()
    shop.take_in(stock("B-1,RED-CHAIR,1500,"), ordered(*(f"o-{n},RED-CHAIR,1" for n in range(1500))))
    counts, _ = shop.take_in(ordered("o-7,RED-CHAIR,1", "o-9999,RED-CHAIR,1"), send=shop.dry_run().handle_many)
    assert counts == [{Outcome.THERE_ALREADY: 1, Outcome.WAITING: 1}]
