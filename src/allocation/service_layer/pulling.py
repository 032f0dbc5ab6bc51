"""Pull: receive, acknowledge, release, reject and renew, for any number of competing consumers.

While one consumer holds an event, no other gets it, nor later events of the same key; a lock that runs out gives it
back. Deliveries are at least once: if a consumer dies after its work and before it has acknowledged, the event is
delivered again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import count
from threading import BoundedSemaphore, Condition
from threading import Event as Flag

from allocation.service_layer.broker import Message
from allocation.service_layer.definitions import Definition, Definitions, NotPulled, RuleBook
from allocation.service_layer.envelope import Clock, EventEnvelope, Ids, partition_of
from allocation.service_layer.errors import UnknownSubscription
from allocation.service_layer.facts import fact_of
from allocation.service_layer.pull_locks import (
    Asked,
    Copies,
    Held,
    Receiving,
    acknowledge,
    given_back,
    held_by,
    is_free,
)
from allocation.service_layer.rules.copies import copies_of
from allocation.service_layer.subscriptions import Lane, Settlement, SubscriptionStore, Turn
from allocation.service_layer.waiting import Timer

LOOK_AGAIN_SECONDS = 0.5
"""How often to look while a consumer waits: other processes may commit, and locks and delays may run out."""

MOST_RULE_SECONDS = 0.1
"""How long rules are evaluated within one turn: meanwhile nobody else can pull from this subscription, nor, on SQLite,
commit. One event may take longer; the turn ends with it."""

LONGEST_SEARCH_SECONDS = 1.0
"""How long a receive goes on past events that no rule wants, before it returns without having seen all."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a token: done, or its lock had been lost; `locked_until` if it was renewed."""

    token: str
    is_lost: bool
    locked_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Received:
    """What a consumer now holds. `has_seen_all`: apart from events that are held, there is nothing more; else there may
    be more, even if nothing was found so far, and it is worth asking again at once."""

    held: Sequence[Held]
    has_seen_all: bool


class Chime:
    """Lets waiting callers know that the log grew. A ring between looking and waiting is not missed."""

    def __init__(self) -> None:
        self._rung = 0
        self._changed = Condition()

    def ring(self) -> None:
        with self._changed:
            self._rung += 1
            self._changed.notify_all()

    def count(self) -> int:
        return self._rung

    def wait(self, since: int, seconds: float) -> None:
        """Wait until it was rung after `since` (a `count`), or `seconds` have passed."""
        with self._changed:
            self._changed.wait_for(lambda: self._rung != since, seconds)


class _Judging:
    """Makes the copies of one turn's events, and says when that has taken too long."""

    def __init__(self, copies: Copies, timer: Timer) -> None:
        self._copies, self._timer = copies, timer
        self.spent_seconds = 0.0

    def copies(self, logged: EventEnvelope) -> Sequence[Message]:
        begun = self._timer.seconds()
        try:
            return self._copies(logged)
        finally:
            self.spent_seconds += self._timer.seconds() - begun

    def is_late(self) -> bool:
        return self.spent_seconds >= MOST_RULE_SECONDS


