"""Why the domain refuses a command.

    DomainError
    ├── Refused                 an answer to the caller; nothing was recorded
    │   ├── InvalidSku            no batch of this sku was ever bought
    │   ├── InvalidQuantity       a quantity that is out of range
    │   ├── InvalidReference      an id that is empty, too long, or not plain printable ASCII
    │   ├── UnknownBatch
    │   ├── UnknownOrderLine
    │   ├── BatchExists           another batch has this reference
    │   ├── OrderLineExists       the line exists, with another quantity
    │   ├── NotEnoughStock        no batch has enough, and the caller did not want to wait
    │   └── StaleVersion          the product has changed since the caller read it
    └── CorruptLog              an event that cannot have happened: never hidden, never skipped

Each refusal carries its details as fields, so that an entry point can report them in its own format and an answer can
be stored and given again.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

MAX_QUANTITY = 2**31 - 1


class DomainError(Exception):
    """Base class of everything the domain raises."""


class CorruptLog(DomainError):
    """An event does not apply to the state before it: the log, or what was loaded, is damaged."""


class Refused(DomainError):
    """A command is refused. The product is as it was."""


@dataclass(unsafe_hash=True)
class InvalidSku(Refused):
    sku: str

    def __str__(self) -> str:
        return f"Invalid sku {self.sku}"


@dataclass(unsafe_hash=True)
class InvalidQuantity(Refused):
    qty: int
    least: int = 1

    def __str__(self) -> str:
        return f"A quantity must be a whole number from {self.least} to {MAX_QUANTITY}, not {self.qty}"


@dataclass(unsafe_hash=True)
class InvalidReference(Refused):
    reference: str

    def __str__(self) -> str:
        return f"An id must be 1 to 255 printable ASCII characters without space or slash, not {self.reference[:40]!r}"


@dataclass(unsafe_hash=True)
class UnknownBatch(Refused):
    ref: str

    def __str__(self) -> str:
        return f"There is no batch {self.ref}"


@dataclass(unsafe_hash=True)
class UnknownOrderLine(Refused):
    orderid: str
    sku: str

    def __str__(self) -> str:
        return f"Order {self.orderid} has no line for {self.sku}"


@dataclass(unsafe_hash=True)
class BatchExists(Refused):
    ref: str

    def __str__(self) -> str:
        return f"Batch {self.ref} was created with another sku, quantity or ETA"


@dataclass(unsafe_hash=True)
class OrderLineExists(Refused):
    orderid: str
    sku: str
    qty: int

    def __str__(self) -> str:
        return f"Order {self.orderid} already has a line for {self.sku}, with quantity {self.qty}"


@dataclass(frozen=True, slots=True)
class Available:
    """`qty` pieces are free from the day `eta` on (None: now); a single batch can give at most `largest` of them."""

    eta: date | None
    qty: int
    largest: int


@dataclass(unsafe_hash=True)
class NotEnoughStock(Refused):
    sku: str
    qty: int
    available: tuple[Available, ...] = ()

    def __str__(self) -> str:
        return f"No batch of {self.sku} has {self.qty} left"


@dataclass(unsafe_hash=True)
class StaleVersion(Refused):
    sku: str
    expected: int
    actual: int

    def __str__(self) -> str:
        return f"{self.sku} is at version {self.actual}, not {self.expected}"
