"""The log and the tables side by side, as they are read to be checked: a port."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from allocation.domain.events import Event
from allocation.domain.model import Batch, OrderLine
from allocation.service_layer.envelope import LogPosition
from allocation.service_layer.history.snapshots import Snapshot
from allocation.service_layer.read_models import Movements, StockLevel

BatchFields = tuple[str, str, int, int, date | None, int, date | None]
"""reference, sku, purchased quantity, allocated quantity, ETA, and the quantity and ETA it was created with."""

LineFields = tuple[str, str, int, str | None, int]
"""orderid, sku, quantity, batch reference (None: it waits), since which version."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Takes the place of what a row holds if that cannot be read, or is impossible."""

    reason: str


Logged = tuple[int, Event | Unreadable, int, str]
"""version, event, its position in the partition, and its day (UTC, ISO 8601)."""


KeptSnapshot = tuple[LogPosition, Snapshot | Unreadable]
"""A snapshot, and the position at which it says that its event is."""


@dataclass(frozen=True, slots=True)
class Projected:
    """What the read models hold of a product: the stock level, and what moved, by day; each with the position up to
    which its projection has seen the product's events. `snapshots` come in order, and can be iterated once."""

    level: StockLevel | Unreadable | None = None
    levels_until: int = 0
    movements: Mapping[str, Movements] = field(default_factory=dict)
    movements_until: int = 0
    snapshots: Iterable[KeptSnapshot] = ()


@dataclass(slots=True)
class Stored:
    """A product as the log and the tables have it. `version` is that of its row; None: there is no row.

    `events` come in order, and can be iterated once. `lines` are those of the sku, and those of any sku that are on one
    of its batches. `projected` None: its read models are not checked now.
    """

    sku: str
    version: int | None
    events: Iterable[Logged]
    batches: Sequence[BatchFields] = ()
    lines: Sequence[LineFields] = ()
    projected: Projected | None = None


@dataclass(slots=True)
class Correction:
    """What corrects the rows of a product. `version` 0: it should have no row."""

    version: int
    batches: list[Batch] = field(default_factory=list)
    batches_gone: list[str] = field(default_factory=list)
    lines: list[OrderLine] = field(default_factory=list)
    lines_gone: list[tuple[str, str]] = field(default_factory=list)


class Locked(ABC):
    """A product under its lock: nobody else writes it until the context ends."""

    stored: Stored

    @abstractmethod
    def correct(self, correction: Correction) -> None:
        """Write it when the context ends."""


class Projecting(ABC):
    """A product whose read models nobody else writes until the context ends. `stored` holds its events and read models,
    and no rows of state."""

    stored: Stored

    @abstractmethod
    def correct(
        self,
        level: StockLevel | None,
        movements: Mapping[str, Movements],
        snapshots: Mapping[LogPosition, Snapshot | None],
    ) -> None:
        """Write exactly this when the context ends; of the snapshots, only those that were wrong (None: delete it)."""


LogRow = tuple[int, str, Any, str | None, bool]
"""seq, sku, time (to be compared with others only), id of the command that led to it, and whether the inbox holds that
command with this position."""


@dataclass(frozen=True, slots=True)
class LogPage:
    """Rows of a log partition, in order. If `head` is set, they reach the end, and `head` is what the partition's
    counter says: the seq and time of the last event."""

    rows: Sequence[LogRow]
    head: tuple[int, Any] | None


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found, up to `until` (None: to the end), having looked at `looked_at` rows."""

    until: str | None
    looked_at: int
    rows: Sequence[Any] = ()


def led_elsewhere(position: LogPosition) -> str:
    """What is wrong with a command that is recorded as having led to the event at `position`, and did not."""
    return f"it points at {position}, which it did not lead to"


class Books(ABC):
    """The log and the tables. Every answer is from one moment, and writers do not wait for it.

    Callers may not assume that two answers are from the same moment, that the tables follow the log, or that the log is
    complete: finding that out is what this port is for. Raises `Unavailable` when the store cannot be reached.
    """

    @abstractmethod
    def heads(self) -> dict[int, int]:
        """How long each log partition says it is."""

    @abstractmethod
    def holes(self) -> set[int]:
        """The log partitions that do not hold exactly the events that their counter says."""

    @abstractmethod
    def log(self, partition: int, after: int, limit: int) -> LogPage:
        """The rows after a position, at most `limit`."""

    @abstractmethod
    def products(self, after: str, most: int, most_events: int) -> AbstractContextManager[Sequence[Stored]]:
        """The next products, by sku, that the log or any table knows: at most `most`, and with at most `most_events`
        events together (but at least one product). To be read inside the context."""

    @abstractmethod
    def false_commands(self, after: str, limit: int) -> Found:
        """Of the next `limit` commands, by id, those (id, source, problem) whose position in the log holds no event
        that they led to (one with their id and correlation), or that cannot be read, or whose answer cannot be
        read."""

    @abstractmethod
    def strays(self, after: str, limit: int) -> Found:
        """Look at the lines up to the next `limit` batches, by reference: those (orderid, sku, batch reference) on a
        reference that no batch has."""

    @abstractmethod
    def doubled_ids(self) -> list[str]:
        """Ids that more than one event has; a hundred at most."""

    @abstractmethod
    def locked(self, sku: str, after_version: int, orderids: Collection[str]) -> AbstractContextManager[Locked]:
        """Lock a product and read it: its events after a version, its rows, and among the lines also those of these
        orders, wherever they are. Raises `Conflict` if the lock cannot be taken in time."""

    @abstractmethod
    def projecting(self, sku: str) -> AbstractContextManager[Projecting]:
        """Hold the projections of a product's partition, and read what they wrote of it. Called only if `projected` was
        set. Raises `Conflict` if they cannot be held in time."""
