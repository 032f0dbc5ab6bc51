"""The properties of our events: what filters see here, and what a Service Bus publisher sets there."""

from __future__ import annotations

from datetime import date

from allocation.service_layer.envelope import EventEnvelope, message_of
from allocation.service_layer.rules.values import Properties, Value

CONTENT_TYPE = "application/json"


def properties_of(logged: EventEnvelope) -> Properties:
    """An event's own fields and those of its envelope, as user properties; identity and key as system properties.

    Days and times are texts (ISO 8601), which sort as they should. What is None has no property: messages of AMQP
    carry no NULL, so `EXISTS(eta)` says the same here and there. (sys.EnqueuedTimeUtc is a time, and compares with
    none of the constants that rules can hold; `time` is its text.)
    """
    fields = {**message_of(logged), "partition": logged.position.partition, "sequence": logged.position.seq}
    user = {name: _plain(value) for name, value in fields.items() if value is not None}
    name = type(logged.event).__name__
    system: dict[str, Value] = {
        "MessageId": logged.id,
        "SessionId": logged.key,
        "PartitionKey": logged.key,
        "Subject": name,
        "CorrelationId": logged.correlation_id,
        "ContentType": CONTENT_TYPE,
        "EnqueuedTimeUtc": logged.time,
    }
    return Properties(user, system)


def _plain(value: object) -> Value:
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, str | int | float):
        return value
    raise TypeError(f"an event has a field that no rule can read: {value!r}")
