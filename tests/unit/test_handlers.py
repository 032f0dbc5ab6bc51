"""Handlers through the bus, in the manner of the book: no mocks, the ports in plain memory."""

from datetime import date, timedelta

import pytest

from allocation import views
from allocation.bootstrap import Application, bootstrap
from allocation.config import Settings
from allocation.domain.commands import (
    Allocate,
    ChangeBatch,
    ChangeBatchEta,
    ChangeBatchQuantity,
    Command,
    CreateBatch,
    Deallocate,
    IfShort,
)
from allocation.domain.errors import (
    BatchExists,
    InvalidQuantity,
    InvalidReference,
    InvalidSku,
    NotEnoughStock,
    OrderLineExists,
    StaleVersion,
    UnknownBatch,
    UnknownOrderLine,
)
from allocation.service_layer.answers import BatchState, Promise

TODAY = date(2031, 3, 1)
TOMORROW = TODAY + timedelta(days=1)


@pytest.fixture
def app() -> Application:
    return bootstrap(Settings(database_url="memory:"))


def available(app: Application, ref: str) -> int:
    batch = app.views.batch(ref)
    assert batch is not None
    return batch.available


def types_of_events(app: Application) -> list[str]:
    return [type(e.event).__name__ for e in app.views.events([], 1000).events]


# Adding batches


def test_a_batch_of_a_new_product(app: Application) -> None:
    app.bus.handle(CreateBatch("b1", "CRUNCHY-ARMCHAIR", 100))
    product = app.views.product("CRUNCHY-ARMCHAIR")
    assert product is not None
    assert [batch.ref for batch in product.batches] == ["b1"]


def test_a_batch_of_a_product_that_is_there(app: Application) -> None:
    app.bus.handle(CreateBatch("b1", "GARISH-RUG", 100))
    assert app.bus.handle(CreateBatch("b2", "GARISH-RUG", 99, TOMORROW)) == BatchState(
        "b2", "GARISH-RUG", 99, 99, TOMORROW, version=2
    )
    product = app.views.product("GARISH-RUG")
    assert product is not None
    assert [batch.ref for batch in product.batches] == ["b1", "b2"]


def test_the_same_batch_again_is_answered_as_it_is_now(app: Application) -> None:
    app.bus.handle(CreateBatch("b1", "GARISH-RUG", 100))
    app.bus.handle(Allocate("o1", "GARISH-RUG", 10))
    assert app.bus.handle(CreateBatch("b1", "GARISH-RUG", 100)).available == 90


@pytest.mark.parametrize(
    "other", [CreateBatch("b1", "GARISH-RUG", 101), CreateBatch("b1", "PLAIN-RUG", 100), CreateBatch("b1", "A", -1)]
)
def test_a_reference_stands_for_one_batch(app: Application, other: CreateBatch) -> None:
    app.bus.handle(CreateBatch("b1", "GARISH-RUG", 100))
    with pytest.raises(BatchExists):
        app.bus.handle(other)
    assert app.views.product("PLAIN-RUG") is None


def test_a_refused_batch_makes_no_product_even_for_others_of_its_group(app: Application) -> None:
    commands: list[Command] = [CreateBatch("b1", "GARISH-RUG", 0), Allocate("o1", "GARISH-RUG", 1)]
    first, second = app.bus.handle_many([app.bus.envelope(command) for command in commands])
    assert isinstance(first.error, InvalidQuantity)
    assert second.error == InvalidSku("GARISH-RUG")


# Allocating


def test_allocating(app: Application) -> None:
    app.bus.handle(CreateBatch("batch1", "COMPLICATED-LAMP", 100))
    assert app.bus.handle(Allocate("o1", "COMPLICATED-LAMP", 10)) == Promise(
        "o1", "COMPLICATED-LAMP", 10, "allocated", "batch1", None
    )
    assert available(app, "batch1") == 90


def test_allocating_an_unknown_sku_is_refused(app: Application) -> None:
    app.bus.handle(CreateBatch("b1", "AREALSKU", 100))
    with pytest.raises(InvalidSku, match="Invalid sku NONEXISTENTSKU"):
        app.bus.handle(Allocate("o1", "NONEXISTENTSKU", 10))


def test_a_promise_tells_when_the_shipment_arrives(app: Application) -> None:
    app.bus.handle(CreateBatch("b1", "OMINOUS-MIRROR", 100, TOMORROW))
    assert app.bus.handle(Allocate("o1", "OMINOUS-MIRROR", 10)).eta == TOMORROW


def test_what_does_not_fit_waits_unless_it_must_not(app: Application) -> None:
    app.bus.handle(CreateBatch("b1", "POPULAR-CURTAINS", 9))
    with pytest.raises(NotEnoughStock):
        app.bus.handle(Allocate("o1", "POPULAR-CURTAINS", 10, IfShort.REFUSE))
    assert app.bus.handle(Allocate("o1", "POPULAR-CURTAINS", 10)) == Promise(
        "o1", "POPULAR-CURTAINS", 10, "waiting", None, None
    )
    assert types_of_events(app) == ["BatchCreated", "Backordered", "OutOfStock"]


def test_an_order_line_has_one_quantity(app: Application) -> None:
    app.bus.handle(CreateBatch("b1", "POPULAR-CURTAINS", 9))
    app.bus.handle(Allocate("o1", "POPULAR-CURTAINS", 3))
    with pytest.raises(OrderLineExists):
        app.bus.handle(Allocate("o1", "POPULAR-CURTAINS", 4))