class Pulling:
    """The consumers' side of subscriptions that are pulled. Threads share it; processes meet in the store.

    All methods raise `UnknownSubscription`, `NotPulled` and `Unavailable`. `most_waiting` callers at a time may wait
    (0: none); further callers are answered at once.
    """

    def __init__(
        self,
        definitions: Definitions,
        store: SubscriptionStore,
        rules: RuleBook,
        clock: Clock,
        ids: Ids,
        timer: Timer,
        partitions: int = 1,
        most_waiting: int = 4,
        chime: Chime | None = None,
    ) -> None:
        self._definitions, self._store, self._rules = definitions, store, rules
        self._clock, self._ids, self._timer, self._partitions = clock, ids, timer, partitions
        self._waiting, self._chime = BoundedSemaphore(most_waiting), chime or Chime()
        self._turns, self._leaving = count(), Flag()

    def wake(self) -> None:
        """There may be something to receive. Costs next to nothing, and may be called from any thread."""
        self._chime.ring()

    def leave(self) -> None:
        """This process is about to stop: nobody waits any more. May be called from any thread."""
        self._leaving.set()
        self._chime.ring()

    def receive(self, name: str, asked: Asked) -> Received:
        """The next events, in order of the log for each key."""
        if not asked.wait_seconds or not self._waiting.acquire(blocking=False):
            return self._look(name, asked)
        try:
            end = self._timer.seconds() + asked.wait_seconds
            while True:
                rung = self._chime.count()
                received = self._look(name, asked)
                left_seconds = end - self._timer.seconds()
                if received.held or left_seconds <= 0 or self._leaving.is_set():
                    return received
                if received.has_seen_all:
                    self._chime.wait(rung, min(left_seconds, LOOK_AGAIN_SECONDS))
        finally:
            self._waiting.release()

    def acknowledge(self, name: str, tokens: Sequence[str]) -> list[Outcome]:
        """The events are done, and not to come again. Their keys are free for what comes next."""

        def settle(turn: Turn, held: Mapping[str, Lane]) -> Settlement:
            return acknowledge(turn, held.items(), self._clock.now())

        return self._settle(name, tokens, settle)

    def release(self, name: str, tokens: Sequence[str], delay_seconds: float = 0.0) -> list[Outcome]:
        """The events are not done, and come again after `delay_seconds`. After `MOST_DELIVERIES` they are parked."""
        due = self._clock.now() + timedelta(seconds=delay_seconds)
        return self._change(name, tokens, lambda lane: given_back(lane, due, "released by its consumer"))

    def reject(self, name: str, tokens: Sequence[str], reason: str) -> list[Outcome]:
        """The events cannot be handled: their key is parked with the reason, until somebody retries or discards. If
        somebody has decided to discard already, that is carried out."""
        told, now = f"Rejected: {reason}", self._clock.now()
        return self._change(
            name,
            tokens,
            lambda lane: replace(
                lane,
                attempts=lane.attempts + 1,
                due_at=None if lane.discard is None else now,
                reason=told,
                lock_token=None,
                locked_until=None,
            ),
        )

    def renew(self, name: str, tokens: Sequence[str], lock_seconds: float = 60.0) -> list[Outcome]:
        """The work takes longer: keep the lock for `lock_seconds` from now."""
        until = self._clock.now() + timedelta(seconds=lock_seconds)
        outcomes = self._change(name, tokens, lambda lane: replace(lane, locked_until=until))
        return [outcome if outcome.is_lost else replace(outcome, locked_until=until) for outcome in outcomes]

    def _definition(self, name: str) -> Definition:
        found = self._definitions.get(name)
        if found is None:
            raise UnknownSubscription(name)
        if found.delivery != "pull":
            raise NotPulled(name)
        return found

    def _copies(self, name: str) -> Copies:
        """By the rules as they are now: while somebody waits or searches, others may define them anew."""
        rules = self._rules.rules(self._definition(name))

        return lambda logged: copies_of(rules, fact_of(logged))

    def _look(self, name: str, asked: Asked) -> Received:
        """Looks once at every partition that may have something, starting with a different one each time."""
        first = next(self._turns)
        held: list[Held] = []
        has_seen_all = True
        partitions = [(first + n) % self._partitions for n in range(self._partitions)]
        if asked.key is not None:
            partitions = [partition_of(asked.key, self._partitions)]
        behind = self._behind(name)
        if behind.isdisjoint(partitions):
            self._definition(name)  # it may be gone, and nothing below would say so
        for partition in partitions:
            if partition not in behind:
                continue
            if len(held) >= asked.most:
                return Received(held, has_seen_all=False)
            found = self._receive(name, partition, replace(asked, most=asked.most - len(held)))
            held += found.held
            has_seen_all = has_seen_all and found.has_seen_all
        return Received(held, has_seen_all)

    def _behind(self, name: str) -> set[int]:
        """The partitions that may have something, found without holding anybody up."""
        now = self._clock.now()
        lagging = {c.partition for c in self._store.cursors() if c.subscription == name and c.lag_events}
        return lagging | {lane.partition for lane in self._store.lanes(name) if is_free(lane, now)}

    def _receive(self, name: str, partition: int, asked: Asked) -> Received:
        end = self._timer.seconds() + LONGEST_SEARCH_SECONDS
        while True:
            judging = _Judging(self._copies(name), self._timer)
            with self._store.turn(name, partition) as turn:
                now = self._clock.now()
                receiving = Receiving(turn, asked, judging.copies, now, self._ids.new, judging.is_late)
                held = receiving.run()
            if held or receiving.has_seen_all or self._timer.seconds() >= end:
                return Received(held, receiving.has_seen_all)
            if judging.is_late():
                self._timer.pause(judging.spent_seconds)  # others get their turn: half of the time is theirs

    def _change(self, name: str, tokens: Sequence[str], change: Callable[[Lane], Lane]) -> list[Outcome]:
        def settle(turn: Turn, held: Mapping[str, Lane]) -> Settlement:
            return Settlement(turn.seq, lanes={lane.key: change(lane) for lane in held.values()})

        return self._settle(name, tokens, settle)

    def _settle(
        self, name: str, tokens: Sequence[str], settle: Callable[[Turn, Mapping[str, Lane]], Settlement]
    ) -> list[Outcome]:
        self._definition(name)
        good: set[str] = set()
        for partition in sorted(self._partitions_of(tokens)):
            with self._store.turn(name, partition) as turn:
                held = held_by(turn, tokens, self._clock.now())
                if held:
                    turn.settlement = settle(turn, held)
            good |= held.keys()
        if good:
            self.wake()
        return [Outcome(token, token not in good) for token in tokens]

    def _partitions_of(self, tokens: Iterable[str]) -> set[int]:
        """The partitions of the locks, as the tokens themselves say; none for a string that is not a token."""
        named = {token.partition("-")[0] for token in tokens}
        return {n for n in range(self._partitions) if str(n) in named}
