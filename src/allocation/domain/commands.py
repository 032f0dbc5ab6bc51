"""Commands: what somebody asks for. Named in the imperative; may be refused (see `errors.Refused`)."""

from __future__ import annotations

import re
from datetime import date
from enum import StrEnum

from allocation.domain.errors import InvalidReference
from allocation.domain.values import value

ID_PATTERN = r"^[!-.0-~]{1,255}\Z"
"""An id (order, sku, batch reference): printable ASCII without spaces and slashes, so that it can stand in a URL, a log
line and a terminal unchanged."""


class IfShort(StrEnum):
    """What an order line wants when no batch has enough for it."""

    REFUSE = "refuse"
    WAIT = "wait"


@value
class CreateBatch:
    """`qty` pieces of `sku` were bought: they are on hand now (`eta` None) or arrive on the day `eta`."""

    ref: str
    sku: str
    qty: int
    eta: date | None = None


@value
class ChangeBatchQuantity:
    """The batch turned out to hold `qty` pieces. `if_version`: refused unless the product still has that version."""

    ref: str
    qty: int
    if_version: int | None = None


@value
class ChangeBatchEta:
    """The batch arrives on another day; `eta` None: it has arrived. `if_version` as above."""

    ref: str
    eta: date | None
    if_version: int | None = None


@value
class ChangeBatch:
    """Change the quantity and the arrival of one batch, both or neither: the two commands above under one lock."""

    ref: str
    qty: int
    eta: date | None
    if_version: int | None = None


@value
class Allocate:
    """Promise `qty` pieces of `sku` to an order; `if_short` says whether the line waits or is refused if no batch has
    enough."""

    orderid: str
    sku: str
    qty: int
    if_short: IfShort = IfShort.WAIT


@value
class Deallocate:
    """The order no longer wants this sku: its line gives back what it holds, and nothing is owed to it any more."""

    orderid: str
    sku: str


Command = CreateBatch | ChangeBatchQuantity | ChangeBatchEta | ChangeBatch | Allocate | Deallocate

is_id = re.compile(ID_PATTERN).match


def require_ids(*ids: str) -> None:
    """Raises `InvalidReference` for the first one that is not a valid id."""
    for reference in ids:
        if not is_id(reference):
            raise InvalidReference(reference)