def test_the_books_view_tells_where_an_order_was_allocated(app: Application) -> None:
    app.bus.handle(CreateBatch("sku1batch", "sku1", 50))
    app.bus.handle(CreateBatch("sku2batch", "sku2", 50, TODAY))
    app.bus.handle(Allocate("order1", "sku1", 20))
    app.bus.handle(Allocate("order1", "sku2", 20))
    app.bus.handle(CreateBatch("sku1batch-later", "sku1", 50, TODAY))
    app.bus.handle(Allocate("otherorder", "sku1", 30))
    assert views.allocations("order1", app.views) == [
        {"sku": "sku1", "batchref": "sku1batch"},
        {"sku": "sku2", "batchref": "sku2batch"},
    ]


def test_the_books_view_leaves_waiting_lines_out(app: Application) -> None:
    app.bus.handle(CreateBatch("b1", "sku1", 5))
    app.bus.handle(Allocate("order1", "sku1", 20))
    assert views.allocations("order1", app.views) == []
    assert [line.status for line in app.views.order("order1")] == ["waiting"]


# Letting go


def test_deallocating_gives_the_quantity_back(app: Application) -> None:
    app.bus.handle(CreateBatch("b1", "RED-CHAIR", 10))
    app.bus.handle(Allocate("o1", "RED-CHAIR", 10))
    assert app.bus.handle(Deallocate("o1", "RED-CHAIR")) is None
    assert available(app, "b1") == 10
    assert app.views.line("o1", "RED-CHAIR") is None


@pytest.mark.parametrize("sku", ["RED-CHAIR", "BLUE-CHAIR"])
def test_deallocating_what_is_not_there_is_refused(app: Application, sku: str) -> None:
    app.bus.handle(CreateBatch("b1", "RED-CHAIR", 10))
    with pytest.raises(UnknownOrderLine):
        app.bus.handle(Deallocate("o1", sku))


# Changing batches


def test_another_quantity_changes_what_is_available(app: Application) -> None:
    app.bus.handle(CreateBatch("batch1", "ADORABLE-SETTEE", 100))
    app.bus.handle(ChangeBatchQuantity("batch1", 50))
    assert available(app, "batch1") == 50


def test_another_quantity_moves_lines_if_it_must(app: Application) -> None:
    app.bus.handle(CreateBatch("batch1", "INDIFFERENT-TABLE", 50))
    app.bus.handle(CreateBatch("batch2", "INDIFFERENT-TABLE", 50, TODAY))
    app.bus.handle(Allocate("order1", "INDIFFERENT-TABLE", 20))
    app.bus.handle(Allocate("order2", "INDIFFERENT-TABLE", 20))
    assert (available(app, "batch1"), available(app, "batch2")) == (10, 50)

    app.bus.handle(ChangeBatchQuantity("batch1", 25))

    assert (available(app, "batch1"), available(app, "batch2")) == (5, 30)
    assert app.views.line("order2", "INDIFFERENT-TABLE") == Promise(
        "order2", "INDIFFERENT-TABLE", 20, "allocated", "batch2", TODAY
    )


def test_another_eta_moves_the_promised_date(app: Application) -> None:
    app.bus.handle(CreateBatch("b1", "RED-CHAIR", 10, TODAY))
    app.bus.handle(Allocate("o1", "RED-CHAIR", 10))
    assert app.bus.handle(ChangeBatchEta("b1", TOMORROW)).eta == TOMORROW
    line = app.views.line("o1", "RED-CHAIR")
    assert line is not None
    assert line.eta == TOMORROW


def test_quantity_and_eta_change_in_one_go(app: Application) -> None:
    app.bus.handle(CreateBatch("b1", "RED-CHAIR", 10, TODAY))
    assert app.bus.handle(ChangeBatch("b1", 7, None)) == BatchState("b1", "RED-CHAIR", 7, 7, None, version=3)
    assert app.bus.handle(ChangeBatch("b1", 7, None)).version == 3


CHANGES = [ChangeBatchQuantity, ChangeBatchEta, ChangeBatch]
ARGUMENTS: dict[type, tuple[object, ...]] = {
    ChangeBatchQuantity: (5,),
    ChangeBatchEta: (TOMORROW,),
    ChangeBatch: (5, TOMORROW),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_batch_that_is_not_there_cannot_be_changed(app: Application, change: type) -> None:
    with pytest.raises(UnknownBatch):
        app.bus.handle(change("b1", *ARGUMENTS[change]))


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_may_ask_for_the_version_that_was_seen(app: Application, change: type) -> None:
    app.bus.handle(CreateBatch("b1", "RED-CHAIR", 10))
    with pytest.raises(StaleVersion):
        app.bus.handle(change("b1", *ARGUMENTS[change], if_version=0))
    assert app.bus.handle(change("b1", *ARGUMENTS[change], if_version=1)).version >= 2


# Ids


@pytest.mark.parametrize("bad", ["", "a b", "a/b", "\x00", "\x1f", "\x1e", "é", "\ud800", "x" * 256], ids=ascii)
@pytest.mark.parametrize(
    "make",
    [
        lambda bad: CreateBatch(bad, "RED-CHAIR", 1),
        lambda bad: CreateBatch("b1", bad, 1),
        lambda bad: Allocate(bad, "RED-CHAIR", 1),
        lambda bad: Allocate("o1", bad, 1),
        lambda bad: Deallocate(bad, "RED-CHAIR"),
        lambda bad: Deallocate("o1", bad),
        lambda bad: ChangeBatchQuantity(bad, 1),
        lambda bad: ChangeBatchEta(bad, None),
        lambda bad: ChangeBatch(bad, 1, None),
    ],
)
def test_every_command_refuses_what_is_no_id(app: Application, make: type, bad: str) -> None:
    with pytest.raises(InvalidReference):
        app.bus.handle(make(bad))
