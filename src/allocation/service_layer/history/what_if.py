"""What if: imagined commands, decided by the real handlers in memory. Nothing is committed, nothing is sent."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from allocation.domain.commands import Command
from allocation.domain.model import Product
from allocation.service_layer.answers import Answer, Promise
from allocation.service_layer.envelope import Clock, Ids
from allocation.service_layer.history.as_of import product_at
from allocation.service_layer.history.ports import Cut, History
from allocation.service_layer.messagebus import Handler, MessageBus
from allocation.service_layer.needs import needs_of
from allocation.service_layer.unit_of_work import UnitOfWork

Imagine = Callable[[Iterable[Product]], Callable[[], UnitOfWork]]
"""Makes a store that holds only these products and is discarded afterwards; returns what makes its units of work."""


@dataclass(frozen=True, slots=True)
class Changed:
    """A promise that would change: `before` None, the line would be new; `after` None, it would be cancelled."""

    orderid: str
    sku: str
    before: Promise | None
    after: Promise | None

    @property
    def kind(self) -> str:
        """In a word or two, what would become of the line."""
        if self.before is None:
            return "promised" if self.after and self.after.batchref else "new, and waits"
        if self.after is None:
            return "cancelled"
        if self.before.batchref == self.after.batchref:  # a line that is cancelled and ordered again may want more
            return "another day" if self.before.eta != self.after.eta else "another quantity"
        if self.before.batchref is None:
            return "stops waiting"
        return "starts to wait" if self.after.batchref is None else "moves"


@dataclass(frozen=True, slots=True)
class Difference:
    """The answers that the commands would get, in their order, and the promises that would change, the oldest line of
    each sku first."""

    answers: Sequence[tuple[Command, Answer]]
    changes: Sequence[Changed]


class WhatIf:
    """Finds out from `handlers`, which are those of the real bus, what would follow."""

    def __init__(self, imagine: Imagine, handlers: Mapping[type, Handler], clock: Clock, ids: Ids) -> None:
        self._imagine, self._handlers, self._clock, self._ids = imagine, handlers, clock, ids

    def of(self, products: Sequence[Product], commands: Sequence[Command]) -> Difference:
        """The difference that the commands would make, one after the other in one transaction.

        `products` are all those that the commands name; they become the content of the imagined store.
        """
        before = {product.sku: _standing(product) for product in products}
        unit_of_work = self._imagine(products)
        bus = MessageBus(unit_of_work, self._handlers, self._ids, self._clock)
        answers = bus.handle_many([bus.envelope(command) for command in commands])
        changes: list[Changed] = []
        with unit_of_work() as uow:
            for sku in sorted(before.keys() | needs_of(commands).skus):
                product = uow.products.get(sku)
                if product is not None:
                    changes += _changes(sku, before.get(sku, {}), _standing(product))
        return Difference(list(zip(commands, answers, strict=True)), changes)


def products_named(history: History, commands: Sequence[Command], cut: Cut) -> list[Product]:
    """The products that commands name, by sku or by a batch, as they were at a cut."""
    needs = needs_of(commands)
    skus = needs.skus | set(history.skus_of_batches(needs.refs).values())
    found = [product_at(history, sku, cut) for sku in sorted(skus)]
    return [product for product in found if product is not None]


_Standing = tuple[int, str | None, date | None]
"""Quantity, batch, and the batch's day of arrival."""


def _standing(product: Product) -> dict[str, _Standing]:
    """Where each line stands, the oldest first."""
    etas = {batch.reference: batch.eta for batch in product.batches}
    return {
        x.orderid: (x.qty, x.batchref, etas[x.batchref] if x.batchref is not None else None)
        for x in sorted(product.lines.values(), key=lambda x: x.since)
    }


def _changes(sku: str, before: Mapping[str, _Standing], after: Mapping[str, _Standing]) -> list[Changed]:
    return [
        Changed(orderid, sku, _promise(orderid, sku, before.get(orderid)), _promise(orderid, sku, after.get(orderid)))
        for orderid in {**before, **after}
        if before.get(orderid) != after.get(orderid)
    ]


def _promise(orderid: str, sku: str, standing: _Standing | None) -> Promise | None:
    if standing is None:
        return None
    qty, batchref, eta = standing
    return Promise(orderid, sku, qty, "waiting" if batchref is None else "allocated", batchref, eta)
