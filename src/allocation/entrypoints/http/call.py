"""One request as a resource sees it, and the reply that the resource gives."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import count, repeat
from typing import Annotated, Any
from urllib.parse import quote

import msgspec

from allocation.bootstrap import Application
from allocation.domain.commands import Command, is_id
from allocation.entrypoints.http.errors import BadHeader
from allocation.service_layer.answers import Answer
from allocation.service_layer.envelope import CommandEnvelope, LogPosition, valid_traceparent

JSON = "application/json"
NO_STORE = (("Cache-Control", "no-store"),)
NEVER = -1  # a version that no product has

Headers = tuple[tuple[str, str], ...]
LogToken = Annotated[
    str | None, msgspec.Meta(description="Its position in the log; null if nothing was recorded this time")
]

_encoder = msgspec.json.Encoder()
_KEY = re.compile(r"[ -~]{1,255}\Z")
_UNRESERVED = re.compile(r"[A-Za-z0-9._~-]+\Z")
_ENTITY_TAG = re.compile(r'(W/)?"([!#-~\x80-\xff]*)"')
_VERSION = re.compile(r"(0|[1-9][0-9]{0,17})\Z")


class Reply:
    """What is sent back: status, body, headers. Caches must not store it, unless `headers` say otherwise."""

    __slots__ = ("body", "headers", "media_type", "status")

    def __init__(self, status: int, body: bytes = b"", headers: Headers = NO_STORE, media_type: str = JSON) -> None:
        self.status = status
        self.body = body
        self.headers = headers
        self.media_type = media_type


def json_reply(status: int, content: Any, headers: Headers = NO_STORE, media_type: str = JSON) -> Reply:
    """`content` is a msgspec struct, or is made of such structs. Ends in a newline, for readers on a terminal."""
    return Reply(status, _encoder.encode(content) + b"\n", headers, media_type)


class Call:
    """One request. `source` names its route; the inbox keeps the keys that clients send under this name."""

    __slots__ = ("_correlation_id", "application", "environ", "source", "traceparent")

    def __init__(self, application: Application, environ: Mapping[str, Any], source: str) -> None:
        self.application = application
        self.environ = environ
        self.source = source
        self.traceparent = valid_traceparent(environ.get("HTTP_TRACEPARENT"))
        given = environ.get("HTTP_X_CORRELATION_ID")
        self._correlation_id: str | None = given if given is not None and is_id(given) else None

    @property
    def correlation_id(self) -> str:
        """The one that the client sent, if it is valid; otherwise one that is made at the first call."""
        if self._correlation_id is None:
            self._correlation_id = self.application.ids.new()
        return self._correlation_id

    def correlate(self) -> str:
        """The same as a method, for `observing.CORRELATION`."""
        return self.correlation_id

    def ask(self, command: Command) -> Answer:
        """Hand a command to the bus. Raises the error if it is refused or fails; `BadHeader` for a bad key."""
        return self.application.bus.ask(self._envelope(command, self._idempotency_key()))

    def ask_many(self, commands: Sequence[Command]) -> list[Answer]:
        """Hand commands to the bus, in order, as one transaction. Returns an answer for each, refusals included. The
        key applies to each command, together with its place. Raises `BadHeader`, `Unavailable`."""
        key = self._idempotency_key()
        keys = repeat(None) if key is None else (f"{key}#{n}" for n in count())
        envelopes = [self._envelope(command, own) for command, own in zip(commands, keys, strict=False)]
        return self.application.bus.handle_many(envelopes)

    def _envelope(self, command: Command, message_id: str | None) -> CommandEnvelope:
        context = {"source": self.source, "traceparent": self.traceparent}
        if self._correlation_id is not None:
            context["correlation_id"] = self._correlation_id
        envelope = self.application.bus.envelope(command, message_id, **context)
        self._correlation_id = envelope.correlation_id
        return envelope

    def _idempotency_key(self) -> str | None:
        key: str | None = self.environ.get("HTTP_IDEMPOTENCY_KEY")
        if key is not None and not _KEY.match(key):
            raise BadHeader("Idempotency-Key", "An Idempotency-Key has 1 to 255 printable ASCII characters")
        return key

    def if_version(self) -> int | None:
        """The version that `If-Match` asks for (RFC 9110, section 13.1.1), for the command to compare under the lock.

        None means any version. Of several tags the highest counts: versions only rise, so a client that has seen it
        knows that the lower ones are gone. A weak tag, or one that is not a version, matches no version.
        """
        given: str | None = self.environ.get("HTTP_IF_MATCH")
        if given is None or given.strip() == "*":
            return None
        tags = _ENTITY_TAG.findall(given)
        return max((int(tag) for weak, tag in tags if not weak and _VERSION.match(tag)), default=NEVER)

    def has(self, version: int) -> bool:
        """Whether `If-None-Match` says that the client has this version (RFC 9110, section 13.1.2)."""
        given: str | None = self.environ.get("HTTP_IF_NONE_MATCH")
        if given is None:
            return False
        return given.strip() == "*" or any(tag == str(version) for _, tag in _ENTITY_TAG.findall(given))

    def only_if_new(self) -> bool:
        """Whether `If-None-Match: *` says that nothing may be there yet, for what has no version. Raises `BadHeader`
        where it says something else: of which nobody ever got a tag, none can be meant."""
        given: str | None = self.environ.get("HTTP_IF_NONE_MATCH")
        if given is not None and given.strip() != "*":
            raise BadHeader("If-None-Match", "There is no ETag here to compare; If-None-Match can be * or absent")
        return given is not None

    def versioned(self, version: int, content: Any) -> Reply:
        """`content` as of a version of its product, or a 304 if the client has that version."""
        headers = (("ETag", f'"{version}"'), ("Cache-Control", "no-cache"))
        return Reply(304, headers=headers) if self.has(version) else json_reply(200, content, headers)


def log_token(position: LogPosition | None) -> str | None:
    """A position as clients get it: they may compare it and send it back, but not interpret it."""
    return None if position is None else str(position)


def path_to(collection: str, *ids: str) -> str:
    """The path of a resource. Ids are escaped, because they may contain characters with a meaning in a URL."""
    return "/".join((collection, *(x if _UNRESERVED.match(x) else quote(x, safe="") for x in ids)))
