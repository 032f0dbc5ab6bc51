"""After the commit: every reaction is a subscription, a named reader of the log with a cursor of its own.

The worker reads a subscription's events from its cursor, delivers those it wants, and moves the cursor. If a
destination refuses an event, its key gets a *lane*, and the cursor goes on with the other keys. The log itself is the
lane's queue; nothing overtakes an earlier event of its own key, and only a recorded discard skips an event.

Deliveries are at least once: if a worker dies after a delivery and before it has moved the cursor, the event is
delivered again. Its id is the same each time.
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
"""What became of each event, in order. None: it was delivered. `Unavailable`: the destination cannot be reached, and
nothing from here on was tried (`Busy` also says when to try again). Anything else: this event was refused, and later
ones of its key were not tried."""

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
    """A named reader of the log: `wants` names the events that it gets. A new one starts at the log's head, or at its
    beginning.

    `pause_seconds`: how long it lets events gather once it has caught up, if the latest one of each key is enough for
    it. `page`: how many events it takes at most in a round, which must not outlast the lease. `settle_seconds`: how
    long the cursor may lag behind what was delivered, if the destination knows what it was given: writing the cursor
    costs more than such a delivery, and after a crash that much is delivered again. `idle` is called with its place
    whenever it has nothing to deliver; it may raise `Unavailable`. `backoff`: a schedule of its own in place of the
    worker's, for lanes and for a destination that cannot be reached. `lease_seconds`: the lease that it needs if one of
    its rounds may take longer than the worker's lease allows.
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

    `due_at` None: it is parked, until somebody retries or discards its event. `discard` says who wants the next event
    skipped, and why. `lock_token`: a puller holds events of this key, until `locked_until`; after that, it held them.
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
    """The right to deliver for a subscription's partition, from the cursor `seq` on, `until` a moment. `epoch` tells it
    from earlier and later leases."""

    subscription: str
    partition: int
    owner: str
    epoch: int
    seq: int
    until: datetime


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a subscription has come in a partition (`seq`), how far the log has (`head`), and who delivers, and until
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
    """The result of a round of deliveries: the cursor's new place, lanes opened or moved, lanes that caught up, events
    discarded as (lane, seq, who, why), and what projections want written. `seen` holds the lanes as they were when the
    round began."""

    seq: int
    seen: Mapping[str, Lane] = field(default_factory=dict)
    lanes: dict[str, Lane] = field(default_factory=dict)
    closed: set[str] = field(default_factory=set)
    discarded: list[tuple[Lane, int, str, str]] = field(default_factory=list)
    read_models: ReadModels = field(default_factory=ReadModels)


def heeding(lane: Lane, seen: Lane | None, current: Lane | None) -> Lane:
    """A lane as it is to be written: if somebody changed it while its owner worked, that change holds, unless the lane
    has moved on."""
    if current is None or current == seen or current.next_seq != lane.next_seq:
        return lane
    return current


def first_epoch(now: datetime) -> int:
    """Where the epochs of a new subscription begin: after those of a forgotten one of the same name, whose owner may
    still be at work. Each lease taken adds one epoch, so there are fewer epochs than microseconds."""
    return int(now.timestamp() * 1_000_000)


@dataclass(slots=True)
class Turn:
    """A subscription's partition, for one caller alone: its cursor `seq`, and its lanes by key. `read(after, limit)`
    and `read_key(lane, until, limit)` work as the store's do. What is put into `settlement` is written at the end."""

    subscription: str
    partition: int
    seq: int
    lanes: Mapping[str, Lane]
    read: Callable[[int, int], Sequence[EventEnvelope]]
    read_key: Callable[[Lane, int, int], Sequence[EventEnvelope]]
    settlement: Settlement | None = None


class SubscriptionStore(ABC):
    """Cursors, leases and lanes, beside the log. Callers may not assume that a lease outlives its time, nor that they
    still hold it: `settle` checks that, by the epoch; clocks only decide how soon another owner may take over. Raises
    `Unavailable` when the store cannot be reached."""

    @abstractmethod
    def join(self, name: str, from_the_beginning: bool) -> None:
        """Make the subscription's cursors, unless it has them."""

    @abstractmethod
    def cursors(self) -> list[Cursor]:
        """Every cursor, by subscription and partition."""

    @abstractmethod
    def rewind(self, name: str, after: Sequence[LogPosition]) -> int:
        """Deliver again what stands after `after` (a position for each partition; missing: from its start). A cursor
        only goes back, never forward, and so does a lane; each goes back only if it is further on. The worker that
        delivers loses its lease, and a puller loses its lock on a key that goes back. A lane that goes back is due, and
        what was recorded of the event where it stood (attempts, reason, discard) is gone. Returns in how many
        partitions anything went back."""

    @abstractmethod
    def live(self, owner: str, seconds: float) -> int:
        """Record that this worker lives, and will for `seconds`. Returns how many do, this one included."""

    @abstractmethod
    def leave(self, owner: str) -> None:
        """Record that this worker has stopped."""

    @abstractmethod
    def lease(
        self, name: str, partition: int, owner: str, seconds: float, patience_seconds: float = 0.0
    ) -> Lease | None:
        """Take or prolong the lease; None if another owner has it, or it has been free for less than
        `patience_seconds`. Each call that gets it raises the epoch: of two workers with one name, only the last to ask
        can settle."""

    @abstractmethod
    def release(self, lease: Lease) -> None:
        """Let the next owner have it at once."""

    @abstractmethod
    def read(self, partition: int, after: int, limit: int) -> list[EventEnvelope]:
        """The events after a position, in order."""

    @abstractmethod
    def time_behind(self, partition: int, after: int) -> datetime | None:
        """When the first event after a position was written, even if it cannot be read; None: there is none."""

    @abstractmethod
    def read_key(self, lane: Lane, until: int, limit: int) -> list[EventEnvelope]:
        """The events of the lane's key from `next_seq` to `until`, in order."""

    @abstractmethod
    def lanes(self, name: str | None = None, partition: int | None = None) -> list[Lane]:
        """The lanes there are, of all subscriptions or of one."""

    @abstractmethod
    def discarded(self, partition: int, first: int, last: int) -> list[Discarded]:
        """The events of a partition that were skipped, from one number to another."""

    @abstractmethod
    def settle(self, lease: Lease, settlement: Settlement, seconds: float) -> Lease:
        """Write the settlement, its read models included, and prolong the lease, in one transaction. Raises
        `LeaseLost`, having written nothing, if the epoch has passed to another owner."""

    @abstractmethod
    def turn(self, name: str, partition: int) -> AbstractContextManager[Turn]:
        """Look and settle in one transaction, while nobody else can: for callers that come and go, and hold no lease.
        An exception inside leaves everything as it was. Raises `UnknownSubscription` if there is no such cursor."""

    @abstractmethod
    def set_due(self, name: str, key: str, discard: tuple[str, str] | None = None, seq: int | None = None) -> bool:
        """Have a lane retried now, or its next event skipped (`discard`: who, why). False if there is no such lane, or
        if `seq` is given and is no longer its next event: so a call that is repeated takes effect once."""
