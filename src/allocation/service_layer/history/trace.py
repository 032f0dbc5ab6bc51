"""What followed from one request: commands, their events, the deliveries of these, and the commands they caused."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from itertools import takewhile

from allocation.domain.events import Event
from allocation.service_layer.envelope import EventEnvelope, LogPosition
from allocation.service_layer.history.ports import History
from allocation.service_layer.subscriptions import Cursor, Discarded, Lane, SubscriptionStore
from allocation.service_layer.unit_of_work import Handled

MOST_COMMANDS, MOST_EVENTS = 200, 2_000
_USUAL = 10  # most commands lead to one or two events, some to thousands

Wants = Mapping[str, frozenset[type[Event]]]
"""What each subscription wants, by its name up to the colon, if it has one."""


class Outcome(StrEnum):
    """How far a subscription has come with an event."""

    PASSED = "passed"
    WAITS = "waits"
    IN_HAND = "in hand"
    RETRYING = "retrying"
    PARKED = "parked"
    DISCARDED = "discarded"


@dataclass(frozen=True, slots=True)
class Delivery:
    """One subscription and one event. `passed`: its cursor has passed the event, which was delivered unless the
    subscription is younger, or one of its rules left the event out. `in hand`: a puller holds it, until `due_at`.
    `because` says why it is not delivered, `due_at` when it is tried again."""

    subscription: str
    outcome: Outcome
    because: str = ""
    due_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class TracedEvent:
    """An event, its deliveries, and the commands that it led to."""

    logged: EventEnvelope
    deliveries: Sequence[Delivery]
    commands: Sequence[TracedCommand]


@dataclass(frozen=True, slots=True)
class TracedCommand:
    """A command, its first events, and the commands that name it, rather than one of its events, as their cause.
    `events_left_out`: how many more of its events follow directly in the log."""

    handled: Handled
    events: Sequence[TracedEvent]
    commands: Sequence[TracedCommand]
    events_left_out: int = 0


@dataclass(frozen=True, slots=True)
class Trace:
    """The commands of a correlation, as the trees that they form. `more`: further commands are left out."""

    commands: Sequence[TracedCommand]
    more: bool


def trace(
    history: History,
    subscriptions: SubscriptionStore,
    wants: Wants,
    correlation_id: str,
    now: datetime,
    limit: int = MOST_COMMANDS,
) -> Trace:
    """The first `limit` commands of a correlation, as it stands `now`. Empty: nothing of it was stored, as when a
    command was refused and brought no id of its own.

    The commands share `MOST_EVENTS` equally: of each, the first events are shown. A command whose cause is an event
    that is not shown becomes a root. A subscription that is not in `wants` is taken to want every event.
    """
    commands = history.commands_of(correlation_id, limit + 1)
    more = len(commands) > limit
    commands = commands[:limit]
    found = [events_of(history, done, MOST_EVENTS // len(commands)) for done in commands]
    standing = Standing.of(subscriptions, wants, [logged for events, _ in found for logged in events], now)
    forest = _Forest()
    for done, (events, count) in zip(commands, found, strict=True):
        forest.add(done, [(logged, standing.deliveries(logged)) for logged in events], count - len(events))
    return Trace(forest.roots(), more)


class _Forest:
    """Puts commands below what they name as their cause. Senders choose ids and causes: if commands form a circle, the
    first of them is a root."""

    def __init__(self) -> None:
        self._told: list[TracedCommand] = []
        self._below: dict[str, list[TracedCommand]] = {}  # by the id of the cause
        self._of: dict[str, int] = {}  # the command that such an id belongs to, by its place in `_told`

    def add(
        self, done: Handled, events: Iterable[tuple[EventEnvelope, Sequence[Delivery]]], events_left_out: int
    ) -> None:
        told = [TracedEvent(logged, deliveries, self._place(logged.id)) for logged, deliveries in events]
        self._told.append(TracedCommand(done, told, self._place(done.envelope.id), events_left_out))

    def _place(self, cause: str) -> list[TracedCommand]:
        """The list for the commands that this cause led to; of two causes with one id, the first gets them."""
        if cause in self._below:
            return []
        self._of[cause] = len(self._told)
        self._below[cause] = []
        return self._below[cause]

    def roots(self) -> list[TracedCommand]:
        roots: list[TracedCommand] = []
        causes = self._causes()
        for place, told in enumerate(self._told):
            branch = self._below[told.handled.envelope.causation_id or ""] if place in causes else roots
            branch.append(told)
        return roots

    def _causes(self) -> Mapping[int, int]:
        """The parent of each command. The last command comes first, so that a circle is opened at its first command."""
        causes: dict[int, int] = {}
        for place in reversed(range(len(self._told))):
            cause = above = self._of.get(self._told[place].handled.envelope.causation_id or "")
            while above is not None and above != place:
                above = causes.get(above)
            if cause is not None and above is None:
                causes[place] = cause
        return causes


def events_of(history: History, done: Handled, most: int) -> tuple[list[EventEnvelope], int]:
    """The first `most` events of a command, and how many it has. They are of one product, and adjacent in the log, the
    last one at the command's position: if there are many, the first is found by binary search."""
    last = done.position
    if last is None:
        return [], 0
    usual = list(takewhile(lambda logged: _is_of(logged, done), history.events_up_to(last, _USUAL)))
    if len(usual) < _USUAL:
        return usual[::-1][:most], len(usual)
    newest = usual[0]

    def is_mine(seq: int) -> bool:
        found = history.events_up_to(LogPosition(last.partition, seq), 1)
        if not found:
            return False  # the beginning of the log is missing
        in_turn = (found[0].key, last.seq - seq) == (newest.key, newest.version - found[0].version)
        return in_turn and _is_of(found[0], done)

    earliest = last.seq - newest.version + 1  # a product has no more events than versions
    first = bisect_left(range(last.seq), True, lo=max(earliest, 1), key=is_mine)
    count = last.seq - first + 1
    told = min(count, most)
    return history.events_up_to(LogPosition(last.partition, first + told - 1), told)[::-1], count


