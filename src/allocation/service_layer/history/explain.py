"""Why an order line is where it is: each decision about it, made again on the product as it was.

Nothing is stored for this. If today's rules decide differently from what the log shows, the rules have changed since.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum

from allocation.domain.events import Allocated, Backordered, Deallocated, OutOfStock
from allocation.domain.model import OrderLine, Product
from allocation.service_layer.envelope import EventEnvelope
from allocation.service_layer.history.ports import History
from allocation.service_layer.history.snapshots import Replay
from allocation.service_layer.history.steps import causes
from allocation.service_layer.unit_of_work import Handled


class Verdict(StrEnum):
    """What becomes of a batch by today's rules."""

    TAKEN = "taken"
    TOO_LITTLE = "too little left"
    NOT_NEEDED = "a batch before it had enough"


@dataclass(frozen=True, slots=True)
class Considered:
    """A batch as it stood at the decision; batches are considered in order."""

    ref: str
    eta: date | None
    available: int
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Decision:
    """A line was put on a batch, or left to wait, by `logged`, because of `command` (None: the inbox has lost it). A
    line that gave way and found no other batch was left to wait by the event that took it off its batch.

    `batchref` is what the log shows, `batchref_today` what today's rules choose from the same stock (None: wait);
    `ahead` names an older waiting line that today's rules would have served before this one.
    """

    qty: int
    batchref: str | None
    batchref_today: str | None
    ahead: str | None
    batches: Sequence[Considered]
    logged: EventEnvelope
    command: Handled | None

    @property
    def by_todays_rules(self) -> bool:
        """Whether the decision would be the same today."""
        return self.ahead is None and self.batchref == self.batchref_today


@dataclass(frozen=True, slots=True)
class _Replayed:
    qty: int
    batchref: str | None
    batchref_today: str | None
    ahead: str | None
    batches: Sequence[Considered]


def explain(history: History, orderid: str, sku: str, after: int, limit: int) -> list[Decision]:
    """Up to `limit` decisions that placed the line or left it to wait, after version `after` of the product, in order.
    None from the start (`after` 0): there never was such a line."""
    replay = Replay(sku)
    product = replay.product
    found: dict[int, _Replayed] = {}
    gave_way = 0  # the version in which the line came off its batch; 0: it did not, or it is known what became of it
    for event, version, seq in history.facts_of(sku, 0, history.now().of(sku)):
        if isinstance(event, Allocated | Backordered) and event.orderid == orderid and version > after:
            found[version] = _replayed(product, event)
        elif isinstance(event, OutOfStock) and gave_way > after:  # a batch shrank, and there was no other for the line
            found[gave_way] = _decided_again(product, product.lines[orderid], None)
            gave_way = 0
        if len(found) == limit:
            break
        if getattr(event, "orderid", None) == orderid:
            gave_way = version if isinstance(event, Deallocated) else 0
        replay.take([(event, version, seq)])
    events = history.events(sku, list(found))
    caused = causes(history, events)
    return [_told(found[logged.version], logged, caused[logged.id]) for logged in events]


def _told(again: _Replayed, logged: EventEnvelope, command: Handled | None) -> Decision:
    return Decision(again.qty, again.batchref, again.batchref_today, again.ahead, again.batches, logged, command)


def _replayed(product: Product, event: Allocated | Backordered) -> _Replayed:
    """Decide again, on the product as it was before the event."""
    line = product.lines.get(event.orderid) or OrderLine(event.orderid, event.sku, event.qty)
    return _decided_again(product, line, event.batchref if isinstance(event, Allocated) else None)


def _decided_again(product: Product, line: OrderLine, batchref: str | None) -> _Replayed:
    best = product.batches.best_for(line)
    today = best.reference if best else None
    ahead = _first_to_be_served(product) if line.orderid in product.lines else None
    return _Replayed(
        line.qty,
        batchref,
        today,
        ahead.orderid if ahead is not None and ahead is not line else None,
        _considered(product, today),
    )


def _first_to_be_served(product: Product) -> OrderLine | None:
    """First fit by age, as `Product` serves waiting lines."""
    waiting = product.lines.oldest_waiting(product.batches.largest_free)
    return next((line for line in waiting if product.batches.best_for(line) is not None), None)


def _considered(product: Product, taken: str | None) -> list[Considered]:
    found: list[Considered] = []
    is_placed = False
    for batch in product.batches:
        if batch.reference == taken:
            verdict, is_placed = Verdict.TAKEN, True
        else:
            verdict = Verdict.NOT_NEEDED if is_placed else Verdict.TOO_LITTLE
        found.append(Considered(batch.reference, batch.eta, batch.available_quantity, verdict))
    return found
