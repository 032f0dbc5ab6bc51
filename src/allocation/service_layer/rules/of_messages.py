"""The properties of our messages: what filters see here, and what a publisher to Service Bus sets there."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

from allocation.service_layer.broker import Message
from allocation.service_layer.facts import TYPE_PREFIX
from allocation.service_layer.rules.values import Properties, Value

CONTENT_TYPE = "application/json"


def properties_of(message: Message) -> Properties:
    """A message's own fields, and id, type, time, position, version and causes, as user properties; identity and key as
    system properties. (For an event in the log: `properties_of(fact_of(logged))`.)

    Days and times are texts (ISO 8601), which sort as they should. A field that is None does not become a property:
    AMQP messages carry no NULL, so `EXISTS(eta)` says the same here and there. Nor does a field with several values,
    such as the `available` of a stock level: rules cannot look into it. (sys.EnqueuedTimeUtc is a time, and cannot be
    compared with any constant that a rule can hold; `time` is its text.)
    """
    name = message.type.removeprefix(TYPE_PREFIX)
    fields = {**fields_of(message.data), **_envelope(message), "type": name}
    user = {name: _plain(value) for name, value in fields.items() if isinstance(value, str | int | float | date)}
    system: dict[str, Value] = {
        "MessageId": message.id,
        "SessionId": message.key,
        "PartitionKey": message.key,
        "Subject": name,
        "CorrelationId": user.get("correlation_id"),
        "ContentType": CONTENT_TYPE,
        "EnqueuedTimeUtc": message.time,
    }
    return Properties(user, system)


def fields_of(data: Any) -> Mapping[str, object]:
    """An event is a dataclass; what has been on a wire is a mapping."""
    return data if isinstance(data, Mapping) else {name: getattr(data, name) for name in data.__dataclass_fields__}


def _envelope(message: Message) -> dict[str, object]:
    found: dict[str, object] = {"id": message.id, "time": message.time}
    if message.version:
        found["version"] = message.version
    extensions = message.extensions
    if "partition" in extensions and "sequence" in extensions:
        partition, sequence = int(extensions["partition"]), int(extensions["sequence"])
        found |= {"partition": partition, "sequence": sequence, "position": f"{partition}-{sequence}"}
    found["correlation_id"] = extensions.get("correlationid")
    found["causation_id"] = extensions.get("causationid")
    return found


def _plain(value: str | float | date) -> Value:
    return value.isoformat() if isinstance(value, date) else value
