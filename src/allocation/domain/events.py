"""Events: what has happened to one product. Past tense, never refused, applied in order of version."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date


@dataclass(frozen=True, slots=True)
class BatchCreated:
    ref: str
    sku: str
    qty: int
    eta: date | None = None


@dataclass(frozen=True, slots=True)
class BatchQuantityChanged:
    ref: str
    sku: str
    qty: int


@dataclass(frozen=True, slots=True)
class BatchEtaChanged:
    """`eta` None: the shipment has arrived."""

    ref: str
    sku: str
    eta: date | None


@dataclass(frozen=True, slots=True)
class Allocated:
    orderid: str
    sku: str
    qty: int
    batchref: str


@dataclass(frozen=True, slots=True)
class Deallocated:
    """Off its batch, still owed."""

    orderid: str
    sku: str
    qty: int
    batchref: str


@dataclass(frozen=True, slots=True)
class Backordered:
    """Accepted, but nothing fits: the line waits."""

    orderid: str
    sku: str
    qty: int


@dataclass(frozen=True, slots=True)
class Cancelled:
    """No longer owed."""

    orderid: str
    sku: str
    qty: int


@dataclass(frozen=True, slots=True)
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
