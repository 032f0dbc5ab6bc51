"""Cursors, leases, lanes and dead letters in plain memory, beside a `MemoryStore`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from itertools import count
from threading import Lock

from allocation.adapters.memory import MemoryStore
from allocation.adapters.serialization import text_of
from allocation.service_layer.envelope import Clock, EventEnvelope, LogPosition
from allocation.service_layer.errors import LeaseLost, UnknownSubscription
from allocation.service_layer.ports import DeadLetter, DeadLetters
from allocation.service_layer.subscriptions import (
    Cursor,
    Discarded,
    Lane,
    Lease,
    Settlement,
    SubscriptionStore,
    Turn,
    first_epoch,
    heeding,
)


@dataclass(slots=True)
class _Cursor:
    seq: int
    owner: str
    epoch: int
    leased_until: datetime


class MemorySubscriptionStore(SubscriptionStore):
    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self._lock = Lock()
        self._cursors: dict[tuple[str, int], _Cursor] = {}
        self._lanes: dict[tuple[str, str], Lane] = {}
        self._live: dict[str, datetime] = {}
        self._discarded: list[tuple[Lane, int, str, str]] = []

    def join(self, name: str, from_the_beginning: bool) -> None:
        now = self._store.clock.now()
        with self._lock, self._store.lock:
            for partition, log in enumerate(self._store.log):
                start = 0 if from_the_beginning else len(log)
                self._cursors.setdefault((name, partition), _Cursor(start, "", first_epoch(now), now))

    def cursors(self) -> list[Cursor]:
        with self._lock, self._store.lock:
            return [
                Cursor(name, partition, c.seq, len(self._store.log[partition]), c.owner, c.leased_until)
                for (name, partition), c in sorted(self._cursors.items())
            ]

    def rewind(self, name: str, after: Sequence[LogPosition]) -> int:
        start = {position.partition: position.seq for position in after}
        moved, now = 0, self._store.clock.now()
        with self._lock:
            for (of, partition), cursor in self._cursors.items():
                seq = start.get(partition, 0)
                if of != name:
                    continue
                # Done in any case: the owner may have come further than the cursor says.
                cursor.owner, cursor.epoch, cursor.leased_until = "", cursor.epoch + 1, now
                # Also where the cursor stays: a puller of one key can take its lane beyond the cursor.
                ahead = [
                    place
                    for place, lane in self._lanes.items()
                    if lane.subscription == name and lane.partition == partition and lane.next_seq > seq + 1
                ]
                moved += cursor.seq > seq or bool(ahead)
                cursor.seq = min(cursor.seq, seq)
                for _, key in ahead:
                    self._lanes[name, key] = Lane(name, key, partition, seq + 1, 0, now, "")
        return moved

    def live(self, owner: str, seconds: float) -> int:
        now = self._store.clock.now()
        with self._lock:
            self._live[owner] = now + timedelta(seconds=seconds)
            return sum(until > now for until in self._live.values())

    def leave(self, owner: str) -> None:
        with self._lock:
            self._live.pop(owner, None)

    def lease(
        self, name: str, partition: int, owner: str, seconds: float, patience_seconds: float = 0.0
    ) -> Lease | None:
        now = self._store.clock.now()
        with self._lock:
            cursor = self._cursors.get((name, partition))
            if cursor is None:
                return None
            if cursor.owner != owner or cursor.leased_until <= now:
                if cursor.leased_until > now - timedelta(seconds=patience_seconds):
                    return None
                cursor.owner = owner
            cursor.epoch += 1
            cursor.leased_until = now + timedelta(seconds=seconds)
            return Lease(name, partition, owner, cursor.epoch, cursor.seq, cursor.leased_until)

    def release(self, lease: Lease) -> None:
        with self._lock:
            cursor = self._cursors.get((lease.subscription, lease.partition))
            if cursor is not None and cursor.epoch == lease.epoch:
                cursor.leased_until = self._store.clock.now()

    def read(self, partition: int, after: int, limit: int) -> list[EventEnvelope]:
        with self._store.lock:
            return self._store.log[partition][after : after + limit]

    def time_behind(self, partition: int, after: int) -> datetime | None:
        behind = self.read(partition, after, 1)
        return behind[0].time if behind else None

    def read_key(self, lane: Lane, until: int, limit: int) -> list[EventEnvelope]:
        with self._store.lock:
            behind = self._store.log[lane.partition][lane.next_seq - 1 : until]
            return [logged for logged in behind if logged.key == lane.key][:limit]

    def lanes(self, name: str | None = None, partition: int | None = None) -> list[Lane]:
        with self._lock:
            return [
                lane
                for _, lane in sorted(self._lanes.items())
                if name in (None, lane.subscription) and partition in (None, lane.partition)
            ]

    def discarded(self, partition: int, first: int, last: int) -> list[Discarded]:
        with self._lock:
            return [
                Discarded(lane.subscription, partition, seq, who, why)
                for lane, seq, who, why in self._discarded
                if lane.partition == partition and first <= seq <= last
            ]

    def settle(self, lease: Lease, settlement: Settlement, seconds: float) -> Lease:
        with self._lock, self._store.lock:
            cursor = self._cursors.get((lease.subscription, lease.partition))
            if cursor is None or cursor.epoch != lease.epoch:
                raise LeaseLost(f"{lease.subscription} on partition {lease.partition} has another owner")
            cursor.seq = settlement.seq
            cursor.leased_until = self._store.clock.now() + timedelta(seconds=seconds)
            self._discarded += settlement.discarded
            for key in settlement.closed:
                self._lanes.pop((lease.subscription, key), None)
            for key, lane in settlement.lanes.items():
                place = (lease.subscription, key)
                self._lanes[place] = heeding(lane, settlement.seen.get(key), self._lanes.get(place))
            self._store.read_models.take(settlement.read_models)
            here = (lease.subscription, lease.partition)
            behind = [x.next_seq - 1 for x in self._lanes.values() if (x.subscription, x.partition) == here]
            self._store.projected[lease.subscription, lease.partition] = min([settlement.seq, *behind])
            return replace(lease, seq=settlement.seq, until=cursor.leased_until)

    @contextmanager
    def turn(self, name: str, partition: int) -> Iterator[Turn]:
        with self._lock:
            cursor = self._cursors.get((name, partition))
            if cursor is None:
                raise UnknownSubscription(name)
            lanes = {x.key: x for x in self._lanes.values() if (x.subscription, x.partition) == (name, partition)}
            turn = Turn(name, partition, cursor.seq, lanes, partial(self.read, partition), self.read_key)
            yield turn
            if turn.settlement is not None:
                cursor.seq = turn.settlement.seq
                self._discarded += turn.settlement.discarded
                for key in turn.settlement.closed:
                    self._lanes.pop((name, key), None)
                self._lanes |= {(name, key): lane for key, lane in turn.settlement.lanes.items()}

    def forget(self, name: str) -> None:
        """The subscription is no more: its cursors and lanes go. What was discarded stays recorded."""
        with self._lock:
            self._cursors = {place: cursor for place, cursor in self._cursors.items() if place[0] != name}
            self._lanes = {place: lane for place, lane in self._lanes.items() if place[0] != name}

    def set_due(self, name: str, key: str, discard: tuple[str, str] | None = None, seq: int | None = None) -> bool:
        with self._lock:
            lane = self._lanes.get((name, key))
            if lane is None or seq not in (None, lane.next_seq):
                return False
            due = self._store.clock.now()
            self._lanes[name, key] = replace(lane, due_at=due, attempts=0, discard=discard)
            return True


class MemoryDeadLetters(DeadLetters):
    def __init__(self, clock: Clock) -> None:
        self._clock, self._numbers = clock, count(1)
        self._letters: dict[str, DeadLetter] = {}

    def keep(self, source: str, body: bytes, reason: str) -> None:
        letter_id = f"{next(self._numbers):032x}"
        self._letters[letter_id] = DeadLetter(letter_id, source, text_of(body), reason, self._clock.now())

    def newest(self, limit: int = 100, behind: str | None = None) -> list[DeadLetter]:
        letters = sorted(self._letters.values(), key=lambda letter: letter.id, reverse=True)
        return [letter for letter in letters if behind is None or letter.id < behind][:limit]

    def letter(self, letter_id: str) -> DeadLetter | None:
        return self._letters.get(letter_id)

    def remove(self, letter_id: str) -> bool:
        return self._letters.pop(letter_id, None) is not None

    def count(self) -> int:
        return len(self._letters)
