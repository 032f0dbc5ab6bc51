"""The contract that carries the others: however little of a product is loaded, it decides as the whole one would.

The oracle holds every product whole, in plain dicts, and runs the same handlers on them. What it recorded is what the
store's log must hold; what folding that gives is what the store's views must show.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import date
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
from allocation.domain.errors import Refused
from allocation.domain.events import BatchCreated, Event
from allocation.domain.model import Product
from allocation.service_layer.answers import Result, promise_of, state_of
from allocation.service_layer.handlers import COMMAND_HANDLERS
from allocation.service_layer.unit_of_work import Repository
from tests.contracts.harness import Opened, SharedStore, Store
from tests.thoroughness import examples

_examples = count(1)
ETAS = [None, None, date(2031, 3, 1), date(2031, 3, 2), date(2031, 4, 1)]
REFS = ["b", "B", "_", "a-1", "a", "~", "10", "9"]


class WholeProducts(Repository):
    """Products folded from a log, whole and in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, Product] = {}
        self.skus: dict[str, str] = {}

    def fold(self, event: Event) -> None:
        self.found.setdefault(event.sku, Product(event.sku)).apply(event)
        if isinstance(event, BatchCreated):
            self.skus[event.ref] = event.sku

    def _get(self, sku: str) -> Product | None:
        return self.found.get(sku)

    def sku_of(self, batchref: str) -> str | None:
        return self.skus.get(batchref)

    def _add(self, product: Product) -> None:
        self.found[product.sku] = product


