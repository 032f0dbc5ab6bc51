"""What lies in the peer: queues with their messages, locks, sessions and dead letters, and topics with subscriptions.

No network here. Moments are seconds since the epoch, given by the caller. What is published about Azure Service Bus
was followed; where it is silent the simplest was chosen. None of it is evidence of what Azure does.
"""

from __future__ import annotations

import uuid
from bisect import insort
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from proton import Message, symbol, timestamp

DEAD = "/$deadletterqueue"


@dataclass(frozen=True)
class Settings:
    """How a queue or a subscription behaves, as its description says."""

    lock_seconds: float = 30.0
    most_deliveries: int = 10
    sessions: bool = False
    duplicates_seconds: float = 0.0
    dead_letters_expired: bool = False


@dataclass(eq=False)
class Entry:
    """A message in a queue. `failed` counts deliveries that came to nothing, which is what goes over the wire."""

    number: int
    message: Message
    enqueued: float
    failed: int = 0

    def __lt__(self, other: Entry) -> bool:
        return self.number < other.number

    @property
    def session(self) -> str:
        return str(self.message.group_id or "")

    def is_expired(self, now: float) -> bool:
        return bool(self.message.ttl) and self.enqueued + self.message.ttl < now

    def outgoing(self, locked_until: float | None) -> Message:
        """The message as a receiver sees it."""
        message = self.message
        message.delivery_count = self.failed
        told: dict[str, Any] = {
            "x-opt-sequence-number": self.number,
            "x-opt-enqueue-sequence-number": 0,
            "x-opt-partition-id": 0,
            "x-opt-enqueued-time": milliseconds(self.enqueued),
        }
        if locked_until is not None:
            told["x-opt-locked-until"] = milliseconds(locked_until)
        merged = {**(message.annotations or {}), **told}
        message.annotations = {symbol(name): value for name, value in merged.items()}
        return message


def milliseconds(moment: float) -> timestamp:
    return timestamp(int(moment * 1000))


@dataclass(eq=False)
class Line:
    """Messages that wait, in order: all of a queue, or one session's, which one holder has at a time."""

    ready: list[Entry] = field(default_factory=list)
    holder: object = None
    until: float = 0.0
    locked: float = 0.0
    state: bytes | None = None


@dataclass(eq=False)
class Held:
    """A message in somebody's hand. `until` None: as long as its session is locked."""

    entry: Entry
    line: Line
    holder: object
    until: float | None


