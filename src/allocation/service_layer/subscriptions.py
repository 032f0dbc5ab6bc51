"""After the commit: every reaction is a subscription, a named reader of the log with a cursor of its own.

The worker reads a subscription's events from its cursor, delivers those it wants, and moves the cursor. What a
destination refuses leaves the line: its key gets a *lane*, and the cursor goes on with the other keys. The log itself
is the lane's waiting line; nothing overtakes its own key, and only a recorded discard skips an event.

Deliveries are at least once: a worker that dies after a delivery and before it moved the cursor delivers again. The
event's id is the same each time.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime

from allocation.domain.events import Event
from allocation.service_layer.envelope import EventEnvelope, LogPosition
from allocation.service_layer.read_models import ReadModels

Outcomes = Sequence[Exception | None]
"""What became of each event, in order: None, delivered; `Unavailable`, the destination is away, nothing from here on
was tried (`Busy`: and when to come again); anything else, this one was refused, and later ones of its key were not
tried."""

Deliver = Callable[[Sequence[EventEnvelope], ReadModels], Outcomes]
"""Hands events over, in order. A projection records in `ReadModels` what is to be written with the cursor."""


USUAL_PAGE = 200


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait after the n-th attempt: doubling from `first_seconds` to `most_seconds`, stretched by up to half
    by `jitter()` (0 to 1); after `attempts` a lane is parked."""

    jitter: Callable[[], float]
    first_seconds: float = 1.0
    most_seconds: float = 3600.0
    attempts: int = 10

    def seconds(self, attempt: int) -> float:
        """How long to wait after this attempt (1, 2, ...)."""
        return min(self.first_seconds * 2.0 ** (attempt - 1), self.most_seconds) * (1 + self.jitter() / 2)

    def gives_up(self, attempts: int) -> bool:
        """Whether a lane is parked after so many attempts."""
        return attempts >= self.attempts


@dataclass(frozen=True, slots=True)
class Subscription:
    """A named reader of the log: `wants` is its rule. A new one starts at the log's head, or where it began.

    `pause_seconds`: how long it lets events gather once it has caught up, for one to whom the last word is enough.
    `page`: how many events it takes at most in a round, which must not outlast the lease. `settle_seconds`: how long
    the cursor may lag behind what was delivered, for one whose destination knows what it was given: writing the cursor
    costs more than such a delivery, and after a crash that much is delivered again.
    `idle` is called with its place whenever it has nothing to deliver; it may raise `Unavailable`.
    `backoff`: a schedule of its own in place of the worker's, for lanes and for a destination that is away.
    `lease_seconds`: the lease it needs if a round of it may take longer than the worker's allows.
    """

    name: str
    wants: frozenset[type[Event]]
    deliver: Deliver
    from_the_beginning: bool = False
    pause_seconds: float = 0.0
    page: int = USUAL_PAGE
    idle: Callable[[LogPosition], None] | None = None
    settle_seconds: float = 0.0
    backoff: Backoff | None = None
    lease_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Lane:
    """A key that lags behind its subscription's cursor, from the event at `next_seq` on.

    `due_at` None: parked, until somebody says retry or discard. `discard` holds who skips the next event, and why.
    `lock_token`: somebody who pulls has events of this key in hand, until `locked_until`; after that, had.
    """

    subscription: str
    key: str
    partition: int
    next_seq: int
    attempts: int
    due_at: datetime | None
    reason: str
    discard: tuple[str, str] | None = None
    lock_token: str | None = None
    locked_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to deliver for a subscription's partition, as the owner number `epoch`, from the cursor `seq` on, and
    `until` when."""

    subscription: str
    partition: int
    owner: str
    epoch: int
    seq: int
    until: datetime


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a subscription has come in a partition (`seq`), how far the log has (`head`), and who delivers until
    when (`owner` empty: nobody ever did)."""

    subscription: str
    partition: int
    seq: int
    head: int
    owner: str
    leased_until: datetime

    @property
    def lag_events(self) -> int:
        return self.head - self.seq


@dataclass(frozen=True, slots=True)
class Discarded:
    """An event that a subscription was told to skip: who said so, and why."""

    subscription: str
    partition: int
    seq: int
    who: str
    why: str


@dataclass(slots=True)
class Settlement:
    """What a round of deliveries comes to: the cursor's new place, lanes opened or moved, lanes that caught up, events
    discarded as (lane, seq, who, why), and what projections want written. `seen` holds the lanes as they were when the
    round began."""

    seq: int
    seen: Mapping[str, Lane] = field(default_factory=dict)
    lanes: dict[str, Lane] = field(default_factory=dict)
    closed: set[str] = field(default_factory=set)
    discarded: list[tuple[Lane, int, str, str]] = field(default_factory=list)
    read_models: ReadModels = field(default_factory=ReadModels)


