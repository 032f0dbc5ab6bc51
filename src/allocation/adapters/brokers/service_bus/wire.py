"""Messages as Service Bus carries them: CloudEvents in AMQP's binary mode and, beside them, as application properties
under their plain names, what filters look at (`properties_of`): the same that our own rules see.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass, replace
from datetime import UTC, datetime
from typing import Any

from azure.servicebus import ServiceBusMessage, ServiceBusReceivedMessage
from azure.servicebus.amqp import AmqpMessageBodyType

from allocation.adapters.cloudevents import PREFIX, binary
from allocation.service_layer.broker import Delivery, Message
from allocation.service_layer.rules.of_messages import properties_of

OUR_PREFIX = "cloudEvents:"
PREFIXES = ("cloudevents:", "cloudevents_")  # CloudEvents, AMQP protocol binding, 3.1: others may send either


def outgoing(message: Message) -> ServiceBusMessage:
    """The event's id serves duplicate detection, its sku is the session. Raises `RuleFailed` for data with two fields
    whose names differ only in case, `ValueError` for an id or a sku that is longer than Service Bus takes: 128
    characters."""
    headers, body = binary(message, OUR_PREFIX)
    has_fields = isinstance(message.data, Mapping) or is_dataclass(message.data)
    seen = properties_of(message if has_fields else replace(message, data={}))
    application: dict[Any, Any] = {name: value for name, value in headers.items() if name.startswith(OUR_PREFIX)}
    application |= {name: value for name, value in seen.named().items() if value is not None}
    system: dict[str, Any] = seen.system
    return ServiceBusMessage(
        body,
        application_properties=application,
        message_id=system["MessageId"],
        session_id=system["SessionId"],
        subject=system["Subject"],
        correlation_id=system["CorrelationId"],
        content_type=headers["content-type"],
    )


def incoming(message: ServiceBusReceivedMessage, source: str, token: object) -> Delivery:
    """What came in, whatever it is. A sequence number never repeats in a queue; if the queue is deleted and created
    again it does, but then the time differs."""
    enqueued = message.enqueued_time_utc
    moment = 0 if enqueued is None else int(enqueued.timestamp() * 1000)
    return Delivery(
        _body(message),
        source,
        f"{message.sequence_number}-{moment}",
        dict(_headers(message)),
        message.session_id or None,
        (message.delivery_count or 0) + 1,
        token,
    )


def _headers(message: ServiceBusReceivedMessage) -> Iterator[tuple[str, str]]:
    if message.content_type:
        yield "content-type", _text(message.content_type)
    for name, value in (message.application_properties or {}).items():
        lower = _text(name).lower()
        if lower.startswith(PREFIXES) and value is not None:
            yield PREFIX + lower[len(OUR_PREFIX) :], _text(value)


def _body(message: ServiceBusReceivedMessage) -> bytes:
    """Binary data as it is; also text, which some libraries send; of anything else its Python representation, to be
    kept among the dead letters, because we cannot read it."""
    body: Any = message.body
    if message.body_type == AmqpMessageBodyType.DATA:
        return b"".join(body)
    if isinstance(body, bytes):
        return body
    return (body if isinstance(body, str) else repr(body)).encode(errors="replace")


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    return str(value).lower() if isinstance(value, bool) else str(value)
