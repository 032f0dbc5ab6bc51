"""A fact: one event of one product, read from a message.

ReplicaError
├── NotAFact           a message that no fact can be read out of
├── FeedUnavailable    the feed does not answer, or not as a feed does
├── AnotherLog         the feed's log does not reach to what this replica has seen
└── OutOfTurn          somebody else has written to the store of this replica
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

TYPE_PREFIX = "allocation."
BEYOND = 10**18 - 1
"""A position after which no partition has anything, and a version that no product reaches."""
MOST_PARTITION = 9999
NO_FACTS = frozenset({"StockLevel"})
"""Types of messages that state a version, but are not the event that led to it."""

_OF_THE_ENVELOPE = frozenset({"id", "type", "time", "position", "version", "correlation_id", "causation_id"})


class ReplicaError(Exception):
    """Base class of this package's errors."""


class NotAFact(ReplicaError):
    """Says what is wrong with the message. Nothing was done; trying again will not help."""


class FeedUnavailable(ReplicaError):
    """Ask again later. What was missing is still missing, and still known to be missing."""


class AnotherLog(ReplicaError):
    """The log was created anew, or restored from a backup: what this replica has seen of it is gone, and its versions
    and numbers are used again. Trying again will not help: empty the store and make a new replica."""


class OutOfTurn(ReplicaError):
    """A store belongs to one replica at a time. Nothing from the write that raised this was kept."""


@dataclass(frozen=True, slots=True)
class Fact:
    """What happened to one product. `version` numbers the events of a sku, `seq` those of a log `partition`: both are
    1, 2, 3, ... without a gap. `type` is the event's name, such as `Allocated`; `data` are its fields."""

    sku: str
    version: int
    partition: int
    seq: int
    id: str
    type: str
    time: str
    data: Mapping[str, object]


def message_from(body: bytes) -> Mapping[str, object]:
    """A message as it came over a wire. Raises `NotAFact` if it is not a JSON object."""
    try:
        message = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise NotAFact(f"the message is not JSON: {error}") from error
    if not isinstance(message, dict):
        raise NotAFact("the message is JSON, but not an object")
    return message


def fact_from(message: Mapping[str, object]) -> Fact:
    """The fact in a message: a CloudEvent as the feed and the brokers send it, with its attributes as JSON or as text,
    or the plain object that goes out on a Redis channel such as `line_allocated`. Raises `NotAFact`."""
    return _of_cloud_event(message) if "specversion" in message else _of_plain_object(message)


def _of_cloud_event(event: Mapping[str, object]) -> Fact:
    full_type = _text(event, "type")
    name = full_type.removeprefix(TYPE_PREFIX)
    if name == full_type or name in NO_FACTS:
        raise NotAFact(f"{full_type[:80]!r} is not the type of a fact")
    data = event.get("data")
    if not isinstance(data, Mapping):
        raise NotAFact("data must be an object")
    return Fact(
        _text(event, "subject"),
        _whole(event, "productversion", 1),
        _whole(event, "partition", 0, MOST_PARTITION),
        _whole(event, "sequence", 1),
        _text(event, "id"),
        name,
        _text(event, "time"),
        data,
    )


def _of_plain_object(message: Mapping[str, object]) -> Fact:
    partition, _, seq = _text(message, "position").partition("-")
    place = {"partition": partition, "seq": seq}
    return Fact(
        _text(message, "sku"),
        _whole(message, "version", 1),
        _whole(place, "partition", 0, MOST_PARTITION),
        _whole(place, "seq", 1),
        _text(message, "id"),
        _text(message, "type"),
        _text(message, "time"),
        {name: value for name, value in message.items() if name not in _OF_THE_ENVELOPE},
    )


def _text(message: Mapping[str, object], name: str) -> str:
    value = message.get(name)
    if not isinstance(value, str) or not value:
        raise NotAFact(f"{name} must be text")
    return value


def _whole(message: Mapping[str, object], name: str, least: int, most: int = BEYOND) -> int:
    """A whole number, as a JSON number or as digits. The feed accepts none larger than `most`."""
    value = message.get(name)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 20:
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise NotAFact(f"{name} must be a whole number from {least} to {most}")
    return value