def heeding(lane: Lane, seen: Lane | None, current: Lane | None) -> Lane:
    """A lane as it is to be written: what was said of it while its owner worked holds, unless it has moved on."""
    if current is None or current == seen or current.next_seq != lane.next_seq:
        return lane
    return current


def first_epoch(now: datetime) -> int:
    """Where the epochs of a new subscription begin: behind those of one that had its name before and was forgotten,
    whose owner may be at work still. An epoch is a lease taken, so there are fewer than microseconds."""
    return int(now.timestamp() * 1_000_000)


@dataclass(slots=True)
class Turn:
    """A subscription's partition, for one caller alone: its cursor `seq` and its lanes by key. `read(after, limit)` and
    `read_key(lane, until, limit)` are as the store's. What is put into `settlement` is written at the end."""

    subscription: str
    partition: int
    seq: int
    lanes: Mapping[str, Lane]
    read: Callable[[int, int], Sequence[EventEnvelope]]
    read_key: Callable[[Lane, int, int], Sequence[EventEnvelope]]
    settlement: Settlement | None = None


class SubscriptionStore(ABC):
    """Cursors, leases and lanes, beside the log. Callers may not assume that a lease outlives its time, nor that they
    still hold it: `settle` says, by the epoch; clocks only decide how soon another may take over. Raises `Unavailable`
    when the store cannot be reached."""

    @abstractmethod
    def join(self, name: str, from_the_beginning: bool) -> None:
        """Make the subscription's cursors, unless it has them."""

    @abstractmethod
    def cursors(self) -> list[Cursor]:
        """Every cursor, by subscription and partition."""

    @abstractmethod
    def rewind(self, name: str, after: Sequence[LogPosition]) -> int:
        """Deliver again what stands behind `after` (a position for each partition; missing: from its start). A cursor
        only goes back, never on, and so does a lane, whichever of them is further; whoever delivers loses the lease,
        and who has pulled a key that goes back, its lock. A lane that goes back is due, and what was said of the event
        where it stood (attempts, reason, discard) is gone. Answers in how many partitions anything went back."""

    @abstractmethod
    def live(self, owner: str, seconds: float) -> int:
        """Say that this worker lives, and will for so long; answers how many do, this one included."""

    @abstractmethod
    def leave(self, owner: str) -> None:
        """This worker has stopped."""

    @abstractmethod
    def lease(
        self, name: str, partition: int, owner: str, seconds: float, patience_seconds: float = 0.0
    ) -> Lease | None:
        """Take or prolong the lease; None if another owner has it, or it has been free for less than
        `patience_seconds`. Each time raises the epoch: of two who go by one name, only the last to ask settles."""

    @abstractmethod
    def release(self, lease: Lease) -> None:
        """Let the next owner have it at once."""

    @abstractmethod
    def read(self, partition: int, after: int, limit: int) -> list[EventEnvelope]:
        """The events behind a position, in order."""

    @abstractmethod
    def time_behind(self, partition: int, after: int) -> datetime | None:
        """When the first event behind a position was written, also if it cannot be read; None: there is none."""

    @abstractmethod
    def read_key(self, lane: Lane, until: int, limit: int) -> list[EventEnvelope]:
        """The events of the lane's key from `next_seq` to `until`, in order."""

    @abstractmethod
    def lanes(self, name: str | None = None, partition: int | None = None) -> list[Lane]:
        """The lanes there are, of all subscriptions or of one."""

    @abstractmethod
    def discarded(self, partition: int, first: int, last: int) -> list[Discarded]:
        """The events that were skipped, from one number of a partition to another."""

    @abstractmethod
    def settle(self, lease: Lease, settlement: Settlement, seconds: float) -> Lease:
        """Write the settlement, its read models included, and prolong the lease, in one transaction. Raises
        `LeaseLost`, having written nothing, if the epoch has passed to another owner."""

    @abstractmethod
    def turn(self, name: str, partition: int) -> AbstractContextManager[Turn]:
        """Look and settle in one transaction, while nobody else can: for those who come and go, and hold no lease. An
        exception inside leaves everything as it was. Raises `UnknownSubscription` if there is no such cursor."""

    @abstractmethod
    def set_due(self, name: str, key: str, discard: tuple[str, str] | None = None, seq: int | None = None) -> bool:
        """Have a lane tried again now, or its next event skipped (who, why). False if there is no such lane, or `seq`
        is given and is not its next event any more: said twice, it is done once."""