class Queue:
    """A queue, a subscription, or the dead letters of one. `changed` is told of each change that has to last."""

    def __init__(self, name: str, settings: Settings, changed: Callable[..., None] = lambda *_: None) -> None:
        self.name, self.settings, self._changed = name, settings, changed
        self.lines: dict[str, Line] = {} if settings.sessions else {"": Line()}
        self.held: dict[uuid.UUID, Held] = {}
        self.deferred: dict[int, Entry] = {}
        self.scheduled: list[tuple[float, Entry]] = []
        self.seen: dict[str, float] = {}
        self.last = 0
        self.dead = None if name.endswith(DEAD) else Queue(name + DEAD, Settings(most_deliveries=1 << 30), changed)

    # What comes in

    def put(self, message: Message, now: float, at: float = 0.0) -> int:
        """Its sequence number; 0 for a duplicate, which is accepted and dropped."""
        if self.is_duplicate(message, now):
            return 0
        self.last += 1
        entry = Entry(self.last, message, now)
        self._changed("put", self.name, entry.number, now, at, message)
        self._place(entry, at, now)
        return entry.number

    def _place(self, entry: Entry, at: float, now: float) -> None:
        if at > now:
            self.scheduled.append((at, entry))
        else:
            insort(self._line(entry).ready, entry)

    def _line(self, entry: Entry) -> Line:
        return self.lines.setdefault(entry.session if self.settings.sessions else "", Line())

    def is_duplicate(self, message: Message, now: float) -> bool:
        window = self.settings.duplicates_seconds
        if not window or message.id is None:
            return False
        self.seen = {one: since for one, since in self.seen.items() if since > now - window}
        return self.seen.setdefault(str(message.id), now) != now

    # What goes out

    def take(self, line: Line, holder: object, now: float) -> tuple[Entry, uuid.UUID, float] | None:
        """The next message of a line, locked; None if there is none."""
        if not line.ready:
            return None
        entry = line.ready.pop(0)
        until = None if self.settings.sessions else now + self.settings.lock_seconds
        token = new_token()
        self.held[token] = Held(entry, line, holder, until)
        return entry, token, line.until if until is None else until

    def delete(self, line: Line) -> Entry | None:
        """The next message, for one who wants no lock."""
        if not line.ready:
            return None
        entry = line.ready.pop(0)
        self._changed("gone", self.name, entry.number)
        return entry

    def lock_session(self, wanted: str | None, holder: object, now: float) -> str | None:
        """The session that was locked: `wanted`, or of those with messages the one that waited longest; or None."""
        if wanted is None:
            free = [name for name, line in self.lines.items() if line.ready and line.holder is None]
            wanted = min(free, key=lambda name: (self.lines[name].locked, self.lines[name].ready[0]), default=None)
        if wanted is None or self.lines.setdefault(wanted, Line()).holder is not None:
            return None
        line = self.lines[wanted]
        line.holder, line.until, line.locked = holder, now + self.settings.lock_seconds, now
        return wanted

    # What becomes of it

    def complete(self, token: uuid.UUID) -> None:
        self._changed("gone", self.name, self.held.pop(token).entry.number)

    def dead_letter(self, token: uuid.UUID, reason: str, description: str, now: float) -> None:
        self._bury(self.held.pop(token).entry, reason, description, now)

    def defer(self, token: uuid.UUID) -> None:
        entry = self.held.pop(token).entry
        self.deferred[entry.number] = entry

    def release(self, token: uuid.UUID) -> None:
        """What was never looked at. It is placed behind what came later (Azure/azure-sdk-for-net#35846)."""
        held = self.held.pop(token)
        held.line.ready.append(held.entry)

    def give_back(self, token: uuid.UUID, now: float, *, has_failed: bool) -> None:
        held = self.held.pop(token)
        entry = held.entry
        if has_failed:
            entry.failed += 1
            self._changed("failed", self.name, entry.number, entry.failed)
        if self.dead is not None and entry.failed >= self.settings.most_deliveries:
            told = f"Message could not be consumed after {entry.failed} delivery attempts."
            self._bury(entry, "MaxDeliveryCountExceeded", told, now)
        else:
            insort(held.line.ready, entry)

    def relock(self, token: uuid.UUID, entry: Entry, holder: object, now: float) -> None:
        """Lock a message that was deferred."""
        until = None if self.settings.sessions else now + self.settings.lock_seconds
        self.held[token] = Held(entry, self._line(entry), holder, until)

    def let_go(self, holder: object, now: float, *, has_failed: bool = False) -> None:
        """The holder is gone: what it had in hand waits again. Closing a session is no failure, losing its lock is."""
        for token in [token for token, held in self.held.items() if held.holder is holder]:
            self.give_back(token, now, has_failed=has_failed)
        for line in self.lines.values():
            if line.holder is holder:
                line.holder = None

    def _bury(self, entry: Entry, reason: str, description: str, now: float) -> None:
        assert self.dead is not None
        self._changed("gone", self.name, entry.number)
        told = {"DeadLetterReason": reason, "DeadLetterErrorDescription": description}
        entry.message.ttl = 0  # dead letters stay
        entry.message.properties = {**(entry.message.properties or {}), **told}
        self.dead.put(entry.message, now)

    def tick(self, now: float) -> Iterator[object]:
        """Let time pass; yields the holders whose session was taken from them."""
        for token in [token for token, held in self.held.items() if held.until is not None and held.until <= now]:
            self.give_back(token, now, has_failed=True)
        for line in self.lines.values():
            if line.holder is not None and line.until <= now:
                holder = line.holder
                self.let_go(holder, now, has_failed=True)
                yield holder
            for entry in [entry for entry in line.ready if entry.is_expired(now)]:
                line.ready.remove(entry)
                if self.settings.dead_letters_expired and self.dead is not None:
                    self._bury(entry, "TTLExpiredException", "The message expired and was dead lettered.", now)
                else:
                    self._changed("gone", self.name, entry.number)
        for due in [due for due in self.scheduled if due[0] <= now]:
            self.scheduled.remove(due)
            due[1].enqueued = due[0]
            insort(self._line(due[1]).ready, due[1])

    # After a restart

    def restore(self, number: int, message: Message, enqueued: float, at: float, now: float) -> None:
        self.last = max(self.last, number)
        if message.id is not None and self.settings.duplicates_seconds:
            self.seen[str(message.id)] = enqueued
        self._place(Entry(number, message, enqueued), at, now)

    def forget(self, number: int) -> None:
        self.scheduled = [one for one in self.scheduled if one[1].number != number]
        for line in self.lines.values():
            line.ready = [entry for entry in line.ready if entry.number != number]

    def recount(self, number: int, failed: int) -> None:
        for line in self.lines.values():
            for entry in line.ready:
                if entry.number == number:
                    entry.failed = failed


def new_token() -> uuid.UUID:
    """A lock token whose bytes are ASCII: proton for Python gives delivery tags back as text in UTF-8."""
    return uuid.UUID(bytes_le=bytes(byte & 0x7F for byte in uuid.uuid4().bytes))
