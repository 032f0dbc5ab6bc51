"""Turns what Azure Event Grid sends, in either of its schemas, into deliveries like those of any broker.

Its own schema differs from CloudEvents in names: `eventType`, `topic`, `dataVersion`. An event in it is read as the
equivalent CloudEvent, so that ids, types and versions mean the same in both schemas.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import msgspec

from allocation.adapters.cloudevents import PREFIX
from allocation.adapters.serialization import BadMessage
from allocation.entrypoints.http.errors import Fault, Invalid, Malformed
from allocation.service_layer.broker import Delivery

SOURCE = "event grid"
VALIDATION_TYPE = "Microsoft.EventGrid.SubscriptionValidationEvent"

_CODE = re.compile(r"[!-~]{1,256}\Z")
_VERSION_ONE = ("", "1", "1.0")
_Names = dict[str, msgspec.Raw]


def deliveries_in(body: bytes, binary_headers: Mapping[str, str]) -> list[Delivery]:
    """A delivery for each event of a request, in order. Raises `BadMessage` if the request cannot be split."""
    if f"{PREFIX}specversion" in binary_headers:
        return [Delivery(body, SOURCE, "", binary_headers, token=body)]
    return [Delivery(_as_cloud_event(event), SOURCE, "", token=bytes(event)) for event in _events(body)]


def as_it_came(delivery: Delivery) -> Delivery:
    """The same delivery, with the event as Event Grid sent it."""
    assert isinstance(delivery.token, bytes)
    return replace(delivery, body=delivery.token)


def validation_in(body: bytes) -> tuple[str, str]:
    """Topic and code of a validation event. Raises `Malformed`, `Invalid`."""
    try:
        events = msgspec.json.decode(body, type=list[dict[str, Any]])
    except (msgspec.DecodeError, UnicodeError, RecursionError) as wrong:
        raise Malformed("A validation must be sent as a list with one event") from wrong
    [event, *more] = events or [{}]
    data = event.get("data")
    topic, code = event.get("topic"), data.get("validationCode") if isinstance(data, dict) else None
    is_one = not more and event.get("eventType") == VALIDATION_TYPE
    if not is_one or not isinstance(topic, str) or not isinstance(code, str) or not _CODE.match(code):
        raise Invalid([Fault("must be a single validation event with a topic and a code", pointer="#")])
    return topic, code


def _events(body: bytes) -> list[msgspec.Raw]:
    try:
        if body.lstrip()[:1] == b"[":
            return msgspec.json.decode(body, type=list[msgspec.Raw])
        return [msgspec.json.decode(body, type=msgspec.Raw)]
    except (msgspec.DecodeError, UnicodeError, RecursionError) as wrong:
        raise BadMessage(f"the request is not JSON: {wrong}") from wrong


def _as_cloud_event(event: msgspec.Raw) -> bytes:
    """An event in Event Grid's schema under the names of CloudEvents; anything else unchanged."""
    try:
        names: _Names = msgspec.json.decode(event, type=_Names)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return bytes(event)  # the code that reads it reports what is wrong
    if "specversion" in names or "eventType" not in names:
        return bytes(event)
    nothing = msgspec.Raw(b'""')
    renamed = {
        "specversion": "1.0",
        "id": names.get("id", nothing),
        "source": names.get("topic", nothing),
        "type": names["eventType"],
        "data": names.get("data", msgspec.Raw(b"null")),
        "schemaversion": _schema_version(names.get("dataVersion", nothing)),
    }
    return msgspec.json.encode(renamed)


def _schema_version(said: msgspec.Raw) -> object:
    try:
        version = msgspec.json.decode(said)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return ""  # no schema has this version, so it is reported as not understood
    return "1" if version in _VERSION_ONE else version
