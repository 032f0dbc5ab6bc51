"""An event on its way into `allocation rules try`: a CloudEvent of ours, or a plain object of properties."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from allocation.adapters.serialization import BadMessage, decode_event
from allocation.entrypoints.http.events import TYPE_PREFIX, CloudEvent
from allocation.service_layer.envelope import EventEnvelope, LogPosition
from allocation.service_layer.rules.arithmetic import LEAST, MOST
from allocation.service_layer.rules.of_events import properties_of
from allocation.service_layer.rules.values import Properties, RuleFailed, Value, system_name


class UnreadableEvent(ValueError):
    """What came is no event; says why, and what would be one."""


def read_properties(body: bytes) -> Properties:
    """The properties of the event in `body`. Raises `UnreadableEvent`."""
    try:
        read = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise UnreadableEvent(f"stdin holds no JSON object: {error}") from error
    if not isinstance(read, dict):
        raise UnreadableEvent("stdin holds JSON, but no object: give a CloudEvent, or an object of properties")
    if isinstance(read.get("events"), list):
        raise UnreadableEvent("this is a page of events: give one of them, as `allocation events --json` prints them")
    if "specversion" in read:
        return properties_of(_envelope(read))
    return _plain(read)


def _envelope(read: dict[str, Any]) -> EventEnvelope:
    """The event as the log holds it. Raises `UnreadableEvent`."""
    try:
        cloud = msgspec.convert(read, CloudEvent)
        event = decode_event(cloud.type.removeprefix(TYPE_PREFIX), msgspec.json.encode(cloud.data))
    except (msgspec.ValidationError, BadMessage) as error:
        raise UnreadableEvent(f"this CloudEvent is none of ours: {error}") from error
    time = cloud.time if cloud.time.tzinfo else cloud.time.replace(tzinfo=UTC)
    position = LogPosition(cloud.partition, int(cloud.sequence))
    return EventEnvelope(
        event,
        cloud.id,
        time,
        position,
        cloud.productversion,
        cloud.correlationid,
        cloud.causationid,
        cloud.traceparent,
        cloud.schemaversion,
    )


def _plain(read: dict[str, Any]) -> Properties:
    """An object's members, each a property. Raises `UnreadableEvent`."""
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
        raise UnreadableEvent(f"{name} is no time: {error}") from error
