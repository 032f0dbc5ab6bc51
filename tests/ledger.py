"""How things stand after each event, kept step by step in plain dicts: what the time machine is held against.

It knows nothing of `Product`, and nothing of tables: it believes the feed, event by event.
"""

from __future__ import annotations

from collections import Counter
from datetime import date

from allocation.domain.errors import Available
from allocation.domain.events import (
    Allocated,
    Backordered,
    BatchCreated,
    BatchEtaChanged,
    BatchQuantityChanged,
    Cancelled,
    Deallocated,
)
from allocation.service_layer.answers import BatchState, Promise
from allocation.service_layer.envelope import EventEnvelope
from allocation.views import ProductView

Line = tuple[int, str | None, int]
"""Quantity, batch, and the version at which the product first knew it."""


class Ledger:
    def __init__(self) -> None:
        self.batches: dict[str, tuple[str, int, date | None]] = {}
        self.lines: dict[tuple[str, str], Line] = {}
        self.versions = Counter[str]()

    def step(self, logged: EventEnvelope) -> None:
        event = logged.event
        self.versions[event.sku] += 1
        match event:
            case BatchCreated(ref, sku, qty, eta):
                self.batches[ref] = (sku, qty, eta)
            case BatchQuantityChanged(ref, sku, qty):
                self.batches[ref] = (sku, qty, self.batches[ref][2])
            case BatchEtaChanged(ref, sku, eta):
                self.batches[ref] = (sku, self.batches[ref][1], eta)
            case Allocated(orderid, sku, qty, ref):
                self.lines[orderid, sku] = (qty, ref, self._since(orderid, sku, logged))
            case Deallocated(orderid, sku, qty, _) | Backordered(orderid, sku, qty):
                self.lines[orderid, sku] = (qty, None, self._since(orderid, sku, logged))
            case Cancelled(orderid, sku, _):
                del self.lines[orderid, sku]

    def _since(self, orderid: str, sku: str, logged: EventEnvelope) -> int:
        known = self.lines.get((orderid, sku))
        return known[2] if known else logged.version

    def order(self, orderid: str) -> list[Promise]:
        return [self._promise(*key) for key in sorted(self.lines) if key[0] == orderid]

    def product(self, sku: str) -> ProductView | None:
        if not self.versions[sku]:
            return None
        held = Counter[str]()
        for (_, of), (qty, ref, _) in self.lines.items():
            if of == sku and ref is not None:
                held[ref] += qty
        mine = sorted(
            ((eta is not None, eta or date.min, ref, qty) for ref, (of, qty, eta) in self.batches.items() if of == sku)
        )
        states = [
            BatchState(ref, sku, qty, qty - held[ref], eta if comes else None, self.versions[sku])
            for comes, eta, ref, qty in mine
        ]
        days: dict[date | None, list[int]] = {}
        for state in states:
            if state.available:
                days.setdefault(state.eta, []).append(state.available)
        waiting = sorted(
            (since, orderid) for (orderid, of), (_, ref, since) in self.lines.items() if of == sku and ref is None
        )
        return ProductView(
            sku,
            self.versions[sku],
            states,
            tuple(Available(eta, sum(free), max(free)) for eta, free in days.items()),
            [self._promise(orderid, sku) for _, orderid in waiting],
            len(waiting),
            sum(self.lines[orderid, sku][0] for _, orderid in waiting),
        )

    def _promise(self, orderid: str, sku: str) -> Promise:
        qty, ref, _ = self.lines[orderid, sku]
        if ref is None:
            return Promise(orderid, sku, qty, "waiting", None, None)
        return Promise(orderid, sku, qty, "allocated", ref, self.batches[ref][2])
