"""Peek-lock on a subscription's lanes: every key is a session. Pure decisions within one `Turn`.

A receiver gets the lock on a key, and with it the key's next event, or several. The key becomes a lane: the cursor goes
on with other keys, and nothing overtakes. Acknowledging moves the lane, and closes it once it has caught up. Source of
the numbers: Azure Service Bus (`MaxDeliveryCount`, peek-lock).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from allocation.service_layer.broker import Message
from allocation.service_layer.envelope import EventEnvelope
from allocation.service_layer.rules.values import RuleFailed
from allocation.service_layer.subscriptions import Lane, Settlement, Turn

MOST_DELIVERIES = 10
PAGE, PAGES_A_TURN = 200, 2
HEAD = 2**62

Copies = Callable[[EventEnvelope], Sequence[Message]]
"""Returns the copies of an event that a subscriber gets; none if it does not want the event. Raises `RuleFailed`."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a consumer wants to receive: up to `most` events, up to `per_key` of one key under one lock, only those of
    `key` if that is given; locked for `lock_seconds`; with a wait of up to `wait_seconds` if there are none."""

    most: int = 10
    per_key: int = 1
    lock_seconds: float = 60.0
    key: str | None = None
    wait_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Held:
    """A key that a consumer has locked: its next events, including the copies that rules make of them, under one lock.
    `delivery_count` is 1 the first time."""

    token: str
    key: str
    delivery_count: int
    locked_until: datetime
    messages: Sequence[Message]


@dataclass(slots=True)
class _Hand:
    """What has been gathered of a key so far."""

    lane: Lane
    events: list[EventEnvelope] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    is_full: bool = False

    def add(self, logged: EventEnvelope, copies: Sequence[Message]) -> None:
        self.events.append(logged)
        self.messages += copies


class Receiving:
    """One receive within a turn: first the lanes that are free, then from the cursor on.

    `is_late` says whether it should end, with what it has seen so far. It is only asked after an event has been looked
    at, and that event is not looked at again: so every turn makes progress."""

    def __init__(
        self,
        turn: Turn,
        asked: Asked,
        copies: Copies,
        now: datetime,
        mint: Callable[[], str],
        is_late: Callable[[], bool] = lambda: False,
    ) -> None:
        self._turn, self._asked, self._copies, self._now, self._mint = turn, asked, copies, now, mint
        self._is_late = is_late
        self._settlement = Settlement(turn.seq)
        self._hands: dict[str, _Hand] = {}
        self._room = asked.most
        self._reads_on = False
        self._reached_the_head = False

    @property
    def has_seen_all(self) -> bool:
        """Whether another turn would find nothing more now: it came to the head, and there was room for every free
        lane."""
        return self._reached_the_head and not self._reads_on

    def run(self) -> list[Held]:
        """Returns what is handed over; the turn's settlement says what becomes of lanes and cursor."""
        free = (lane for lane in self._turn.lanes.values() if is_free(lane, self._now))
        for lane in sorted(free, key=_waiting_since):
            if self._asked.key not in (None, lane.key):
                continue
            if not self._room or self._is_late():
                self._reads_on = True
                break
            self._take_up(lane)
        if self._asked.key is None:
            self._go_on()
        else:
            self._begin_with(self._asked.key)
        held = [self._lock(hand) for hand in self._hands.values()]
        if self._settlement != Settlement(self._turn.seq):
            self._turn.settlement = self._settlement
        return held

    def _begin_with(self, key: str) -> None:
        """Open a lane for this key that runs ahead of the cursor. The cursor stays, because other keys' events are
        there."""
        self._reached_the_head = True
        if key not in self._turn.lanes:
            name, partition, begin = self._turn.subscription, self._turn.partition, self._turn.seq + 1
            self._take_up(Lane(name, key, partition, begin, 0, self._now, ""))

    def _take_up(self, lane: Lane) -> None:
        """Take the next events of a lane, wherever the cursor is: the log is the lane's queue."""
        if lane.lock_token is not None:
            lane = given_back(lane, self._now, f"the lock ran out at {lane.locked_until:%Y-%m-%d %H:%M:%S} UTC")
            if lane.due_at is None:
                self._settlement.lanes[lane.key] = lane
                return
        limit = min(PAGE, 2 * self._asked.per_key + 10)
        events = list(self._turn.read_key(lane, HEAD, limit))
        reached = len(events) < limit
        if lane.discard is not None and events:
            skipped = events.pop(0)
            self._settlement.discarded.append((lane, skipped.position.seq, *lane.discard))
            lane = moved(lane, skipped.position.seq + 1, self._now)
        hand = _Hand(lane)
        for number, logged in enumerate(events, 1):
            if not self._gather(hand, logged):
                break
            if number < len(events) and self._is_late():
                events, reached = events[:number], False
                break
        if hand.events:
            self._hands[lane.key] = hand
        elif lane.key in self._settlement.lanes:
            return  # parked: a rule failed
        elif not reached:
            self._settlement.lanes[lane.key] = moved(lane, events[-1].position.seq + 1, self._now)
            self._reads_on = True
        elif lane.next_seq <= self._turn.seq + 1:
            self._settlement.closed.add(lane.key)
        elif events:  # it is ahead of the cursor; neither the cursor nor the next turn is to meet its events again
            self._settlement.lanes[lane.key] = moved(lane, events[-1].position.seq + 1, self._now)
        elif lane != self._turn.lanes.get(lane.key):
            self._settlement.lanes[lane.key] = lane

    def _go_on(self) -> None:
        """Read from the cursor on, until it is late, or up to the first wanted event for which there is no room."""
        for _ in range(PAGES_A_TURN):
            page = self._turn.read(self._settlement.seq, PAGE)
            for logged in page:
                if self._is_late() or not self._pass(logged):
                    return
                self._settlement.seq = logged.position.seq
            if len(page) < PAGE:
                self._reached_the_head = True
                return

    def _pass(self, logged: EventEnvelope) -> bool:
        """Whether the cursor may go past this event: it is handed over, not wanted, or its key's lane has it."""
        key = logged.key
        if key in self._turn.lanes and key not in self._settlement.closed:
            return True
        if key in self._settlement.lanes:
            return True
        if hand := self._hands.get(key):
            self._gather(hand, logged)
            return True
        name, partition = self._turn.subscription, self._turn.partition
        hand = _Hand(Lane(name, key, partition, logged.position.seq, 0, self._now, ""))
        self._gather(hand, logged)
        if hand.events:
            self._hands[key] = hand
        return not hand.is_full or bool(hand.events) or key in self._settlement.lanes

    def _gather(self, hand: _Hand, logged: EventEnvelope) -> bool:
        """Add an event to the hand if it is wanted; False: this event, and those of its key after it, have to wait."""
        if hand.is_full:
            return False
        try:
            copies = self._copies(logged)
        except RuleFailed as failure:
            hand.is_full = True
            if not hand.events:
                lane = moved(hand.lane, logged.position.seq, self._now)
                reason = f"{type(failure).__name__}: {failure}"[:1000]
                self._settlement.lanes[lane.key] = replace(lane, due_at=None, reason=reason)
            return False
        if not copies:
            return True
        # After a failure, one at a time, so that it shows which one cannot be handled.
        most = 1 if hand.lane.attempts and hand.lane.next_seq == logged.position.seq else self._asked.per_key
        if not self._room or len(hand.events) >= most:
            hand.is_full = True
            return False
        hand.add(logged, copies)
        hand.is_full = most == 1
        self._room -= 1
        return True

    def _lock(self, hand: _Hand) -> Held:
        lane = moved(hand.lane, hand.events[0].position.seq, self._now)
        until = self._now + timedelta(seconds=self._asked.lock_seconds)
        token = f"{lane.partition}-{hand.events[-1].position.seq}-{self._mint()}"
        self._settlement.lanes[lane.key] = replace(lane, lock_token=token, locked_until=until, discard=None)
        return Held(token, lane.key, lane.attempts + 1, until, hand.messages)


