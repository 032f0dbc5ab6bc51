"""Messages to JSON and back. What is written here is kept for good: change it only by a new schema version."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any, get_args

import msgspec

from allocation.adapters.schemas import BadMessage as BadMessage
from allocation.adapters.schemas import Schemas
from allocation.adapters.schemas import UnknownMessage as UnknownMessage
from allocation.domain import errors
from allocation.domain.commands import Command
from allocation.domain.errors import Refused
from allocation.domain.events import Event
from allocation.service_layer.answers import BatchState, Promise, Result
from allocation.service_layer.envelope import LogPosition
from allocation.service_layer.history.snapshots import BatchThen, Snapshot, WaitingThen

EVENTS = Schemas(get_args(Event))
COMMANDS = Schemas(get_args(Command))
"""A command is kept in the inbox without a version: it may gain fields that can be left out, but must not change in any
other way."""

_encoder = msgspec.json.Encoder()
_outcome = msgspec.json.Decoder(dict[str, Any])
_RESULTS: dict[str, type] = {t.__name__: t for t in (Promise, BatchState)}
_REFUSALS: dict[str, type[Refused]] = {t.__name__: t for t in Refused.__subclasses__()}


UNREADABLE = (msgspec.DecodeError, UnicodeError, RecursionError, BadMessage)
"""What `EVENTS.readers` raise."""


def encode(message: Event | Command) -> str:
    """The message's fields as a JSON object; its type and version are kept beside it."""
    return _encoder.encode(message).decode()


def encode_all(messages: Sequence[Any]) -> list[str]:
    """Each as a JSON object, as `encode` does one."""
    return _encoder.encode_lines(messages).decode().split("\n")[:-1]


def event_version(event: Event) -> int:
    """The schema version that `encode` writes for it."""
    return EVENTS.version_of(type(event))


def written_as(event: Event) -> tuple[str, int]:
    """The event's name, and that version."""
    return EVENTS.names_and_versions[type(event)]


def decode_event(name: str, data: str | bytes, version: int = 1) -> Event:
    """Raises `BadMessage`, as `UnknownMessage` where it is of an unknown type or version."""
    event: Event = EVENTS.decode(name, data, version)
    return event


def decode_command(name: str, data: str | bytes) -> Command:
    """Raises `BadMessage`, as `UnknownMessage` where it is of an unknown type."""
    command: Command = COMMANDS.decode(name, data, 1)
    return command


def outcome_of(result: Result, error: Exception | None) -> dict[str, Any]:
    """A command's result, or its refusal, as the inbox holds it, to be encoded."""
    if isinstance(error, Refused):
        fields = {name: getattr(error, name) for name in error.__dataclass_fields__}  # type: ignore[attr-defined]  # every refusal is a dataclass
        return {"refused": type(error).__name__, "fields": fields}
    return {} if result is None else {"result": type(result).__name__, "fields": result}


def decode_outcome(data: str | bytes) -> tuple[Result, Refused | None]:
    """An `outcome_of` that was encoded. Raises `BadMessage`."""
    try:
        outcome = _outcome.decode(data)
        if refused := outcome.get("refused"):
            return None, _refusal(_REFUSALS[refused], outcome["fields"])
        if result := outcome.get("result"):
            return msgspec.convert(outcome["fields"], _RESULTS[result]), None
    except (msgspec.DecodeError, UnicodeError, RecursionError, KeyError, TypeError) as bad:
        raise BadMessage(f"a stored answer cannot be read: {bad!r}") from bad
    return None, None


def _refusal(kind: type[Refused], fields: dict[str, Any]) -> Refused:
    if kind is errors.NotEnoughStock:
        fields["available"] = tuple(msgspec.convert(a, errors.Available) for a in fields["available"])
    return kind(**fields)


_State = tuple[tuple[BatchThen, ...], tuple[WaitingThen, ...]]
_state: msgspec.json.Decoder[_State] = msgspec.json.Decoder(_State)


def encode_snapshot(snapshot: Snapshot) -> str:
    """What a snapshot holds of the product; its sku, version and position are kept beside it."""
    return _encoder.encode((snapshot.batches, snapshot.waiting)).decode()


def decode_snapshot(sku: str, version: int, position: LogPosition, data: str | bytes) -> Snapshot:
    """What `encode_snapshot` wrote. Raises one of `UNREADABLE`."""
    return Snapshot(sku, version, position, *_state.decode(data))


def to_date(text: str | date | None) -> date | None:
    """A calendar day from a database's value (SQLite: text, ISO 8601)."""
    return date.fromisoformat(text) if isinstance(text, str) else text


def text_of(body: bytes) -> str:
    """Bytes that may be anything, as text that any database takes: what cannot be shown is escaped."""
    return body.decode("utf-8", "backslashreplace").replace("\0", "\\x00")
