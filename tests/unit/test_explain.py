"""Why a line is where it is: every decision again, on the product as it was."""

from collections.abc import Callable, Mapping
from datetime import date
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from allocation.bootstrap import Application, bootstrap
from allocation.config import Settings
from allocation.domain.commands import Allocate, ChangeBatchQuantity, Command, CreateBatch, Deallocate
from allocation.domain.events import Allocated, BatchCreated, Deallocated
from allocation.domain.model import OrderLine, Product
from allocation.service_layer.answers import BatchState, Promise, promise_of, state_of
from allocation.service_layer.handlers import COMMAND_HANDLERS
from allocation.service_layer.history.explain import Decision, Verdict, explain
from allocation.service_layer.unit_of_work import UnitOfWork
from tests.thoroughness import examples
from tests.unit.test_what_if import commands, promises

CHAIR = "RED-CHAIR"
SOON, LATER = date(2031, 5, 1), date(2031, 6, 1)


def shop(handlers: Mapping[type, Callable[..., Any]] = COMMAND_HANDLERS) -> Application:
    return bootstrap(Settings(database_url="memory:"), handlers=handlers)


def told(application: Application, orderid: str) -> list[Decision]:
    return explain(application.history, orderid, CHAIR, 0, 99)


def verdicts(decision: Decision) -> list[tuple[str, int, str]]:
    return [(b.ref, b.available, b.verdict) for b in decision.batches]


def test_batches_are_told_in_order_of_preference_as_they_stood_then() -> None:
    app = shop()
    for command in (
        CreateBatch("late", CHAIR, 50, LATER),
        CreateBatch("soon", CHAIR, 20, SOON),
        CreateBatch("here", CHAIR, 10),
        Allocate("o1", CHAIR, 8),
        Allocate("o2", CHAIR, 5),
        Allocate("o3", CHAIR, 1),
    ):
        app.bus.handle(command)
    [first], [second] = told(app, "o1"), told(app, "o2")
    nothing = Verdict.NOT_NEEDED
    assert verdicts(first) == [("here", 10, Verdict.TAKEN), ("soon", 20, nothing), ("late", 50, nothing)]
    assert verdicts(second) == [("here", 2, Verdict.TOO_LITTLE), ("soon", 20, Verdict.TAKEN), ("late", 50, nothing)]
    assert (second.batchref, second.batchref_today, second.by_todays_rules, second.qty) == ("soon", "soon", True, 5)
    assert second.command is not None
    assert second.command.envelope.command == Allocate("o2", CHAIR, 5)
    assert told(app, "o9") == []
    assert explain(app.history, "o1", "NO-SUCH-SKU", 0, 99) == []


def test_every_decision_of_a_line_is_told_with_what_led_to_it() -> None:
    app = shop()
    for command in (
        CreateBatch("b1", CHAIR, 10),
        Allocate("o1", CHAIR, 6),
        Allocate("o2", CHAIR, 4),
        ChangeBatchQuantity("b1", 6),  # o2, the newer, gives way and waits
        CreateBatch("b2", CHAIR, 3),
        Deallocate("o1", CHAIR),  # o2 comes back
    ):
        app.bus.handle(command)
    decisions = told(app, "o2")
    assert [(d.batchref, type(d.command and d.command.envelope.command).__name__) for d in decisions] == [
        ("b1", "Allocate"),
        (None, "ChangeBatchQuantity"),
        ("b1", "Deallocate"),
    ]
    assert all(d.by_todays_rules for d in decisions)
    assert verdicts(decisions[1]) == [("b1", 0, Verdict.TOO_LITTLE)]
    assert verdicts(decisions[2]) == [("b1", 6, Verdict.TAKEN), ("b2", 3, Verdict.NOT_NEEDED)]


def test_lines_that_give_way_are_told_where_each_went() -> None:
    """The newest give way; of these, the oldest is served first. Who cancels, or moves, was not left to wait."""
    app = shop()
    for command in (
        CreateBatch("b1", CHAIR, 20),
        CreateBatch("b2", CHAIR, 5, SOON),
        *(Allocate(f"o{n}", CHAIR, 4) for n in (1, 2, 3, 4)),
        ChangeBatchQuantity("b1", 4),  # o2 moves, o3 and o4 wait
        Deallocate("o2", CHAIR),  # o3 takes its place
        Deallocate("o1", CHAIR),  # o4 comes back
    ):
        app.bus.handle(command)
    assert {n: [d.batchref for d in told(app, f"o{n}")] for n in (1, 2, 3, 4)} == {
        1: ["b1"],
        2: ["b1", "b2"],
        3: ["b1", None, "b2"],
        4: ["b1", None, "b1"],
    }
    waits = told(app, "o4")[1]
    assert verdicts(waits) == [("b1", 0, Verdict.TOO_LITTLE), ("b2", 1, Verdict.TOO_LITTLE)]
    assert (type(waits.logged.event), waits.by_todays_rules) == (Deallocated, True)
    assert [d.batchref for d in explain(app.history, "o4", CHAIR, waits.logged.version, 9)] == ["b1"]
    assert explain(app.history, "o4", CHAIR, 0, 2) == told(app, "o4")[:2]