def is_free(lane: Lane, now: datetime) -> bool:
    """Whether a lane's next event may be handed over."""
    in_hand = lane.locked_until is not None and lane.locked_until > now
    return not in_hand and lane.due_at is not None and lane.due_at <= now


def _waiting_since(lane: Lane) -> tuple[datetime | None, int]:
    return lane.locked_until or lane.due_at, lane.next_seq


def moved(lane: Lane, next_seq: int, now: datetime) -> Lane:
    """The lane at another event, free, with attempts counted from 0; the lane itself if it is there already."""
    if lane.next_seq == next_seq and lane.lock_token is None:
        return lane
    return Lane(lane.subscription, lane.key, lane.partition, next_seq, 0, now, "")


def given_back(lane: Lane, due_at: datetime, reason: str) -> Lane:
    """A lane whose events were handed over and not done: free again at `due_at`, or parked after `MOST_DELIVERIES`."""
    attempts = lane.attempts + 1
    free = replace(lane, attempts=attempts, due_at=due_at, reason=reason, lock_token=None, locked_until=None)
    if attempts < MOST_DELIVERIES:
        return free
    return replace(free, due_at=None, reason=f"MaxDeliveryCountExceeded: delivered {attempts} times; {reason}")


def held_by(turn: Turn, tokens: Iterable[str], now: datetime) -> dict[str, Lane]:
    """The lanes whose locks are still valid, by token."""
    wanted = set(tokens)
    return {
        lane.lock_token: lane
        for lane in turn.lanes.values()
        if lane.lock_token in wanted and lane.locked_until is not None and lane.locked_until > now
    }


def acknowledge(turn: Turn, held: Iterable[tuple[str, Lane]], now: datetime) -> Settlement:
    """Moves the lanes past what was acknowledged; those that have caught up close."""
    settlement = Settlement(turn.seq)
    on = [moved(lane, int(token.split("-")[1]) + 1, now) for token, lane in held]
    if not on:
        return settlement
    limit = min(PAGE, 2 * len(on) + 20)
    page = turn.read(min(lane.next_seq for lane in on) - 1, limit)
    looked_at = page[-1].position.seq if len(page) == limit else HEAD
    last = {logged.key: logged.position.seq for logged in page if logged.position.seq <= turn.seq}
    for lane in on:
        # Only lanes that end before the cursor may close: the cursor would meet the events of the others once more.
        if lane.next_seq <= turn.seq + 1 and turn.seq <= looked_at and last.get(lane.key, 0) < lane.next_seq:
            settlement.closed.add(lane.key)
        else:
            settlement.lanes[lane.key] = lane
    return settlement
