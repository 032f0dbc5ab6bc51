"""Messages on the wire: CloudEvents 1.0, JSON event format, structured mode (all in the body) and binary mode (the
attributes in headers). Written by hand because each event passes here on its way out; the tests let the CloudEvents SDK
read what we write, and read what it writes.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from allocation.adapters.serialization import BadMessage
from allocation.service_layer.broker import Message

SOURCE = "/allocation"
JSON, STRUCTURED, BATCH = "application/json", "application/cloudevents+json", "application/cloudevents-batch+json"
PREFIX = "ce-"

_encode = msgspec.json.Encoder().encode
_ATTRIBUTE = re.compile(r"[!-~]{1,255}\Z")


def cloud_event(message: Message) -> dict[str, object]:
    """A message as the object that becomes its JSON; the one shape on brokers and in the feed."""
    return {
        "specversion": "1.0",
        "id": message.id,
        "source": SOURCE,
        "type": message.type,
        "subject": message.key,
        "time": message.time,
        "datacontenttype": JSON,
        "data": message.data,
        **message.extensions,
    }


def structured(message: Message) -> bytes:
    """The whole event as one JSON object; its content type is `STRUCTURED`."""
    return _encode(cloud_event(message))


def binary(message: Message, prefix: str = "ce_") -> tuple[dict[str, str], bytes]:
    """Headers, and the data alone as body. Brokers differ in `prefix`: `ce_` in Kafka, `cloudEvents:` in AMQP."""
    headers = {
        "content-type": JSON,
        f"{prefix}specversion": "1.0",
        f"{prefix}id": message.id,
        f"{prefix}source": SOURCE,
        f"{prefix}type": message.type,
        f"{prefix}subject": message.key,
        f"{prefix}time": _text(message.time),
    }
    for name, value in message.extensions.items():
        headers[prefix + name] = value if type(value) is str else _text(value)
    return headers, _encode(message.data)


def _text(value: object) -> str:
    """The value as JSON writes it, without the quotes: a moment becomes RFC 3339."""
    return _encode(value).decode().strip('"')


def in_one(body: bytes, headers: Mapping[str, str]) -> bytes:
    """A message as one body, to be kept: one in binary mode becomes the object that it is in structured mode, any other
    stays as it came."""
    if f"{PREFIX}specversion" not in headers:
        return body
    said = {name: value.encode("utf-8", "backslashreplace").decode() for name, value in headers.items()}
    event: dict[str, object] = {"datacontenttype": said["content-type"]} if "content-type" in said else {}
    event |= {name.removeprefix(PREFIX): value for name, value in said.items() if name.startswith(PREFIX)}
    try:
        msgspec.json.decode(body)
        event["data"] = msgspec.Raw(body)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        event["data_base64"] = body  # which is how bytes are written
    return _encode(event)


@dataclass(frozen=True, slots=True)
class Received:
    """A CloudEvent that came in: its attributes as text, and its data as JSON (or whatever it is)."""

    id: str
    source: str
    type: str
    data: bytes
    attributes: Mapping[str, str] = field(default_factory=dict)


def read(body: bytes, headers: Mapping[str, str] | None = None) -> Received | None:
    """What came in, in either mode; None if it is not a CloudEvent at all. Raises `BadMessage` for an invalid one.

    `headers` are lower case, those of binary mode begin with `ce-`.
    """
    headers = headers or {}
    if f"{PREFIX}specversion" in headers:
        found = {name.removeprefix(PREFIX): value for name, value in headers.items() if name.startswith(PREFIX)}
        return _received(found, body)
    try:
        event = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        if isinstance(error, msgspec.ValidationError):
            raise BadMessage("the message is JSON, but not an object") from error
        raise BadMessage(f"the message is not JSON: {error}") from error
    if "specversion" not in event:
        return None
    event = {name: value for name, value in event.items() if bytes(value) != b"null"}  # unset (CloudEvents JSON, 2.2)
    data = _data(event)
    return _received({name: _plain(name, value) for name, value in event.items()}, data)


def _data(event: dict[str, msgspec.Raw]) -> bytes:
    data, encoded = event.pop("data", msgspec.Raw(b"null")), event.pop("data_base64", None)
    if encoded is None:
        return bytes(data)
    try:
        return b64decode(msgspec.json.decode(encoded, type=str), validate=True)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise BadMessage(f"data_base64 cannot be read: {error}") from error


def _plain(name: str, value: msgspec.Raw) -> str:
    """An attribute as text. JSON may have it as text, a whole number or a truth value (CloudEvents JSON, 2.2)."""
    try:
        read: Any = msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:  # raw values were skipped, not read
        raise BadMessage(f"the attribute {name[:40]!r} cannot be read: {error}") from error
    if isinstance(read, bool):
        return str(read).lower()
    if not isinstance(read, str | int):
        raise BadMessage(f"the attribute {name[:40]!r} is neither text nor a whole number")
    return str(read)


def _received(attributes: dict[str, str], data: bytes) -> Received:
    if attributes.get("specversion") != "1.0":
        raise BadMessage(f"CloudEvents {attributes.get('specversion', '')[:40]!r} is not supported, only 1.0")
    for name in ("id", "source", "type"):
        if not _ATTRIBUTE.match(attributes.get(name, "")):
            raise BadMessage(f"the attribute {name} must be 1 to 255 printable ASCII characters without spaces")
    return Received(attributes["id"], attributes["source"], attributes["type"], data, attributes)