@given(st.lists(commands, max_size=40))
@examples(100)
def test_the_last_decision_is_where_the_line_stands(past: list[Command]) -> None:
    app = shop()
    app.bus.handle_many([app.bus.envelope(command) for command in past])
    for (orderid, sku), line in promises(app).items():
        decisions = explain(app.history, orderid, sku, 0, 99)
        assert (decisions[-1].batchref, decisions[-1].qty) == (line.batchref, line.qty)
        assert all(decision.by_todays_rules for decision in decisions)


def test_decisions_are_told_page_by_page() -> None:
    app = shop()
    app.bus.handle(CreateBatch("b1", CHAIR, 10))
    for _ in range(5):
        app.bus.handle(Allocate("o1", CHAIR, 6))
        app.bus.handle(Deallocate("o1", CHAIR))
    every = told(app, "o1")
    assert len(every) == 5
    first = explain(app.history, "o1", CHAIR, 0, 2)
    assert first == every[:2]
    assert explain(app.history, "o1", CHAIR, first[-1].logged.version, 9) == every[2:]


def of_the_last_batch(command: Allocate, uow: UnitOfWork) -> Promise:
    """An earlier rule: the batch that is preferred least."""
    product = _product(uow)
    line = OrderLine(command.orderid, CHAIR, command.qty)
    last = [batch for batch in product.batches if batch.can_allocate(line)][-1]
    product._record(Allocated(command.orderid, CHAIR, command.qty, last.reference))
    return promise_of(product, command.orderid)


def newest_first(command: CreateBatch, uow: UnitOfWork) -> BatchState:
    """An earlier rule: who came last is served first."""
    product = uow.products.get(CHAIR)
    if product is None:
        product = Product(CHAIR)
        uow.products.add(product)
    product._record(BatchCreated(command.ref, CHAIR, command.qty, command.eta))
    waiting = sorted((x for x in product.lines.values() if x.batchref is None), key=lambda x: -x.since)
    for line in waiting:
        if product.can_allocate(line):
            product._record(Allocated(line.orderid, CHAIR, line.qty, command.ref))
    return state_of(product, product.batches[0])


def _product(uow: UnitOfWork) -> Product:
    product = uow.products.get(CHAIR)
    assert product is not None
    return product


def test_a_batch_that_earlier_rules_chose_is_told_as_such() -> None:
    app = shop({**COMMAND_HANDLERS, Allocate: of_the_last_batch})
    for command in (CreateBatch("here", CHAIR, 10), CreateBatch("late", CHAIR, 10, LATER), Allocate("o1", CHAIR, 3)):
        app.bus.handle(command)
    [decision] = told(app, "o1")
    assert (decision.batchref, decision.batchref_today, decision.by_todays_rules) == ("late", "here", False)
    assert verdicts(decision) == [("here", 10, Verdict.TAKEN), ("late", 10, Verdict.NOT_NEEDED)]


def test_a_turn_that_earlier_rules_gave_is_told_as_such() -> None:
    app = shop({**COMMAND_HANDLERS, CreateBatch: newest_first})
    for command in (
        CreateBatch("b1", CHAIR, 1),
        Allocate("old", CHAIR, 5),
        Allocate("new", CHAIR, 4),
        CreateBatch("b2", CHAIR, 5),
    ):
        app.bus.handle(command)
    waited, served = told(app, "new")
    assert waited.by_todays_rules
    assert (served.batchref, served.batchref_today, served.ahead, served.by_todays_rules) == ("b2", "b2", "old", False)
    assert all(decision.by_todays_rules for decision in told(app, "old"))


def test_a_line_that_waits_though_a_batch_had_room_was_decided_under_earlier_rules() -> None:
    def never(command: Allocate, uow: UnitOfWork) -> Promise:
        from allocation.domain.events import Backordered

        product = _product(uow)
        product._record(Backordered(command.orderid, CHAIR, command.qty))
        return promise_of(product, command.orderid)

    app = shop({**COMMAND_HANDLERS, Allocate: never})
    app.bus.handle(CreateBatch("b1", CHAIR, 9))
    app.bus.handle(Allocate("o1", CHAIR, 1))
    [decision] = told(app, "o1")
    assert (decision.batchref, decision.batchref_today, decision.by_todays_rules) == (None, "b1", False)
