"""What the suite of brokers needs of one broker under test, and the count of what it passed."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import astuple, fields
from time import monotonic
from typing import Any, ClassVar

import pytest

from allocation.adapters.brokers import registry
from allocation.adapters.cloudevents import Received, read
from allocation.service_layer.broker import Capabilities, Delivery, Message, Publisher, Receiver
from tests.fakes import NOON
from tests.notes import note, noted

LONG_SECONDS, SHORT_SECONDS = 20.0, 0.3


class Rig:
    """One broker, with a namespace that nobody else uses. What is opened here is closed at the end."""

    url: str
    abandoned_after_seconds = LONG_SECONDS
    """How long the deliveries of a receiver that died may be held back."""

    def __init__(self, url: str) -> None:
        self.url, self.namespace = url, f"t{uuid.uuid4().hex[:12]}"
        self._opened: list[Publisher | Receiver] = []

    def publisher(self, namespace: str | None = None) -> Publisher:
        [made] = registry.publishers(self.url, namespace or self.namespace).values()
        self._opened.append(made)
        return made

    def receiver(self, owner: str = "receiver-1", namespace: str | None = None) -> Receiver:
        """One that listens by now: what is published from here on reaches it, even where the broker forgets."""
        [made] = registry.receivers(self.url, namespace or self.namespace, owner).values()
        self._opened.append(made)
        self.listening(made)
        return made

    def listening(self, receiver: Receiver) -> None:
        """Wait until it listens, where that takes a while."""

    def rejected(self) -> Message | None:
        """A message that this broker will not have; None if there is none."""
        return None

    def lose(self, receiver: Receiver) -> None:
        """Let it die with its deliveries in hand. Only where the broker acknowledges, and is no memory of ours."""
        raise NotImplementedError

    def subscriber(self, wanted: str) -> Callable[[int], list[str]]:
        """Somebody who wants only those facts that a filter lets through. Called with a count, it waits for so many and
        gives the ids of what came. Only where the broker filters."""
        raise NotImplementedError

    def stop(self) -> None:
        """Kill the server. Only of those that have one (`BrokerContract.has_a_server`)."""
        raise NotImplementedError

    def start(self) -> None:
        """Start it again, with what it kept on disk."""
        raise NotImplementedError

    def close(self) -> None:
        for one in self._opened:
            one.close()


def command(key: str, number: int = 0, version: int = 0) -> Message:
    """A message with an id that tells it."""
    return Message(f"{key}-{number}", "allocation.Tested", key, NOON, {"number": number}, version, {"schemaversion": 1})


def event_in(delivery: Delivery) -> Received:
    event = read(delivery.body, delivery.headers)
    assert event is not None, f"no CloudEvent: {delivery.body!r}"
    return event


def ids(deliveries: Sequence[Delivery]) -> list[str]:
    return [event_in(delivery).id for delivery in deliveries]


def gather(receiver: Receiver, count: int, seconds: float = LONG_SECONDS) -> list[Delivery]:
    """Receive until `count` are here, accepting none; fewer if they do not come."""
    found: list[Delivery] = []
    deadline = monotonic() + seconds
    while len(found) < count and (left := deadline - monotonic()) > 0:
        found += receiver.receive(count - len(found), left)
    return found


def drain(receiver: Receiver, count: int) -> list[str]:
    """Receive `count`, accept each, and answer their ids, in order of arrival."""
    found: list[str] = []
    deadline = monotonic() + LONG_SECONDS
    while len(found) < count and (left := deadline - monotonic()) > 0:
        deliveries = receiver.receive(7, left)
        found += ids(deliveries)
        receiver.accept(deliveries)
    return found


def nothing_comes(receiver: Receiver) -> bool:
    return list(receiver.receive(10, SHORT_SECONDS)) == []


# Which checks apply, and which were passed


def needs(*names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """The check asserts these capabilities: it applies to brokers that declare all of them."""

    def mark(check: Callable[..., None]) -> Callable[..., None]:
        check.needs = frozenset(names)  # type: ignore[attr-defined]  # read by Declares
        return check

    return mark


class Declares:
    """A suite whose checks apply by what its subclass declares; what does not apply is no test there."""

    capabilities: ClassVar[Capabilities]
    has_a_server: ClassVar[bool] = True

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "capabilities" not in vars(cls):
            return  # the suite itself
        there = {f.name for f in fields(cls.capabilities) if getattr(cls.capabilities, f.name)}
        there |= {"a_server"} if cls.has_a_server else set()
        for name in dir(cls):
            if name.startswith("test_") and not getattr(getattr(cls, name), "needs", frozenset()) <= there:
                setattr(cls, name, None)


def count_check(item: pytest.Item, report: pytest.TestReport) -> None:
    suite: Any = getattr(item, "cls", None)
    if report.when == "call" and isinstance(suite, type) and issubclass(suite, Declares):
        check = (suite.__name__.removeprefix("Test"), report.outcome, _declared(suite.capabilities))
        note(item.config, "contract of brokers", check)


def table_of_scores(config: pytest.Config) -> list[str]:
    """Of each broker how many checks it passed, and what it declares: only that was asserted."""
    outcomes: dict[str, Counter[str]] = {}
    declared: dict[str, Sequence[str]] = {}
    for name, outcome, capabilities in noted(config, "contract of brokers"):
        outcomes.setdefault(name, Counter())[outcome] += 1
        declared[name] = capabilities
    width = max(map(len, outcomes), default=0)
    return [
        f"  {name:{width}}  {outcomes[name]['passed']:2} of {outcomes[name].total():2} checks passed;"
        f" declared: {', '.join(declared[name]) or 'nothing'}"
        for name in sorted(outcomes)
    ]


def _declared(capabilities: Capabilities) -> list[str]:
    named = zip(fields(capabilities), astuple(capabilities), strict=True)
    return [f.name.replace("_", " ") for f, value in named if value]
