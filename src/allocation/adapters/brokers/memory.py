"""A broker in plain memory. Publishers and receivers of one process that name the same URL and namespace share it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from threading import Condition
from time import monotonic

from allocation.adapters.cloudevents import STRUCTURED, structured
from allocation.service_layer.broker import COMMANDS, Capabilities, Delivery, Message, Publisher, Receiver
from allocation.service_layer.errors import Unavailable

CAPABILITIES = Capabilities(ordered_by_key=True, acknowledged=True, replayable=True, scheduled=True, deduplicated=True)
MOST_KEPT = 100_000


@dataclass(slots=True, eq=False)
class _Kept:
    message: Message
    number: int
    attempts: int = 0
    due: float = 0.0
    holder: Receiver | None = None


class _Topic:
    """What was published and is not settled, in order; `changed` guards it, and notifies those that wait."""

    def __init__(self) -> None:
        self.changed = Condition()
        self.kept: dict[int, _Kept] = {}
        self._passed: dict[str, int] = {}
        self._numbers = count(1)

    def add(self, message: Message) -> Exception | None:
        if message.version and self._passed.get(message.key, 0) >= message.version:
            return None
        if len(self.kept) >= MOST_KEPT:
            return Unavailable(f"{MOST_KEPT} messages wait in memory, and nobody receives them")
        if message.version:
            self._passed[message.key] = message.version
        number = next(self._numbers)
        self.kept[number] = _Kept(message, number)
        return None

    def take(self, holder: Receiver, most: int) -> list[_Kept]:
        """The next messages, skipping keys of which an earlier message is with a receiver or not due yet."""
        blocked: set[str] = set()
        taken: list[_Kept] = []
        for kept in self.kept.values():
            if len(taken) == most:
                break
            if kept.holder is not None or kept.due > monotonic():
                blocked.add(kept.message.key)
            elif kept.message.key not in blocked:
                taken.append(kept)
        for kept in taken:
            kept.holder, kept.attempts = holder, kept.attempts + 1
        return taken

    def seconds_to_the_next(self, most: float) -> float:
        due = [kept.due - monotonic() for kept in self.kept.values() if kept.holder is None]
        return min([most, *(seconds for seconds in due if seconds > 0)])


_topics: dict[str, _Topic] = {}
"""The topics of this process. They outlive publishers and receivers, so that these find each other."""


def publisher(url: str, namespace: str) -> Publisher:
    return MemoryPublisher(f"{url} {namespace}")


def receiver(url: str, namespace: str, owner: str) -> Receiver:
    return MemoryReceiver(_topics.setdefault(f"{url} {namespace} {COMMANDS}", _Topic()), f"{namespace} {COMMANDS}")


class MemoryPublisher(Publisher):
    capabilities = CAPABILITIES

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix

    def publish(self, topic: str, messages: Sequence[Message]) -> Sequence[Exception | None]:
        there = _topics.setdefault(f"{self._prefix} {topic}", _Topic())
        with there.changed:
            outcomes = [there.add(message) for message in messages]
            there.changed.notify_all()
        return outcomes

    def close(self) -> None:
        """There is nothing to close."""


class MemoryReceiver(Receiver):
    capabilities = CAPABILITIES

    def __init__(self, topic: _Topic, source: str) -> None:
        self._topic, self._source = topic, f"memory {source}"

    def receive(self, most: int, wait_seconds: float) -> Sequence[Delivery]:
        until = monotonic() + wait_seconds
        with self._topic.changed:
            while not (taken := self._topic.take(self, most)) and (left := until - monotonic()) > 0:
                self._topic.changed.wait(self._topic.seconds_to_the_next(left))
        return [self._delivery(kept) for kept in taken]

    def _delivery(self, kept: _Kept) -> Delivery:
        body, key = structured(kept.message), kept.message.key
        headers = {"content-type": STRUCTURED}
        return Delivery(body, self._source, kept.message.id, headers, key, kept.attempts, kept)

    def accept(self, deliveries: Sequence[Delivery]) -> None:
        with self._topic.changed:
            for delivery in deliveries:
                self._topic.kept.pop(_kept(delivery).number, None)
            self._topic.changed.notify_all()

    def release(self, deliveries: Sequence[Delivery], delay_seconds: float = 0.0) -> None:
        with self._topic.changed:
            for delivery in deliveries:
                kept = _kept(delivery)
                if kept.holder is self:
                    kept.holder, kept.due, kept.attempts = None, monotonic() + delay_seconds, kept.attempts - 1
            self._topic.changed.notify_all()

    def reject(self, delivery: Delivery, reason: str) -> None:
        self.accept([delivery])

    def close(self) -> None:
        with self._topic.changed:
            for kept in self._topic.kept.values():
                if kept.holder is self:
                    kept.holder = None
            self._topic.changed.notify_all()


def _kept(delivery: Delivery) -> _Kept:
    assert isinstance(delivery.token, _Kept)
    return delivery.token
