"""The stock of one product, and the promises made from it.

A public method of `Product` *decides*: either it refuses and records nothing, or it records events. `apply` is the only
code that changes state, and every event raises `version_number` by one. So there is no change without an event and no
event without a version, and folding a product's events gives exactly the product.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import date
from typing import Any

from allocation.domain.errors import (
    MAX_QUANTITY,
    Available,
    BatchExists,
    CorruptLog,
    InvalidQuantity,
    InvalidSku,
    NotEnoughStock,
    OrderLineExists,
    StaleVersion,
    UnknownBatch,
    UnknownOrderLine,
)
from allocation.domain.events import (
    Allocated,
    Backordered,
    BatchCreated,
    BatchEtaChanged,
    BatchQuantityChanged,
    Cancelled,
    Deallocated,
    Event,
    OutOfStock,
)
from allocation.domain.stock import Batch, Batches, Lines, OrderLine

__all__ = ["Batch", "Batches", "Lines", "OrderLine", "Product"]


class Product:
    """The aggregate: one sku, its batches, its order lines. The only place where rules about stock live."""

    def __init__(
        self,
        sku: str,
        batches: Iterable[Batch] = (),
        version_number: int = 0,
        lines: Lines | None = None,
    ) -> None:
        self.sku = sku
        self.batches = batches if isinstance(batches, Batches) else Batches(batches)
        self.version_number = version_number
        self.lines = Lines() if lines is None else lines
        self.events: list[Event] = []

    def __repr__(self) -> str:
        return f"<Product {self.sku}, version {self.version_number}>"

    # --- decide -----------------------------------------------------------------------------------------------------

    def create_batch(self, ref: str, qty: int, eta: date | None = None) -> Batch:
        """Add stock. The same batch again changes nothing; a different one under its reference is refused."""
        if known := self.batches.get(ref):
            if known.created_as != (qty, eta):
                raise BatchExists(ref)
            return known
        _require_quantity(qty, least=1)
        self._record(BatchCreated(ref, self.sku, qty, eta))
        self._serve_waiting()
        return self._batch(ref)

    def allocate(self, line: OrderLine, wait: bool = True) -> str | None:
        """Promise the line from the best batch. Returns the batch's reference, or None if the line waits.

        Raises `NotEnoughStock` if no batch has enough and the line must not wait, `OrderLineExists` if the order has a
        line of this sku with another quantity. The same line again keeps what it has.
        """
        if line.sku != self.sku:
            raise InvalidSku(line.sku)
        if known := self.lines.get(line.orderid):
            if known.qty != line.qty:
                raise OrderLineExists(known.orderid, self.sku, known.qty)
            return known.batchref
        if not 0 < line.qty <= MAX_QUANTITY:
            raise InvalidQuantity(line.qty)
        if batch := self.batches.best_for(line):
            self._record(Allocated(line.orderid, self.sku, line.qty, batch.reference))
            return batch.reference
        if not wait:
            raise NotEnoughStock(self.sku, line.qty, self.availability())
        self._record(Backordered(line.orderid, self.sku, line.qty))
        self._record(OutOfStock(self.sku))
        return None

    def deallocate(self, orderid: str) -> None:
        """The order no longer wants this sku; what its line held goes to waiting lines."""
        line = self.lines.get(orderid)
        if line is None:
            raise UnknownOrderLine(orderid, self.sku)
        if line.batchref is not None:
            self._record(Deallocated(orderid, self.sku, line.qty, line.batchref))
        self._record(Cancelled(orderid, self.sku, line.qty))
        self._serve_waiting()

    def change_batch_quantity(self, ref: str, qty: int) -> None:
        """The batch turned out to hold `qty` pieces. Its newest lines give way: they move to another batch, or wait."""
        batch = self._batch(ref)
        _require_quantity(qty, least=0)
        if qty == batch.purchased_quantity:
            return
        gave_way = []
        for line in self.lines.newest_on(ref) if qty < batch.allocated_quantity else ():
            if batch.allocated_quantity <= qty:
                break
            self._record(Deallocated(line.orderid, self.sku, line.qty, ref))
            gave_way.append(line)
        self._record(BatchQuantityChanged(ref, self.sku, qty))
        self._serve_waiting()
        for line in gave_way:
            if line.batchref is None:
                self._record(OutOfStock(self.sku))

    def change_batch_eta(self, ref: str, eta: date | None) -> None:
        """The batch arrives on another day (None: it is here). Its lines stay on it, so their promised date changes."""
        if eta != self._batch(ref).eta:
            self._record(BatchEtaChanged(ref, self.sku, eta))

    def change_batch(self, ref: str, qty: int, eta: date | None) -> None:
        """Both of the above, or neither. The date comes first: lines that give way are placed by the new date."""
        _require_quantity(qty, least=0)
        self.change_batch_eta(ref, eta)
        self.change_batch_quantity(ref, qty)

    def require_version(self, expected: int) -> None:
        """Raises `StaleVersion` unless the product still has the version that the caller has seen."""
        if expected != self.version_number:
            raise StaleVersion(self.sku, expected, self.version_number)

    def can_allocate(self, line: OrderLine) -> bool:
        """Whether a batch has room for the line now."""
        return line.sku == self.sku and self.batches.best_for(line) is not None

    def availability(self) -> tuple[Available, ...]:
        """What is free, by the day on which it is available, stock on hand first."""
        days: dict[date | None, list[int]] = {}
        for batch in self.batches.open():
            days.setdefault(batch.eta, []).append(batch.available_quantity)
        return tuple(Available(eta, sum(free), max(free)) for eta, free in days.items())

    def _serve_waiting(self) -> None:
        """First fit by age: afterwards no waiting line fits any batch."""
        for line in self.lines.oldest_waiting(self.batches.largest_free):
            if batch := self.batches.best_for(line):
                self._record(Allocated(line.orderid, self.sku, line.qty, batch.reference))

    def _batch(self, ref: str) -> Batch:
        if batch := self.batches.get(ref):
            return batch
        raise UnknownBatch(ref)

    def _record(self, event: Event) -> None:
        self.apply(event)
        self.events.append(event)

    # --- apply ------------------------------------------------------------------------------------------------------

    def apply(self, event: Event) -> None:
        """Change the state as the event says. Raises `CorruptLog`, changing nothing, if it cannot have happened."""
        if event.sku != self.sku:
            raise self._corrupt(event)
        _APPLY[type(event)](self, event)
        self.version_number += 1

    def _apply_batch_created(self, event: BatchCreated) -> None:
        if self.batches.get(event.ref) is not None or not 0 < event.qty <= MAX_QUANTITY:
            raise self._corrupt(event)
        self.batches.add(Batch(event.ref, event.sku, event.qty, event.eta))

    def _apply_quantity_changed(self, event: BatchQuantityChanged) -> None:
        batch = self.batches.get(event.ref)
        if batch is None or not batch.allocated_quantity <= event.qty <= MAX_QUANTITY:
            raise self._corrupt(event)
        batch.purchased_quantity = event.qty

    def _apply_eta_changed(self, event: BatchEtaChanged) -> None:
        batch = self.batches.get(event.ref)
        if batch is None:
            raise self._corrupt(event)
        self.batches.change_eta(batch, event.eta)

    def _apply_allocated(self, event: Allocated) -> None:
        batch = self.batches.get(event.batchref)
        line = self.lines.get(event.orderid)
        if line is None:
            line = OrderLine(event.orderid, self.sku, event.qty, None, self.version_number + 1)
        elif line.qty != event.qty:
            raise self._corrupt(event)
        if batch is None or not batch.allocate(line):
            raise self._corrupt(event)
        self.lines[event.orderid] = line

    def _apply_deallocated(self, event: Deallocated) -> None:
        batch = self.batches.get(event.batchref)
        line = self.lines.get(event.orderid)
        if batch is None or line is None or line.batchref != event.batchref or line.qty != event.qty:
            raise self._corrupt(event)
        batch.deallocate(line)

    def _apply_backordered(self, event: Backordered) -> None:
        if self.lines.get(event.orderid) is not None or not 0 < event.qty <= MAX_QUANTITY:
            raise self._corrupt(event)
        self.lines[event.orderid] = OrderLine(event.orderid, self.sku, event.qty, None, self.version_number + 1)

    def _apply_cancelled(self, event: Cancelled) -> None:
        line = self.lines.get(event.orderid)
        if line is None or line.batchref is not None or line.qty != event.qty:
            raise self._corrupt(event)
        del self.lines[event.orderid]

    def _apply_out_of_stock(self, event: OutOfStock) -> None:
        """A notification: there is nothing to change."""

    def _corrupt(self, event: Event) -> CorruptLog:
        return CorruptLog(f"{event} cannot have happened to {self.sku} after its version {self.version_number}")


def _require_quantity(qty: int, least: int) -> None:
    if not least <= qty <= MAX_QUANTITY:
        raise InvalidQuantity(qty, least)


_APPLY: dict[type, Callable[[Product, Any], None]] = {
    BatchCreated: Product._apply_batch_created,
    BatchQuantityChanged: Product._apply_quantity_changed,
    BatchEtaChanged: Product._apply_eta_changed,
    Allocated: Product._apply_allocated,
    Deallocated: Product._apply_deallocated,
    Backordered: Product._apply_backordered,
    Cancelled: Product._apply_cancelled,
    OutOfStock: Product._apply_out_of_stock,
}
