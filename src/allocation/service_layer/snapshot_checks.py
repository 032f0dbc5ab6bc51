"""Compares the snapshots of a product with its events, while these are folded."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from allocation.domain.events import Allocated, Backordered, Cancelled, Deallocated, Event
from allocation.domain.model import Product
from allocation.service_layer.books import KeptSnapshot, Unreadable
from allocation.service_layer.envelope import LogPosition
from allocation.service_layer.history.snapshots import Snapshot, snapshot_of

MOST_NAMED = 3
"""The most differing rows that one sentence names."""

Wrong = tuple[LogPosition, str, Snapshot | None]
"""A wrong snapshot: its position, what is wrong, and what it should be (None: it should not exist)."""


class SnapshotCheck:
    """Takes each event after it was applied, in order; `wrong` says what differs. If not `is_on`, there are no
    snapshots, and it need not be called. A missing snapshot is not wrong: it only makes questions about the past
    slower.

    It keeps its own set of waiting lines: searching all lines for each snapshot would take quadratic time.
    """

    def __init__(self, kept: Iterable[KeptSnapshot]) -> None:
        self._kept: Iterator[KeptSnapshot] = iter(kept)
        self._next = next(self._kept, None)
        self._waiting: set[str] = set()
        self.is_on = self._next is not None
        self.wrong: list[Wrong] = []

    def take(self, product: Product, event: Event, seq: int) -> None:
        """`event` stands at `seq`, and made the product what it is now."""
        if isinstance(event, Backordered | Deallocated):
            self._waiting.add(event.orderid)
        elif isinstance(event, Allocated | Cancelled):
            self._waiting.discard(event.orderid)
        self._pass_by(seq)
        if self._next is not None and self._next[0].seq == seq:
            position, kept = self._next
            waiting = sorted((product.lines[orderid] for orderid in self._waiting), key=lambda line: line.since)
            due = snapshot_of(product, position, waiting)
            if problem := _problem(kept, due):
                self.wrong.append((position, problem, due))
            self._next = next(self._kept, None)

    def end(self) -> None:
        """There are no more events."""
        self._pass_by(None)

    def _pass_by(self, seq: int | None) -> None:
        """A snapshot before `seq` (None: anywhere) that was not met is at no event of this product."""
        while self._next is not None and (seq is None or self._next[0].seq < seq):
            self.wrong.append((self._next[0], "the log has no event of this sku there", None))
            self._next = next(self._kept, None)


def _problem(kept: Snapshot | Unreadable, due: Snapshot) -> str:
    if isinstance(kept, Unreadable):
        return kept.reason
    if kept.version != due.version:
        return f"it is at version {kept.version}, but the event there led to {due.version}"
    return "; ".join(unlike_rows((*kept.batches, *kept.waiting), (*due.batches, *due.waiting)))


def unlike_rows(has: Collection[object], says: Collection[object]) -> Iterator[str]:
    """How the rows in the table differ from what the log says, in any order: the first few are named, the others
    counted."""
    kept, due = dict.fromkeys(has), dict.fromkeys(says)
    if len(kept) != len(has):
        yield "it contains something twice"
    for who, rows, others in (("the log says", due, kept), ("the table has", kept, due)):
        unlike = [row for row in rows if row not in others]
        more = f" and {len(unlike) - MOST_NAMED:,} more" if len(unlike) > MOST_NAMED else ""
        if unlike:
            yield f"{who} {', '.join(map(str, unlike[:MOST_NAMED]))}{more}"
