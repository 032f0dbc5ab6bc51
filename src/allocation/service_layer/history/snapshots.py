"""A product's past without all of its events.

A snapshot holds a product's batches and waiting lines at one version, but none of the lines that were on a batch: these
grow without limit. It is enough to show how a product stood. A later event that takes a line off a batch says itself
what the line was, except its age; that is looked up in the present state, or, if the line no longer exists, in the
whole log.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

from allocation.domain.errors import CorruptLog
from allocation.domain.events import Deallocated, Event
from allocation.domain.model import Batch, Lines, OrderLine, Product
from allocation.service_layer.envelope import LogPosition

EVERY = 1000
"""Versions from one snapshot of a product to the next: the most events that are folded to show how it stood."""

_UNKNOWN = 0  # a `since` that no line has


@dataclass(frozen=True, slots=True)
class BatchThen:
    """A batch at the snapshot's version."""

    ref: str
    qty: int
    eta: date | None
    allocated: int
    created_qty: int
    created_eta: date | None


@dataclass(frozen=True, slots=True)
class WaitingThen:
    """A line that waited at the snapshot's version."""

    orderid: str
    qty: int
    since: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A product at one version, which the event at `position` made; lines on batches are left out."""

    sku: str
    version: int
    position: LogPosition
    batches: tuple[BatchThen, ...] = ()
    waiting: tuple[WaitingThen, ...] = ()


def snapshot_of(product: Product, position: LogPosition, waiting: Iterable[OrderLine] | None = None) -> Snapshot:
    """The snapshot of a product as it is; `position` is that of its last event. `waiting` are its waiting lines, if the
    caller knows them; else they are searched for."""
    if waiting is None:
        waiting = (line for line in product.lines.values() if line.batchref is None)
    return Snapshot(
        product.sku,
        product.version_number,
        position,
        tuple(
            BatchThen(b.reference, b.purchased_quantity, b.eta, b.allocated_quantity, *b.created_as)
            for b in product.batches
        ),
        tuple(WaitingThen(x.orderid, x.qty, x.since) for x in waiting),
    )


class Replay:
    """Folds a product from a snapshot, or from its beginning, to a later version."""

    def __init__(self, sku: str, snapshot: Snapshot | None = None) -> None:
        self._snapshot = snapshot
        if snapshot is None:
            self.product = Product(sku)
            return
        batches = [
            Batch(b.ref, sku, b.qty, b.eta, b.allocated, (b.created_qty, b.created_eta)) for b in snapshot.batches
        ]
        lines = Lines({x.orderid: OrderLine(x.orderid, sku, x.qty, None, x.since) for x in snapshot.waiting})
        self.product = Product(sku, batches, snapshot.version, lines)

    def take(self, facts: Iterable[tuple[Event, int, int]]) -> None:
        """Fold events, each with the version that it made and its position (see `Fact`). Raises `CorruptLog`."""
        product = self.product
        lines, partial = product.lines, self._snapshot is not None
        for event, version, _ in facts:
            if partial and type(event) is Deallocated and event.orderid not in lines:
                lines[event.orderid] = OrderLine(event.orderid, event.sku, event.qty, event.batchref, _UNKNOWN)
            product.apply(event)
            if product.version_number != version:
                raise CorruptLog(f"{product.sku} has no event for version {product.version_number}")

    def of_unknown_age(self) -> list[OrderLine]:
        """Waiting lines that were on a batch when the snapshot was taken."""
        return [x for x in self.product.lines.values() if x.since == _UNKNOWN and x.batchref is None]

    def is_of_age(self, since: int | None) -> bool:
        """Whether the age found in the present state is that of a line that existed at the snapshot's version, and not
        of one that was cancelled and created again."""
        return since is not None and self._snapshot is not None and since <= self._snapshot.version
