"""What would follow is what does follow, once the commands are really given."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
from allocation.domain.errors import NotEnoughStock
from allocation.service_layer.answers import Promise
from allocation.service_layer.handlers import COMMAND_HANDLERS
from allocation.service_layer.history.what_if import Difference, products_named
from tests.thoroughness import examples

ORDERS, SKUS = ["o1", "o2", "o3", "o4"], ["CHAIR", "TABLE"]
REFS = ["CHAIR-1", "CHAIR-2", "TABLE-1"]
LATE = date(2031, 6, 1)

orders, skus, refs = st.sampled_from(ORDERS), st.sampled_from(SKUS), st.sampled_from(REFS)
quantities, etas = st.integers(1, 9), st.sampled_from([None, date(2031, 5, 1), LATE])
commands = st.one_of(
    st.builds(lambda ref, qty, eta: CreateBatch(ref, ref.partition("-")[0], qty, eta), refs, quantities, etas),
    st.builds(Allocate, orders, skus, quantities, st.sampled_from(IfShort)),
    st.builds(Deallocate, orders, skus),
    st.builds(ChangeBatchQuantity, refs, st.integers(0, 9)),
    st.builds(ChangeBatchEta, refs, etas),
    st.builds(ChangeBatch, refs, st.integers(0, 9), etas),
)


@pytest.fixture
def shop() -> Application:
    return bootstrap(Settings(database_url="memory:"))


def imagine(shop: Application, wanted: list[Command]) -> Difference:
    return shop.what_if.of(products_named(shop.history, wanted, shop.history.cut(None)), wanted)


def promises(shop: Application) -> dict[tuple[str, str], Promise]:
    return {(line.orderid, line.sku): line for orderid in ORDERS for line in shop.views.order(orderid)}


@given(st.lists(commands, max_size=25), st.lists(commands, min_size=1, max_size=6))
@examples(150)
def test_what_would_be_different_is_what_is_different_then(past: list[Command], wanted: list[Command]) -> None:
    shop = bootstrap(Settings(database_url="memory:"))
    for command in past:
        shop.bus.ask(shop.bus.envelope(command))
    before, length = promises(shop), shop.history.now()
    told = imagine(shop, wanted)
    assert (promises(shop), shop.history.now()) == (before, length)
    answers = [shop.bus.ask(shop.bus.envelope(command)) for command in wanted]
    assert [command for command, _ in told.answers] == wanted
    assert [(a.error, a.changed) for _, a in told.answers] == [(a.error, a.changed) for a in answers]
    after = promises(shop)
    assert {(c.orderid, c.sku): (c.before, c.after) for c in told.changes} == {
        line: (before.get(line), after.get(line)) for line in before | after if before.get(line) != after.get(line)
    }


def test_each_kind_of_change_has_its_word(shop: Application) -> None:
    for command in (
        CreateBatch("CHAIR-1", "CHAIR", 10),
        CreateBatch("CHAIR-2", "CHAIR", 7, date(2031, 5, 1)),
        *(Allocate(f"o{n}", "CHAIR", 3) for n in (1, 2, 3)),
        *(Allocate(f"x{n}", "CHAIR", 3) for n in (1, 2)),
        Allocate("waits", "CHAIR", 6),
    ):
        shop.bus.handle(command)

    def kinds(*wanted: Command) -> dict[str, str]:
        return {changed.orderid: changed.kind for changed in imagine(shop, list(wanted)).changes}

    assert kinds(ChangeBatchEta("CHAIR-2", LATE)) == {"x1": "another day", "x2": "another day"}
    assert kinds(ChangeBatchQuantity("CHAIR-1", 8)) == {"o3": "starts to wait"}
    assert kinds(ChangeBatchQuantity("CHAIR-2", 20)) == {"waits": "stops waiting"}
    assert kinds(Deallocate("o1", "CHAIR")) == {"o1": "cancelled"}
    assert kinds(Deallocate("o1", "CHAIR"), Allocate("o1", "CHAIR", 2)) == {"o1": "another quantity"}
    assert kinds(Deallocate("waits", "CHAIR"), Allocate("waits", "CHAIR", 5)) == {"waits": "another quantity"}
    assert kinds(Allocate("new", "CHAIR", 1)) == {"new": "promised"}
    assert kinds(Allocate("new", "CHAIR", 500)) == {"new": "new, and waits"}
    assert kinds(CreateBatch("CHAIR-3", "CHAIR", 3), ChangeBatchQuantity("CHAIR-1", 6)) == {"o3": "moves"}


def test_a_refusal_is_told_and_the_others_go_on(shop: Application) -> None:
    shop.bus.handle(CreateBatch("CHAIR-1", "CHAIR", 5))
    wanted: list[Command] = [Allocate("o1", "CHAIR", 9, IfShort.REFUSE), Allocate("o2", "CHAIR", 5)]
    told = imagine(shop, wanted)
    assert [type(answer.error) for _, answer in told.answers] == [NotEnoughStock, type(None)]
    assert [(changed.orderid, changed.kind) for changed in told.changes] == [("o2", "promised")]


def test_it_asks_the_handlers_that_the_application_was_given() -> None:
    def closed(cmd: Allocate, uow: object) -> None:
        raise NotEnoughStock(cmd.sku, cmd.qty)

    shop = bootstrap(Settings(database_url="memory:"), handlers={**COMMAND_HANDLERS, Allocate: closed})
    shop.bus.handle(CreateBatch("CHAIR-1", "CHAIR", 9))
    command = Allocate("o1", "CHAIR", 1)
    products = products_named(shop.history, [command], shop.history.cut(None))
    [(_, answer)] = shop.what_if.of(products, [command]).answers
    assert isinstance(answer.error, NotEnoughStock)