class Oracle:
    """Decides on whole products, and keeps what they recorded."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.products = WholeProducts()

    def decide(self, command: Command) -> tuple[Result, Refused | None]:
        class UnitOfWork:
            products = self.products

        try:
            result = COMMAND_HANDLERS[type(command)](command, UnitOfWork)
        except Refused as refusal:
            assert self.products.collect_new_events() == []
            return None, refusal
        new = self.products.collect_new_events()
        self.events += [event for event, _ in new]
        if isinstance(command, CreateBatch) and new:
            self.products.skus[command.ref] = command.sku
        return result, None

    def folded(self) -> WholeProducts:
        products = WholeProducts()
        for event in self.events:
            products.fold(event)
        return products


def expect_equal_decisions(opened: Opened, groups: Sequence[Sequence[Command]]) -> Oracle:
    """Hand the groups to the store and to the oracle: every answer and every event are to be the same."""
    oracle = Oracle()
    cursor = opened.views.events([], 1_000_000).next
    for group in groups:
        expected = [oracle.decide(command) for command in group]
        answers = opened.group(*group)
        assert [(answer.result, answer.error) for answer in answers] == expected
    logged = [e.event for e in opened.views.events(cursor, 1_000_000).events]
    assert logged == oracle.events
    return oracle


def expect_views_of(opened: Opened, products: WholeProducts) -> None:
    """Every question the views answer, answered from the folded products instead."""
    for sku, product in products.found.items():
        view = opened.views.product(sku, waiting_limit=3)
        assert view is not None
        waiting = sorted((x for x in product.lines.values() if x.batchref is None), key=lambda x: x.since)
        assert (view.sku, view.version) == (sku, product.version_number)
        assert view.batches == [state_of(product, batch) for batch in product.batches]
        assert view.available == product.availability()
        assert view.waiting == [promise_of(product, x.orderid) for x in waiting[:3]]
        assert (view.waiting_lines, view.waiting_qty) == (len(waiting), sum(x.qty for x in waiting))
        assert [opened.views.batch(b.reference) for b in product.batches] == view.batches
        for line in product.lines.values():
            assert opened.views.line(line.orderid, sku) == promise_of(product, line.orderid)
    orderids = {orderid for product in products.found.values() for orderid in product.lines}
    for orderid in orderids:
        lines = [promise_of(p, orderid) for _, p in sorted(products.found.items()) if orderid in p.lines]
        assert opened.views.order(orderid) == lines


@st.composite
def commands(draw: st.DrawFn, name: str) -> Command:
    """One of the six; every name ends in `name`, so that examples keep apart in one store."""
    sku = draw(st.sampled_from(["CHAIR", "CHAIR", "CHAIR", "TABLE"])) + name
    ref = draw(st.sampled_from(REFS)) + name
    orderid = f"o{draw(st.integers(0, 9))}{name}"
    eta = draw(st.sampled_from(ETAS))
    if_version = draw(st.sampled_from([None] * 9 + [4]))
    match draw(st.sampled_from("CCAAAAAADDQQEB")):
        case "C":
            return CreateBatch(ref, sku, draw(st.integers(0, 12)), eta)
        case "A":
            return Allocate(orderid, sku, draw(st.integers(1, 6)), draw(st.sampled_from(IfShort)))
        case "D":
            return Deallocate(orderid, sku)
        case "Q":
            return ChangeBatchQuantity(ref, draw(st.integers(0, 12)), if_version)
        case "E":
            return ChangeBatchEta(ref, eta, if_version)
        case _:
            return ChangeBatch(ref, draw(st.integers(0, 12)), eta, if_version)


def a_days_work(seed: int, length: int, largest_batch: int) -> list[list[Command]]:
    """Many commands on one product that has many batches and many lines: groups of 1 to 5."""
    chance = random.Random(seed)

    def one() -> Command:
        sku, ref, orderid = "CHAIR", f"b{chance.randrange(40)}", f"o{chance.randrange(150)}"
        eta = chance.choice(ETAS)
        kind = chance.random()
        if kind < 0.12:
            return CreateBatch(ref, sku, chance.randint(1, largest_batch), eta)
        if kind < 0.7:
            return Allocate(orderid, sku, chance.choice([1, 1, 2, 3, 5, 8]), chance.choice(list(IfShort)))
        if kind < 0.82:
            return Deallocate(orderid, sku)
        if kind < 0.92:
            return ChangeBatchQuantity(ref, chance.randint(0, largest_batch))
        return ChangeBatchEta(ref, eta) if kind < 0.96 else ChangeBatch(ref, chance.randint(0, largest_batch), eta)

    return [[one() for _ in range(chance.randint(1, 5))] for _ in range(length)]


class DecisionContract:
    @examples(60)
    @given(data=st.data())
    def test_partial_and_full_loading_decide_equally(self, shared: SharedStore, data: st.DataObject) -> None:
        opened = shared.open(*data.draw(st.sampled_from([(1, 1), (2, 3), (16, 100)]), "pages"))
        one = commands(f"-{next(_examples)}")
        groups = data.draw(st.lists(st.lists(one, min_size=1, max_size=5), min_size=1, max_size=12), "groups")
        oracle = expect_equal_decisions(opened, groups)
        expect_views_of(opened, oracle.folded())

    @pytest.mark.parametrize("pages", [(1, 2), (3, 5), (16, 100)], ids=str)
    @pytest.mark.parametrize("largest_batch", [15, 60], ids=["scarce", "plenty"])
    def test_on_a_product_with_many_batches_and_lines_too(
        self, store: Store, largest_batch: int, pages: tuple[int, int]
    ) -> None:
        opened = store.open(*pages)
        oracle = expect_equal_decisions(opened, a_days_work(sum(pages), 100, largest_batch))
        expect_views_of(opened, oracle.folded())

    def test_batches_that_are_alike_but_for_their_references_go_by_their_bytes(self, store: Store) -> None:
        opened = store.open(1, 1)
        opened.group(*(CreateBatch(ref, "CHAIR", 1) for ref in REFS))
        promised = [opened.ask(Allocate(f"o{n}", "CHAIR", 1)).unwrap().batchref for n in range(len(REFS))]
        assert promised == sorted(REFS)

    def test_a_batch_that_was_named_does_not_hide_better_ones_that_are_not_read_yet(self, store: Store) -> None:
        opened = store.open(1, 1)
        opened.group(
            CreateBatch("a", "CHAIR", 1),
            CreateBatch("b", "CHAIR", 5),
            CreateBatch("c", "CHAIR", 5, date(2031, 3, 1)),
            CreateBatch("d", "CHAIR", 5, date(2031, 4, 1)),
        )
        opened.group(Allocate("near", "CHAIR", 3), ChangeBatchQuantity("d", 6))
        opened.group(Allocate("far", "CHAIR", 6))
        opened.group(Allocate("next", "CHAIR", 4), Deallocate("far", "CHAIR"))
        assert [opened.views.order(orderid)[0].batchref for orderid in ("near", "next")] == ["b", "c"]
