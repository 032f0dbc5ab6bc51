"""A cache of answers that follows the log: what it returns was true at a place in the log that it knows.

One subscription, the keeper, tells the cache for every event which *things* (an order, a product, a batch) it touched,
and how far the keeper has come. A reader that finds nothing asks the database, in one snapshot with the heads of the
log, and fills the cache as of these heads. An answer is valid as long as nothing that it rests on has been touched
since. The mark on a thing is the versioned tombstone of the answers before it: a fill that was read earlier and comes
later is refused.

Nothing is promised about what is kept. A cache that has lost its place, or has come less far than its keeper knows,
begins anew: no answer from before is valid, nor one that was asked for before and read from tables that were repaired
since.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import assert_never

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
from allocation.service_layer.envelope import EventEnvelope, LogPosition

Places = Mapping[int, int]
"""A place in log partitions, by partition: everything up to there, and nothing after it."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An answer, as bytes. It was read in one snapshot with the heads `as_of`; `rests_on` names, for each of these
    partitions, the things whose change there changes the answer; `lives` are those that `look` returned before the
    answer was read."""

    data: bytes
    as_of: Places
    rests_on: Mapping[int, Collection[str]]
    lives: Mapping[int, str]


@dataclass(frozen=True, slots=True)
class Found:
    """What was found: how far the cache has come, in those of the requested partitions that it knows, and the answer,
    if it has a valid one. `lives` differ, in these partitions, before and after the cache began anew."""

    places: Places
    data: bytes | None
    lives: Mapping[int, str]


class Cache(ABC):
    """Keeps answers for readers; one keeper keeps them true.

    Callers may not assume that anything stays, not even the place that the cache has reached: it may be emptied, be
    restarted, or come back as it was some time ago, at any moment. Nor may they assume that its place is anywhere near
    the head of the log. If its keeper falls silent for long, it forgets its place. Every method raises `Unavailable`,
    at once or soon, when the cache cannot be reached. Threads share it.
    """

    @abstractmethod
    def look(self, key: str, partitions: Collection[int]) -> Found:
        """What is kept under the key: an answer that rests on things in these partitions. If there is an answer,
        `places` are from the same moment: the answer includes everything up to there."""

    @abstractmethod
    def fill(self, key: str, entry: Entry) -> bool:
        """Keep an answer. False, and nothing is kept, if it is no longer valid, or a newer one is there, or the cache
        has begun anew since it was looked at."""

    @abstractmethod
    def places(self, partitions: Collection[int]) -> Places:
        """How far it has come, in those of the partitions that it knows."""

    @abstractmethod
    def mark(self, partition: int, after: int, until: int, touched: Mapping[str, int]) -> None:
        """For the keeper: the events after `after`, up to `until`, touched these things, each last at the position
        given for it. All or nothing, and never backwards: a call that comes late, or twice, does no harm. A cache that
        has not reached `after` begins anew at `until`."""

    @abstractmethod
    def confirm(self, position: LogPosition) -> None:
        """For the keeper: this is the head of the log, as far as it knows. A cache that is elsewhere begins anew
        there."""

    @abstractmethod
    def forget(self, partitions: Collection[int]) -> None:
        """No answer that rests on these partitions is valid any more. It begins anew with its keeper's next call."""

    @abstractmethod
    def close(self) -> None:
        """Close the connections."""


def order_thing(orderid: str) -> str:
    return f"order:{orderid}"


def product_thing(sku: str) -> str:
    return f"product:{sku}"


def batch_thing(ref: str) -> str:
    """The thing that stands for a batch's day of arrival: the lines on the batch are promised for that day."""
    return f"batch:{ref}"


def touched_by(event: Event) -> Iterator[str]:
    """The things that an event changes. Every event raises its product's version."""
    yield product_thing(event.sku)
    match event:
        case Allocated() | Deallocated() | Backordered() | Cancelled():
            yield order_thing(event.orderid)
        case BatchEtaChanged():
            yield batch_thing(event.ref)
        case BatchCreated() | BatchQuantityChanged() | OutOfStock():
            pass
        case _:
            assert_never(event)


def unbroken(page: Sequence[EventEnvelope]) -> Iterator[Sequence[EventEnvelope]]:
    """Events of one partition, in order, cut wherever one is missing between them."""
    start = 0
    for n in range(1, len(page) + 1):
        if n == len(page) or page[n].position.seq != page[n - 1].position.seq + 1:
            yield page[start:n]
            start = n
