"""Any commands in any order: the promises a product makes about itself hold after each of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import date
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from allocation.domain.errors import NotEnoughStock, OrderLineExists, Refused, UnknownOrderLine
from allocation.domain.events import Event, OutOfStock
from allocation.domain.model import OrderLine, Product
from tests.thoroughness import examples
from tests.unit.chairs import SKU

refs = st.sampled_from([f"b{n}" for n in range(6)])
orderids = st.sampled_from([f"o{n}" for n in range(12)])
etas = st.sampled_from([None, date(2031, 3, 1), date(2031, 3, 2), date(2031, 4, 1)])
quantities = st.integers(1, 6)


def state_of(product: Product) -> Any:
    return (
        product.version_number,
        [(b.reference, b.purchased_quantity, b.allocated_quantity, b.eta, b.created_as) for b in product.batches],
        sorted((x.orderid, x.qty, x.batchref, x.since) for x in product.lines.values()),
    )


class Stock(RuleBasedStateMachine):
    """`owed` and `born` are kept here, from what was asked and answered: the quantity of each line that somebody was
    promised, and the version that first accepted it."""

    def __init__(self) -> None:
        super().__init__()
        self.product = Product(SKU)
        self.folded = Product(SKU)
        self.history: list[Event] = []
        self.owed: dict[str, int] = {}
        self.born: dict[str, int] = {}

    def ask(self, command: Callable[[], Any]) -> Exception | None:
        """Run a command; what it recorded goes to the history, and to the folded twin."""
        before, waited = state_of(self.product), self.waiting()
        try:
            command()
        except Refused as refusal:
            assert self.product.events == []
            assert state_of(self.product) == before
            return refusal
        recorded = list(self.product.events)
        self.product.events.clear()
        for event in recorded:
            self.folded.apply(event)
        self.history += recorded
        told = [type(event) is OutOfStock for event in recorded]
        assert told == sorted(told), "OutOfStock is told last"
        assert sum(told) == len(self.waiting() - waited), "once for each line that starts to wait"
        return None

    def waiting(self) -> set[str]:
        return {x.orderid for x in self.product.lines.values() if x.batchref is None}

    @rule(ref=refs, qty=st.integers(0, 12), eta=etas)
    def create_batch(self, ref: str, qty: int, eta: date | None) -> None:
        self.ask(lambda: self.product.create_batch(ref, qty, eta))

    @rule(orderid=orderids, qty=quantities, wait=st.booleans())
    def allocate(self, orderid: str, qty: int, wait: bool) -> None:
        known = self.owed.get(orderid)
        version = self.product.version_number
        refusal = self.ask(lambda: self.product.allocate(OrderLine(orderid, SKU, qty), wait))
        if known is not None:
            assert refusal == (None if known == qty else OrderLineExists(orderid, SKU, known))
            assert self.product.version_number == version
        elif refusal is not None:
            assert isinstance(refusal, NotEnoughStock)
            assert not wait
        else:
            self.owed[orderid], self.born[orderid] = qty, version + 1

    @rule(orderid=orderids)
    def deallocate(self, orderid: str) -> None:
        refusal = self.ask(lambda: self.product.deallocate(orderid))
        if orderid in self.owed:
            assert refusal is None
            del self.owed[orderid], self.born[orderid]
        else:
            assert refusal == UnknownOrderLine(orderid, SKU)

    @rule(ref=refs, qty=st.integers(-1, 12))
    def change_batch_quantity(self, ref: str, qty: int) -> None:
        self.ask(lambda: self.product.change_batch_quantity(ref, qty))

    @rule(ref=refs, eta=etas)
    def change_batch_eta(self, ref: str, eta: date | None) -> None:
        before = {x.orderid: x.batchref for x in self.product.lines.values()}
        self.ask(lambda: self.product.change_batch_eta(ref, eta))
        assert {x.orderid: x.batchref for x in self.product.lines.values()} == before

    @rule(ref=refs, qty=st.integers(-1, 12), eta=etas)
    def change_batch(self, ref: str, qty: int, eta: date | None) -> None:
        self.ask(lambda: self.product.change_batch(ref, qty, eta))

    @invariant()
    def no_batch_promises_more_than_it_holds(self) -> None:
        for batch in self.product.batches:
            assert 0 <= batch.allocated_quantity <= batch.purchased_quantity

    @invariant()
    def a_batch_counts_its_lines(self) -> None:
        promised = Counter[str]()
        for line in self.product.lines.values():
            if line.batchref is not None:
                promised[line.batchref] += line.qty
        assert {b.reference: b.allocated_quantity for b in self.product.batches} == {
            b.reference: promised[b.reference] for b in self.product.batches
        }

    @invariant()
    def no_line_is_lost_or_doubled_or_made_up(self) -> None:
        assert {x.orderid: x.qty for x in self.product.lines.values()} == self.owed

    @invariant()
    def a_line_keeps_its_age_for_life(self) -> None:
        assert {x.orderid: x.since for x in self.product.lines.values()} == self.born

    @invariant()
    def no_waiting_line_fits_any_batch(self) -> None:
        waiting = [x for x in self.product.lines.values() if x.batchref is None]
        assert not any(batch.can_allocate(line) for line in waiting for batch in self.product.batches)

    @invariant()
    def batches_stand_in_order_of_preference(self) -> None:
        ordered = sorted(self.product.batches, key=lambda b: (b.eta is not None, b.eta or date.min, b.reference))
        assert [b.reference for b in self.product.batches] == [b.reference for b in ordered]

    @invariant()
    def the_folded_events_are_the_product(self) -> None:
        assert state_of(self.folded) == state_of(self.product)

    @invariant()
    def every_event_made_one_version(self) -> None:
        assert self.product.version_number == len(self.history)

    def teardown(self) -> None:
        anew = Product(SKU)
        for event in self.history:
            anew.apply(event)
        assert state_of(anew) == state_of(self.product)


TestStock = Stock.TestCase
TestStock.settings = examples(60, steps=40)