def _is_of(logged: EventEnvelope, done: Handled) -> bool:
    origin = done.envelope
    return (logged.causation_id, logged.correlation_id) == (origin.id, origin.correlation_id)


class Standing:
    """How far every subscription has come."""

    def __init__(
        self,
        cursors: Iterable[Cursor],
        lanes: Iterable[Lane],
        discarded: Iterable[Discarded],
        wants: Wants,
        now: datetime,
    ) -> None:
        self._cursors = list(cursors)
        self._lanes = {(lane.subscription, lane.key): lane for lane in lanes}
        self._discarded = {(x.subscription, x.partition, x.seq): x for x in discarded}
        self._wants, self._now = wants, now

    @classmethod
    def of(
        cls, subscriptions: SubscriptionStore, wants: Wants, events: Sequence[EventEnvelope], now: datetime
    ) -> Standing:
        """As the store has it now, for these events. Cursors come first and discards last: a lane that ends meanwhile
        leaves its event behind the cursor, and recorded if it was discarded."""
        places: dict[int, list[int]] = {}
        for logged in events:
            places.setdefault(logged.position.partition, []).append(logged.position.seq)
        cursors, lanes = subscriptions.cursors(), subscriptions.lanes()
        discarded = [x for n, seqs in places.items() for x in subscriptions.discarded(n, min(seqs), max(seqs))]
        return cls(cursors, lanes, discarded, wants, now)

    def deliveries(self, logged: EventEnvelope) -> list[Delivery]:
        """What became of an event, by subscription, without those that do not want it."""
        return [
            self._delivery(cursor, logged)
            for cursor in self._cursors
            if cursor.partition == logged.position.partition
            and type(logged.event) in self._wants.get(cursor.subscription.partition(":")[0], {type(logged.event)})
        ]

    def _delivery(self, cursor: Cursor, logged: EventEnvelope) -> Delivery:
        name, place = cursor.subscription, logged.position
        lane = self._lanes.get((name, logged.key))
        if lane is not None and lane.next_seq <= place.seq:
            return self._in_lane(name, lane, place.seq)
        if cursor.seq < place.seq:
            return Delivery(name, Outcome.WAITS, f"it has reached {cursor.partition}-{cursor.seq}")
        if said := self._discarded.get((name, place.partition, place.seq)):
            return Delivery(name, Outcome.DISCARDED, f"by {said.who}: {said.why}")
        return Delivery(name, Outcome.PASSED)

    def _in_lane(self, name: str, lane: Lane, seq: int) -> Delivery:
        in_hand = lane.locked_until is not None and lane.locked_until > self._now
        due_at = lane.locked_until if in_hand else lane.due_at
        if lane.next_seq != seq:
            because = [f"behind {lane.partition}-{lane.next_seq}", *([lane.reason] if lane.reason else [])]
            return Delivery(name, Outcome.WAITS, ": ".join(because), due_at)
        if in_hand:
            return Delivery(name, Outcome.IN_HAND, lane.reason, due_at)
        tried = Outcome.RETRYING if lane.attempts else Outcome.WAITS
        return Delivery(name, Outcome.PARKED if due_at is None else tried, lane.reason, due_at)
