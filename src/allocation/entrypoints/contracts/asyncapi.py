"""The AsyncAPI 3 document: every channel and message, made from the classes that are sent, with a schema for each."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import msgspec

from allocation import __version__
from allocation.adapters.cloudevents import STRUCTURED
from allocation.adapters.schemas import Schemas
from allocation.adapters.serialization import COMMANDS, EVENTS
from allocation.domain.errors import Available
from allocation.entrypoints.http.events import CloudEvent
from allocation.entrypoints.receiving import QuantityChange
from allocation.service_layer import broker
from allocation.service_layer.facts import TYPE_PREFIX

Json = dict[str, Any]

SCHEMAS, MESSAGES = "#/components/schemas/", "#/components/messages/"
VERSION, DIRECTION = "x-schema-version", "x-direction"
"""Marks in a schema: its version, and whether it goes out or comes in (absent: it is part of another schema)."""

RECEIVED = (broker.COMMANDS, "change_batch_quantity")

ABOUT = """\
Promises stock to order lines, and tells other programs what happened.

Messages are CloudEvents 1.0 in JSON; `data` has a schema of its own, whose version is in `schemaversion`. Within a
version, a schema gains only optional fields. At a broker, the addresses have a namespace as their prefix."""


class StockLevel(msgspec.Struct):
    """What is free of a sku, by the day it is there, at one version of the product."""

    sku: str
    version: int
    available: list[Available]


class LineAllocated(msgspec.Struct):
    """An order line was promised from a batch: the book's message, by Redis pub/sub."""

    orderid: str
    sku: str
    qty: int
    batchref: str
    id: str
    type: str
    time: datetime
    position: str
    version: int
    correlation_id: str
    causation_id: str | None


class CommandEvent(msgspec.Struct):
    """A CloudEvent that asks for something; it is done once under its id and source."""

    specversion: str
    id: str
    source: str
    type: str
    data: Any
    schemaversion: int = 1
    correlationid: str | None = None
    causationid: str | None = None
    traceparent: str | None = None


def asyncapi_document(events: Schemas = EVENTS, commands: Schemas = COMMANDS) -> Json:
    """The whole document, as JSON values."""
    outgoing, incoming = list(events.types), list(commands.types)
    carried = {
        broker.FACTS: ("Every event as it happened, in order for each sku", outgoing),
        broker.STOCK_LEVEL: ("The free stock of a sku; only the newest version counts", ["StockLevel"]),
        broker.COMMANDS: ("Commands from other programs; their results are in the log, not here", incoming),
        "line_allocated": ("The book's channel of Redis pub/sub: at most once", ["LineAllocated"]),
        "change_batch_quantity": ("The book's channel of Redis pub/sub: at most once", ["QuantityChange"]),
    }
    channels = {name: _channel(name, *what) for name, what in carried.items()}
    schemas = {name: _versioned(s, "out", events) for name, s in _schemas_of(events.types.values())}
    schemas |= {name: _versioned(s, "in", commands) for name, s in _schemas_of(commands.types.values())}
    for alone, direction in ((StockLevel, "out"), (LineAllocated, "out"), (CloudEvent, ""), (CommandEvent, "")):
        schemas |= {name: _versioned(s, direction) for name, s in _schemas_of([alone])}
    quantity_change = QuantityChange.model_json_schema()
    schemas["QuantityChange"] = _versioned(quantity_change, "in")
    schemas["CloudEvent"]["properties"]["data"] = {}
    messages = {name: _message(name, "CloudEvent", schemas[name]) for name in (*outgoing, "StockLevel")}
    messages |= {name: _message(name, "CommandEvent", schemas[name]) for name in incoming}
    messages |= {name: _message(name, None, schemas[name]) for name in ("LineAllocated", "QuantityChange")}
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "Allocation", "version": __version__, "description": ABOUT},
        "defaultContentType": STRUCTURED,
        "channels": channels,
        "operations": {
            f"{action}_{name}": {"action": action, "channel": {"$ref": f"#/channels/{name}"}}
            for name in channels
            for action in ("receive" if name in RECEIVED else "send",)
        },
        "components": {"messages": messages, "schemas": schemas},
    }


def _channel(name: str, meaning: str, messages: Iterable[str]) -> Json:
    carried = {message: {"$ref": MESSAGES + message} for message in messages}
    return {"address": name, "description": meaning, "messages": carried}


def _message(name: str, envelope: str | None, schema: Json) -> Json:
    made: Json = {"name": name, "title": name}
    if "description" in schema:
        made["summary"] = schema["description"]
    if envelope is None:
        return made | {"contentType": "application/json", "payload": {"$ref": SCHEMAS + name}}
    own = {
        "type": {"const": TYPE_PREFIX + name},
        "schemaversion": {"const": schema[VERSION]},
        "data": {"$ref": SCHEMAS + name},
    }
    made["name"] = TYPE_PREFIX + name
    payload = {"allOf": [{"$ref": SCHEMAS + envelope}, {"type": "object", "properties": own, "required": ["data"]}]}
    return made | {"contentType": STRUCTURED, "payload": payload}


def _schemas_of(types: Iterable[type]) -> Iterable[tuple[str, Json]]:
    _, found = msgspec.json.schema_components(types, ref_template=SCHEMAS + "{name}")
    plain: Json = msgspec.to_builtins(found)
    return plain.items()


def _versioned(schema: Json, direction: str, registry: Schemas | None = None) -> Json:
    """The schema with its marks, if it is that of a message; a part of a message has no version of its own."""
    name = str(schema.get("title"))
    if not direction or (registry is not None and name not in registry.types) or name == Available.__name__:
        return schema
    version = registry.version_of(registry.types[name]) if registry is not None else 1
    return schema | {VERSION: version, DIRECTION: direction}
