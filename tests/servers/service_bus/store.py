"""All entities of the peer by their names, and the file that lets them outlive a crash of it."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from proton import Message

from allocation.bootstrap import rule_parser
from allocation.service_layer.rules.rule import DEFAULT, Rule, apply_rules
from allocation.service_layer.rules.values import Properties
from tests.servers.service_bus.entities import DEAD, Queue, Settings


class Topic:
    """A topic with its subscriptions, and the rules of each. Its duplicates are dropped before anybody gets a copy."""

    def __init__(self, name: str, duplicates_seconds: float) -> None:
        self.rules: dict[str, dict[str, Rule]] = {}
        self.door = Queue(name, Settings(duplicates_seconds=duplicates_seconds))


class Store:
    """What the peer keeps. Every change is a line of the journal, which is read when the peer starts."""

    def __init__(self, journal: Path, clock: Callable[[], float]) -> None:
        self.queues: dict[str, Queue] = {}
        self.topics: dict[str, Topic] = {}
        self.clock = clock
        self._journal: Any = None
        if journal.exists():
            self._replay(journal)
        self._journal = journal.open("a")

    def make_queue(self, name: str, **settings: Any) -> None:
        self._write("queue", name, settings)
        self.queues[name.lower()] = Queue(name.lower(), Settings(**settings), self._changed)

    def make_topic(self, name: str, duplicates_seconds: float = 0.0) -> None:
        self._write("topic", name, duplicates_seconds)
        self.topics[name.lower()] = Topic(name.lower(), duplicates_seconds)

    def make_subscription(self, topic: str, name: str, **settings: Any) -> None:
        self._write("subscription", topic, name, settings)
        self.topics[topic.lower()].rules[name.lower()] = {DEFAULT.name: DEFAULT}
        path = f"{topic}/subscriptions/{name}".lower()
        self.queues[path] = Queue(path, Settings(**settings), self._changed)

    def add_rule(self, topic: str, subscription: str, name: str, filter: str, action: str | None) -> None:
        """Raises `BadRule`."""
        parser = rule_parser()
        rule = Rule(name, parser.filter(filter), None if action is None else parser.action(action))
        self._write("rule", topic, subscription, name, filter, action)
        self.topics[topic.lower()].rules[subscription.lower()][name] = rule

    def remove_rule(self, topic: str, subscription: str, name: str) -> None:
        self._write("no rule", topic, subscription, name)
        del self.topics[topic.lower()].rules[subscription.lower()][name]

    def queue(self, address: str) -> Queue | None:
        name = address.strip("/").lower()
        if name.endswith(DEAD):
            queue = self.queues.get(name.removesuffix(DEAD))
            return queue.dead if queue else None
        return self.queues.get(name)

    def is_known(self, address: str) -> bool:
        return self.queue(address) is not None or address.strip("/").lower() in self.topics

    def refusal(self, address: str, message: Message) -> str | None:
        """Why a message cannot go there; None if it can."""
        queue = self.queue(address)
        if queue is not None and queue.settings.sessions and not message.group_id:
            return f"The SessionId was not set on a message, and it cannot be sent to the entity {address!r}."
        return None

    def enqueue(self, address: str, message: Message) -> int:
        """To a queue, or a copy to each subscription of a topic whose rules want it."""
        now = self.clock()
        at = ((message.annotations or {}).get("x-opt-scheduled-enqueue-time") or 0) / 1000
        queue = self.queue(address)
        if queue is not None:
            return queue.put(message, now, at)
        name = address.strip("/").lower()
        topic = self.topics[name]
        if not topic.door.is_duplicate(message, now):
            for subscription, rules in topic.rules.items():
                for copy in copies(message, list(rules.values())):
                    self.queues[f"{name}/subscriptions/{subscription}"].put(copy, now, at)
            # Behind the copies: who is killed in between lets it in again, and loses none.
            self._write("let in", name, str(message.id), now)
        return 0

    def every_queue(self) -> Iterator[Queue]:
        for queue in list(self.queues.values()):
            yield queue
            if queue.dead is not None:
                yield queue.dead

    # The journal

    def _changed(self, what: str, queue: str, *told: Any) -> None:
        if what == "put":
            number, now, at, message = told
            self._write("put", queue, number, now, at, base64.b64encode(message.encode()).decode())
        else:
            self._write(what, queue, *told)

    def _write(self, *line: Any) -> None:
        if self._journal is not None:
            self._journal.write(json.dumps(line) + "\n")
            self._journal.flush()

    def _replay(self, journal: Path) -> None:
        makers: dict[str, Callable[..., None]] = {
            "topic": self.make_topic,
            "rule": self.add_rule,
            "no rule": self.remove_rule,
            "queue": lambda name, settings: self.make_queue(name, **settings),
            "subscription": lambda topic, name, settings: self.make_subscription(topic, name, **settings),
            "put": self._restore,
            "let in": lambda topic, id, at: self.topics[topic].door.seen.update({id: at}),
            "gone": lambda queue, number: self._there(queue).forget(number),
            "failed": lambda queue, number, failed: self._there(queue).recount(number, failed),
        }
        for line in journal.read_text().splitlines():
            what, *told = json.loads(line)
            makers[what](*told)

    def _there(self, name: str) -> Queue:
        queue = self.queue(name)
        assert queue is not None, name
        return queue

    def _restore(self, queue: str, number: int, enqueued: float, at: float, encoded: str) -> None:
        message = Message()
        message.decode(base64.b64decode(encoded))
        self._there(queue).restore(number, message, enqueued, at, self.clock())


def copies(message: Message, rules: list[Rule]) -> Iterator[Message]:
    """Of a message for one subscription, by our own rules: that they match is no evidence of what Azure would do."""
    encoded = message.encode()
    system = {
        "MessageId": message.id,
        "SessionId": message.group_id,
        "PartitionKey": message.group_id,
        "Subject": message.subject,
        "CorrelationId": message.correlation_id,
        "ContentType": message.content_type,
        "To": message.address,
        "ReplyTo": message.reply_to,
    }
    user = {name: plain(value) for name, value in (message.properties or {}).items() if plain(value) is not None}
    for properties in apply_rules(rules, Properties(user, system)):
        copy = Message()
        copy.decode(encoded)
        left_alone = {name: value for name, value in (message.properties or {}).items() if name not in user}
        copy.properties = {**left_alone, **properties.named()}
        copy.subject = properties.system["Subject"]
        yield copy


def plain(value: object) -> bool | int | float | str | None:
    """A value as rules know it, without proton's own kinds of numbers; None for a time and the like."""
    if isinstance(value, bool) or type(value).__name__ == "timestamp":
        return value if isinstance(value, bool) else None
    return next((kind(value) for kind in (int, float, str) if isinstance(value, kind)), None)
