"""Reads the event for `allocation rules try`: one of our CloudEvents, or a plain object of properties."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from allocation.adapters import cloudevents
from allocation.adapters.serialization import BadMessage
from allocation.service_layer.broker import Message
from allocation.service_layer.rules.arithmetic import LEAST, MOST
from allocation.service_layer.rules.of_messages import properties_of
from allocation.service_layer.rules.values import Properties, RuleFailed, Value, system_name

MOST_BYTES = 1_048_576  # many times what any event of ours has; stdin may be a stream of them, without end


class UnreadableEvent(ValueError):
    """The input is not an event. The message says why, and what to give instead."""


def read_properties(body: bytes) -> Properties:
    """The properties of the event in `body`. Raises `UnreadableEvent`."""
    if len(body) > MOST_BYTES:
        raise UnreadableEvent(
            f"stdin holds more than {MOST_BYTES:,} bytes: give one event, as `allocation events --limit 1 --json` does"
        )
    try:
        read = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise UnreadableEvent(f"stdin does not hold a JSON object: {error}") from error
    if not isinstance(read, dict):
        raise UnreadableEvent("stdin holds JSON, but not an object: give a CloudEvent, or an object of properties")
    if isinstance(read.get("events"), list):
        raise UnreadableEvent("this is a page of events: give one of them, as `allocation events --json` prints them")
    if "specversion" not in read:
        return _plain(read)
    try:
        return properties_of(_message(body))
    except (BadMessage, ValueError, RuleFailed) as error:
        raise UnreadableEvent(f"this CloudEvent cannot be read: {error}") from error


def _message(body: bytes) -> Message:
    """The event as a broker carries it. Raises `BadMessage`, `ValueError`."""
    cloud = cloudevents.read(body)
    data = msgspec.json.decode(cloud.data) if cloud else None
    if cloud is None or not isinstance(data, dict):
        raise BadMessage("its data is not an object")
    told = cloud.attributes
    time = datetime.fromisoformat(told.get("time", ""))
    version = int(told.get("productversion", "0"))
    return Message(cloud.id, cloud.type, told.get("subject", ""), time, data, version, told)


def _plain(read: dict[str, Any]) -> Properties:
    """Every member of an object as a property. Raises `UnreadableEvent`."""
    user: dict[str, Value] = {}
    system: dict[str, Value] = {}
    for name, value in read.items():
        if isinstance(value, list | dict):
            raise UnreadableEvent(
                f"{name} holds a list or an object; a property is a text, a number, true, false or null"
            )
        if isinstance(value, int) and not LEAST <= value <= MOST:
            raise UnreadableEvent(f"{name} does not fit into a 64-bit integer")
        scope, dot, rest = name.partition(".")
        if not (dot and scope.lower() == "sys"):
            user[name] = value
            continue
        known = system_name(rest)
        if known is None or not (value is None or isinstance(value, str)):
            raise UnreadableEvent(f"messages have no system property {name} that is {value!r}")
        system[known] = _time(name, value) if known == "EnqueuedTimeUtc" else value
    try:
        return Properties(user, system)
    except RuleFailed as twice:
        raise UnreadableEvent(str(twice)) from twice


def _time(name: str, value: str | None) -> datetime | None:
    try:
        return None if value is None else datetime.fromisoformat(value)
    except ValueError as error:
        raise UnreadableEvent(f"{name} is not a time: {error}") from error
