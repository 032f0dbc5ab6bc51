"""The port through which the log and the inbox answer questions about the past."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from allocation.domain.events import Event
from allocation.service_layer.envelope import BEYOND, EventEnvelope, LogPosition, partition_of
from allocation.service_layer.errors import UnknownPosition
from allocation.service_layer.history.snapshots import Snapshot
from allocation.service_layer.unit_of_work import Handled

At = datetime | LogPosition | None
"""A moment (with its time zone) or a place in the log; None: now."""

Fact = tuple[Event, int, int]
"""An event, the product's version that it made, and its number in the partition: all that a fold needs."""

_BEFORE_EVERYTHING = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Cut:
    """A line through the log: for each partition, the last number that counts."""

    heads: tuple[int, ...]

    def of(self, sku: str) -> int:
        """The last number that counts for a product."""
        return self.heads[partition_of(sku, len(self.heads))]

    def require(self, cursor: Iterable[LogPosition]) -> None:
        """Raises `UnknownPosition` for a position that is not there yet: a client with such a cursor has seen another
        log, as it was before a restore from a backup. (`BEYOND` does not count as a position.)"""
        for place in cursor:
            if self.heads[place.partition] < place.seq != BEYOND:
                raise UnknownPosition(place)


class History(ABC):
    """The log and the inbox, for questions about the past.

    What lies before a cut never changes, so the answers to several questions about one cut agree. Callers may not
    assume that a question is cheap because its answer is short: the cost of a product's past grows with its events
    (`facts_of`). Raises `Unavailable` when the store cannot be reached, `CorruptLog` if the log cannot be read.
    """

    @abstractmethod
    def now(self) -> Cut:
        """Everything that was committed before the call."""

    @abstractmethod
    def moment_of(self, position: LogPosition) -> datetime:
        """When the event at a position was committed. The event must exist."""

    @abstractmethod
    def until(self, partition: int, head: int, moment: datetime) -> int:
        """The number of the last event up to `head` that was there at a moment, that moment included; 0: there was
        none. Times never go back along a partition, so it is found by binary search."""

    def cut(self, at: At) -> Cut:
        """All that had happened by a moment, that moment included; a moment in the future means now.

        Or all up to a position in the log, and in other partitions what had happened by then. Raises `UnknownPosition`
        if the log does not reach it.
        """
        now = self.now()
        if at is None:
            return now
        if isinstance(at, datetime):
            return Cut(tuple(self.until(partition, head, at) for partition, head in enumerate(now.heads)))
        if at.partition >= len(now.heads) or not 0 <= at.seq <= now.heads[at.partition]:
            raise UnknownPosition(at)
        if len(now.heads) == 1:
            return Cut((at.seq,))
        moment = self.moment_of(at) if at.seq else _BEFORE_EVERYTHING
        heads = [self.until(partition, head, moment) for partition, head in enumerate(now.heads)]
        heads[at.partition] = at.seq
        return Cut(tuple(heads))

    # Events

    @abstractmethod
    def facts(self, partition: int, after: int, until: int) -> Iterator[Fact]:
        """The events of a partition after `after`, up to `until`, in order; fast, and in constant memory."""

    @abstractmethod
    def facts_by_product(self, after: str, cut: Cut) -> Iterator[Fact]:
        """The events up to a cut of every product after a sku: product by product in order of skus, each in order of
        versions; fast, and in constant memory."""

    @abstractmethod
    def facts_of(self, sku: str, after_version: int, until: int) -> Iterator[Fact]:
        """The events of a product after a version, up to the number `until` of its partition, in order. Raises
        `CorruptLog` if one is missing between them."""

    @abstractmethod
    def events(self, sku: str, versions: Collection[int]) -> list[EventEnvelope]:
        """The events that made these versions, in order; missing ones are left out."""

    @abstractmethod
    def events_up_to(self, position: LogPosition, limit: int) -> list[EventEnvelope]:
        """The last events of a partition up to a position, the newest first."""

    # Commands

    @abstractmethod
    def commands(self, ids: Collection[str]) -> list[Handled]:
        """What the inbox keeps under these ids; different sources may use the same id. `events` is left empty."""

    @abstractmethod
    def commands_of(self, correlation_id: str, limit: int) -> list[Handled]:
        """What the inbox keeps of one correlation, the first `limit` by time. `events` is left empty."""

    # Names

    @abstractmethod
    def skus_of_batches(self, refs: Collection[str]) -> Mapping[str, str]:
        """The sku of each of these batches that exists at present. (A batch is never removed.)"""

    @abstractmethod
    def skus_of_order(self, orderid: str) -> list[str]:
        """Every sku of which the order has or ever had a line, in order."""

    @abstractmethod
    def since(self, sku: str, orderids: Collection[str]) -> Mapping[str, int]:
        """`since` of each of these order lines that exists at present."""

    # Snapshots

    @abstractmethod
    def snapshot(self, sku: str, until: int) -> Snapshot | None:
        """The last readable snapshot of a product that is not past the number `until` of its partition."""
