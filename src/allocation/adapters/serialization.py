"""Messages to JSON and back. What is written here is kept for good: change it only by a new schema version."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import Any, get_args

import msgspec

from allocation.domain import errors, events
from allocation.domain.commands import Command
from allocation.domain.errors import Refused
from allocation.domain.events import Event
from allocation.service_layer.answers import BatchState, Promise, Result
from allocation.service_layer.envelope import LogPosition
from allocation.service_layer.history.snapshots import BatchThen, Snapshot, WaitingThen

_encoder = msgspec.json.Encoder()
_EVENTS: dict[str, msgspec.json.Decoder[Any]] = {t.__name__: msgspec.json.Decoder(t) for t in get_args(events.Event)}
_COMMANDS: dict[str, msgspec.json.Decoder[Any]] = {t.__name__: msgspec.json.Decoder(t) for t in get_args(Command)}
_RESULTS: dict[str, type] = {t.__name__: t for t in (Promise, BatchState)}
_REFUSALS: dict[str, type[Refused]] = {t.__name__: t for t in Refused.__subclasses__()}


EVENT_READERS: dict[str, Callable[[str | bytes], Event]] = {name: x.decode for name, x in _EVENTS.items()}
"""By the type's name, for those who read millions. Raise what `UNREADABLE` lists."""

UNREADABLE = (msgspec.DecodeError, UnicodeError, RecursionError)


class BadMessage(ValueError):
    """A stored or received message that cannot be read; says why."""


class UnknownMessage(BadMessage):
    """Of a type that this version does not know."""


def encode(message: Event | Command) -> str:
    """The message's fields as a JSON object; its type is kept beside it."""
    return _encoder.encode(message).decode()


def decode_event(name: str, data: str | bytes) -> Event:
    """Raises `BadMessage`, as `UnknownMessage` where it is of an unknown type."""
    event: Event = _decode(_EVENTS.get(name), name, data)
    return event


def decode_command(name: str, data: str | bytes) -> Command:
    """Raises `BadMessage`, as `UnknownMessage` where it is of an unknown type."""
    command: Command = _decode(_COMMANDS.get(name), name, data)
    return command


def _decode(decoder: msgspec.json.Decoder[Any] | None, name: str, data: str | bytes) -> Any:
    if decoder is None:
        raise UnknownMessage(f"unknown message type {name[:40]!r}")
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise BadMessage(f"{name} cannot be read: {error}") from error


def encode_outcome(result: Result, error: Exception | None) -> str:
    """A command's result, or its refusal, for the inbox."""
    if isinstance(error, Refused):
        fields = {name: getattr(error, name) for name in error.__dataclass_fields__}  # type: ignore[attr-defined]  # every refusal is a dataclass
        return _encoder.encode({"refused": type(error).__name__, "fields": fields}).decode()
    if result is None:
        return "{}"
    return _encoder.encode({"result": type(result).__name__, "fields": result}).decode()


def decode_outcome(data: str | bytes) -> tuple[Result, Refused | None]:
    """What `encode_outcome` wrote."""
    outcome = msgspec.json.decode(data)
    if refused := outcome.get("refused"):
        return None, _refusal(_REFUSALS[refused], outcome["fields"])
    if result := outcome.get("result"):
        return msgspec.convert(outcome["fields"], _RESULTS[result]), None
    return None, None


def _refusal(kind: type[Refused], fields: dict[str, Any]) -> Refused:
    if kind is errors.NotEnoughStock:
        fields["available"] = tuple(msgspec.convert(a, errors.Available) for a in fields["available"])
    return kind(**fields)


_State = tuple[tuple[BatchThen, ...], tuple[WaitingThen, ...]]
_state: msgspec.json.Decoder[_State] = msgspec.json.Decoder(_State)


def encode_snapshot(snapshot: Snapshot) -> str:
    """What a snapshot holds of the product; whose it is and of when is kept beside it."""
    return _encoder.encode((snapshot.batches, snapshot.waiting)).decode()


def decode_snapshot(sku: str, version: int, position: LogPosition, data: str | bytes) -> Snapshot:
    """What `encode_snapshot` wrote."""
    return Snapshot(sku, version, position, *_state.decode(data))


def to_date(text: str | date | None) -> date | None:
    """A calendar day as a database gave it (SQLite: text, ISO 8601)."""
    return date.fromisoformat(text) if isinstance(text, str) else text


def text_of(body: bytes) -> str:
    """Bytes that may be anything, as text that any database takes: what cannot be shown is escaped."""
    return body.decode("utf-8", "backslashreplace").replace("\0", "\\x00")
