"""The shop: what it has in stock and on its way, and what was ordered on one day."""

from __future__ import annotations

from datetime import date, timedelta
from typing import NamedTuple


class Bought(NamedTuple):
    """A batch, and the `days` until it arrives (None: it is here)."""

    ref: str
    sku: str
    qty: int
    days: int | None = None

    def eta(self, today: date) -> date | None:
        return None if self.days is None else today + timedelta(days=self.days)


class Ordered(NamedTuple):
    orderid: str
    sku: str
    qty: int


STOCK = (
    Bought("chairs-07", "RED-CHAIR", 20),
    Bought("chairs-08", "RED-CHAIR", 24, days=6),
    Bought("tables-03", "SMALL-TABLE", 9),
    Bought("tables-04", "SMALL-TABLE", 6, days=9),
    Bought("settees-02", "ADORABLE-SETTEE", 3),
    Bought("shades-11", "RETRO-LAMPSHADE", 10),
    Bought("shades-12", "RETRO-LAMPSHADE", 24, days=4),
    Bought("lamps-21", "PATIENT-LAMP", 14),
    Bought("rugs-05", "WOOLLY-RUG", 6),
    Bought("rugs-06", "WOOLLY-RUG", 8, days=15),
    Bought("vases-30", "BLUE-VASE", 25),
    Bought("mirrors-04", "TALL-MIRROR", 6, days=10),
)

_DAY = """
order-01: 4 RED-CHAIR, 1 SMALL-TABLE
order-02: 2 RETRO-LAMPSHADE
order-03: 1 ADORABLE-SETTEE, 1 WOOLLY-RUG
order-04: 3 BLUE-VASE
order-05: 2 PATIENT-LAMP, 2 RETRO-LAMPSHADE
order-06: 1 SMALL-TABLE
order-07: 2 RED-CHAIR
order-08: 1 TALL-MIRROR
order-09: 1 ADORABLE-SETTEE
order-10: 4 RETRO-LAMPSHADE
order-11: 1 WOOLLY-RUG, 2 BLUE-VASE
order-12: 2 PATIENT-LAMP
order-13: 4 RED-CHAIR, 1 SMALL-TABLE, 1 WOOLLY-RUG
order-14: 6 BLUE-VASE
order-15: 1 ADORABLE-SETTEE
order-16: 4 RETRO-LAMPSHADE
order-17: 1 SMALL-TABLE, 1 PATIENT-LAMP
order-18: 2 WOOLLY-RUG
order-19: 2 RED-CHAIR
order-20: 1 ADORABLE-SETTEE, 1 PATIENT-LAMP
order-21: 1 TALL-MIRROR, 1 BLUE-VASE
order-22: 2 SMALL-TABLE
order-23: 4 RED-CHAIR, 1 BLUE-VASE
order-24: 6 RETRO-LAMPSHADE
order-25: 2 WOOLLY-RUG
order-26: 1 PATIENT-LAMP
order-27: 2 RED-CHAIR, 1 SMALL-TABLE
order-28: 4 BLUE-VASE
order-29: 2 TALL-MIRROR
order-30: 2 RED-CHAIR
order-31: 20 RED-CHAIR, 5 SMALL-TABLE
order-32: 2 RETRO-LAMPSHADE, 1 PATIENT-LAMP
order-33: 1 ADORABLE-SETTEE
order-34: 1 BLUE-VASE
order-35: 3 PATIENT-LAMP
order-36: 1 WOOLLY-RUG
"""

DAY = tuple(
    Ordered(orderid, sku, int(qty))
    for orderid, _, lines in (order.partition(": ") for order in _DAY.split("\n") if order)
    for qty, sku in (line.split() for line in lines.split(", "))
)

SENT_TWICE = Ordered("order-07", "RED-CHAIR", 2)
WILL_NOT_WAIT = Ordered("order-37", "SMALL-TABLE", 4)
CANCELLED = Ordered("order-09", "ADORABLE-SETTEE", 1)
LATE, LATE_BY_DAYS = STOCK[6], 9
SHORT, ARRIVED_WHOLE = STOCK[0], 14
"""Of the 20 chairs that were bought, 14 came out of the boxes in one piece."""
A_CUSTOMER = "order-23"
