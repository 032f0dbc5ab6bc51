"""Events: what has happened to one product. Named in the past tense, never refused, applied in order of version."""

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
    """The line was taken off its batch; it is still owed."""

    orderid: str
    sku: str
    qty: int
    batchref: str


@value
class Backordered:
    """The line was accepted, but no batch has enough: it waits."""

    orderid: str
    sku: str
    qty: int


@value
class Cancelled:
    """The line is no longer owed."""

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
