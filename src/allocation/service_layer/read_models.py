"""Read models that live in our database beside the log, and how a projection writes them.

A projection does not write at once: it records here what it wants written, and the store writes that in the transaction
that moves the projection's cursor. So each event has its effect once, even if it is handled twice.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import assert_never

from allocation.domain import events
from allocation.domain.errors import Available
from allocation.domain.events import Event
from allocation.service_layer.envelope import LogPosition
from allocation.service_layer.history.snapshots import Snapshot


@dataclass(frozen=True, slots=True)
class StockLevel:
    """What is free of a sku, by the day on which it is available, at one version of the product. It is complete in
    itself.

    `position` is that of the last event because of which it was written: levels are read in this order.
    """

    sku: str
    version: int
    position: LogPosition
    available: tuple[Available, ...] = ()


@dataclass(slots=True)
class Movements:
    """Pieces of a sku that were received, promised, taken off a batch, left waiting or cancelled on one day (UTC)."""

    received: int = 0
    allocated: int = 0
    deallocated: int = 0
    backordered: int = 0
    cancelled: int = 0

    def add(self, other: Movements) -> None:
        self.received += other.received
        self.allocated += other.allocated
        self.deallocated += other.deallocated
        self.backordered += other.backordered
        self.cancelled += other.cancelled


def movements_of(event: Event) -> Movements | None:
    """What an event moved, if anything."""
    match event:
        case events.BatchCreated(qty=qty):
            return Movements(received=qty)
        case events.Allocated(qty=qty):
            return Movements(allocated=qty)
        case events.Deallocated(qty=qty):
            return Movements(deallocated=qty)
        case events.Backordered(qty=qty):
            return Movements(backordered=qty)
        case events.Cancelled(qty=qty):
            return Movements(cancelled=qty)
        case events.BatchQuantityChanged() | events.BatchEtaChanged() | events.OutOfStock():
            return None
        case _:
            assert_never(event)


@dataclass(slots=True)
class ReadModels:
    """What is to be written: levels, if newer than the stored ones; amounts to add; snapshots to keep for good."""

    stock_levels: dict[str, StockLevel] = field(default_factory=dict)
    movements: dict[tuple[str, date], Movements] = field(default_factory=dict)
    snapshots: dict[tuple[str, int], Snapshot] = field(default_factory=dict)

    def put_stock_level(self, level: StockLevel) -> None:
        """The newest version wins; of two alike, the later position."""
        known = self.stock_levels.get(level.sku)
        if known is None or (level.version, level.position.seq) >= (known.version, known.position.seq):
            self.stock_levels[level.sku] = level

    def add_movements(self, sku: str, day: date, movements: Movements) -> None:
        self.movements.setdefault((sku, day), Movements()).add(movements)

    def keep_snapshot(self, snapshot: Snapshot) -> None:
        """If the snapshot is there already, that one is as good."""
        self.snapshots[snapshot.sku, snapshot.position.seq] = snapshot

    def take(self, other: ReadModels) -> None:
        """Add what another one holds."""
        for level in other.stock_levels.values():
            self.put_stock_level(level)
        for (sku, day), movements in other.movements.items():
            self.add_movements(sku, day, movements)
        self.snapshots |= other.snapshots


class Stock(ABC):
    """The present state of products, for reactions that report it. Raises `Unavailable` if the store cannot be
    reached."""

    @abstractmethod
    def levels(self, positions: Mapping[str, LogPosition]) -> list[StockLevel]:
        """The levels of these skus, each to be written at the position given for it. All are of one moment, which is
        that of the call or later, never earlier."""
