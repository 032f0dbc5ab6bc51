"""Turns what comes in through a broker into a command: one of our CloudEvents, or the book's bare message.

The type of a CloudEvent is `allocation.` followed by the name of a command; its `data` has the command's fields, and
its `schemaversion` is 1 (or absent). It is done once under its own id and source. The book's message is
`{"batchref", "qty"}`; it is done once under its `"id"` if it has one, else under the broker's id for it, if any.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from allocation.adapters import cloudevents
from allocation.adapters.cloudevents import Received
from allocation.adapters.serialization import BadMessage, UnknownMessage, decode_command
from allocation.domain.commands import ID_PATTERN, ChangeBatchQuantity, Command, is_id
from allocation.domain.errors import MAX_QUANTITY
from allocation.service_layer.broker import Delivery
from allocation.service_layer.envelope import CommandEnvelope, valid_traceparent
from allocation.service_layer.facts import TYPE_PREFIX
from allocation.service_layer.messagebus import MessageBus

SCHEMA_VERSION = "1"


class QuantityChange(BaseModel):
    """The book's message."""

    model_config = ConfigDict(extra="ignore", strict=True)

    batchref: str = Field(pattern=ID_PATTERN.removesuffix(r"\Z") + "$")
    qty: int = Field(ge=0, le=MAX_QUANTITY)
    id: str | None = Field(None, pattern=r"^[!-~]{1,255}$")


def command_in(delivery: Delivery, bus: MessageBus, limit_bytes: int) -> CommandEnvelope:
    """The command that a delivery asks for. Raises `BadMessage`, whose text says what is wrong."""
    if len(delivery.body) > limit_bytes:
        raise BadMessage(f"the message has {len(delivery.body)} bytes, more than {limit_bytes}")
    event = cloudevents.read(delivery.body, delivery.headers)
    if event is not None:
        source = f"{delivery.source} {event.source}"
        return bus.envelope(_command(event), event.id, source=source, **_context(event.attributes))
    change = _quantity_change(delivery.body)
    message_id = change.id or delivery.id or None
    return bus.envelope(ChangeBatchQuantity(change.batchref, change.qty), message_id, source=delivery.source)


def _command(event: Received) -> Command:
    version = event.attributes.get("schemaversion", SCHEMA_VERSION)
    if version != SCHEMA_VERSION:
        raise BadMessage(f"schema version {version[:20]!r} is not supported, only {SCHEMA_VERSION}")
    if not event.type.startswith(TYPE_PREFIX):
        raise UnknownMessage(f"unknown message type {event.type[:40]!r}")
    return decode_command(event.type.removeprefix(TYPE_PREFIX), event.data)


def _context(attributes: Mapping[str, str]) -> dict[str, Any]:
    """The context (trace, correlation, cause) that the sender gives, as far as it is valid."""
    found: dict[str, Any] = {"traceparent": valid_traceparent(attributes.get("traceparent"))}
    for name, field in (("correlationid", "correlation_id"), ("causationid", "causation_id")):
        if is_id(attributes.get(name, "")):
            found[field] = attributes[name]
    return found


def _quantity_change(body: bytes) -> QuantityChange:
    try:
        return QuantityChange.model_validate_json(body)
    except ValidationError as invalid:
        problems = (f"{'.'.join(map(str, e['loc'])) or 'message'}: {e['msg']}" for e in invalid.errors())
        raise BadMessage("; ".join(problems)) from invalid
