"""The two ports of every broker: what goes out (`Publisher`), what comes in (`Receiver`).

On the wire a message is a CloudEvent (CloudEvents 1.0); adapters write it in the form that suits their broker. What a
broker can do is declared in its `Capabilities`, and one suite of tests asserts exactly what is declared.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

FACTS, STOCK_LEVEL, COMMANDS = "facts", "stock_level", "commands"
"""The topics: every event as it happened; what is free of a sku, only the latest level; what others ask of us."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What callers may rely on, and nothing else.

    durable: what was accepted survives a restart of the broker. ordered_by_key: messages of one key arrive in the order
    of publishing. acknowledged: a delivery comes again until it is accepted or rejected. replayable: a new reader may
    start with what was published before it joined. scheduled: a delivery can be released to come later. deduplicated:
    if the same version of a key is published twice, it is delivered once. filtered: the broker itself leaves out what
    is not wanted.
    """

    durable: bool = False
    ordered_by_key: bool = False
    acknowledged: bool = False
    replayable: bool = False
    scheduled: bool = False
    deduplicated: bool = False
    filtered: bool = False


@dataclass(frozen=True, slots=True)
class Message:
    """What other programs get, before an adapter writes it in the form of its broker.

    `type` is that of a CloudEvent (`allocation.Allocated`). `key` is its subject, the sku, by which messages are
    ordered. `data` holds the fields, ready to become a JSON object. `version` is the product's version after the event,
    gapless for a key in the topic `facts`; 0: it has none (a command), and no broker takes it for a duplicate.
    `extensions` are further attributes of the CloudEvent: partition, sequence, productversion, correlationid,
    causationid, ...
    """

    id: str
    type: str
    key: str
    time: datetime
    data: object
    version: int = 0
    extensions: Mapping[str, str | int] = field(default_factory=dict)


class Publisher(ABC):
    """Hands messages to a broker: facts and stock levels, and commands if a caller sends some. Each topic is published
    by one thread at a time; several threads may publish different topics at the same time.

    Callers may not assume that a message arrives only once: what is not known to be accepted is published again, under
    the same id, and consumers drop versions of a key that they have passed.
    """

    capabilities: Capabilities

    @abstractmethod
    def publish(self, topic: str, messages: Sequence[Message]) -> Sequence[Exception | None]:
        """Returns when it is known what became of each message, in order. None: the broker has accepted it (for good,
        if the broker is durable). `Unavailable`: the broker cannot be reached. `Rejected`: the broker refuses this one.
        After a failure, nothing later of the same key was sent."""

    @abstractmethod
    def close(self) -> None:
        """Close the connection. What was accepted stays accepted."""


@dataclass(frozen=True, slots=True, eq=False)
class Delivery:
    """One message as a broker hands it over.

    `source` names the queue it came from, and `id` is the broker's name for it there: printable ASCII, the same each
    time it is delivered, and never that of another message. (The sender's own id is in the message.) An empty `id`: the
    broker has none. `headers` are those of a CloudEvent in binary mode, `content-type` and names that begin with `ce-`,
    in lower case. `attempts` counts deliveries, this one included (1 where the broker does not count); a delivery that
    was released was not tried, and does not count. `token` is for the adapter's own use.
    """

    body: bytes
    source: str
    id: str
    headers: Mapping[str, str] = field(default_factory=dict)
    key: str | None = None
    attempts: int = 1
    token: object = None


class Receiver(ABC):
    """Takes the messages of the topic `commands` from a broker. Used by one thread at a time.

    Where the broker acknowledges, a delivery that is neither accepted, released nor rejected comes again, to this
    receiver or to another; so does one whose acknowledgement was lost. Callers may not assume that it comes only once.
    All methods raise `Unavailable` when the broker cannot be reached; call again then.
    """

    capabilities: Capabilities

    @abstractmethod
    def receive(self, most: int, wait_seconds: float) -> Sequence[Delivery]:
        """Up to `most` deliveries, in order for each key; waits up to `wait_seconds` for the first one.

        What was handed over before and is not settled yet does not come again, and later deliveries of its key need not
        come before it is settled."""

    @abstractmethod
    def accept(self, deliveries: Sequence[Delivery]) -> None:
        """They were handled, and our commit is done: they are not to come again."""

    @abstractmethod
    def release(self, deliveries: Sequence[Delivery], delay_seconds: float = 0.0) -> None:
        """They were not handled, and are to come again, after `delay_seconds` where the broker schedules.

        Where the broker orders, callers release a key's later deliveries along with the first; they come again in
        order."""

    @abstractmethod
    def reject(self, delivery: Delivery, reason: str) -> None:
        """It never comes again: the caller has kept it with the reason, or the broker keeps dead letters itself."""

    @abstractmethod
    def close(self) -> None:
        """Give back what was not settled, and close the connection."""
