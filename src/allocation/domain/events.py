"""Events: what has happened to one product. Past tense, never refused, applied in order of version."""

from __future__ import annotations

from datetime import date

from allocation.domain.values import value


@value
class BatchCreated:
    ref: str
    sku: str
    qty: int
    eta: date | None = None


@value
class BatchQuantityChanged:
    ref: str
    sku: str
    qty: int


@value
class BatchEtaChanged:
    """`eta` None: the shipment has arrived."""

    ref: str
    sku: str
    eta: date | None


@value
class Allocated:
    orderid: str
    sku: str
    qty: int
    batchref: str


@value
class Deallocated:
    """Off its batch, still owed."""

    orderid: str
    sku: str
    qty: int
    batchref: str


@value
class Backordered:
    """Accepted, but nothing fits: the line waits."""

    orderid: str
    sku: str
    qty: int


@value
class Cancelled:
    """No longer owed."""

    orderid: str
    sku: str
    qty: int


@value
class OutOfStock:
    """A notification, once for each line that starts to wait; changes nothing but the version."""

    sku: str


Event = (
    BatchCreated
    | BatchQuantityChanged
    | BatchEtaChanged
    | Allocated
    | Deallocated
    | Backordered
    | Cancelled
    | OutOfStock
)
