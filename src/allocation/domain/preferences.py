"""The rules by which the batch for an order line is chosen; each has a name."""

from __future__ import annotations

from datetime import date
from typing import Protocol

ON_HAND = date.min


class Arriving(Protocol):
    """Anything with a reference that arrives on some day, or has arrived (`eta` None)."""

    @property
    def reference(self) -> str: ...
    @property
    def eta(self) -> date | None: ...


Preference = tuple[date, str]


def stock_on_hand_then_earliest_eta_then_reference(batch: Arriving) -> Preference:
    """The rule in use: what can leave today leaves first; the reference makes the choice repeatable."""
    return (batch.eta or ON_HAND, batch.reference)


preference = stock_on_hand_then_earliest_eta_then_reference
