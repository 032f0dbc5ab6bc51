"""Versions of messages: what is written today, and how what was written earlier becomes that.

A message is kept for good in the form it was written in. A later version of its class reads it through *upcasters*, one
for each step from a version to the next, so that the rest of the program knows today's form only. Unknown fields are
ignored; a version that is newer than this program is refused, never guessed at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec

Fields = dict[str, Any]
Upcaster = Callable[[Fields], Fields]
"""Takes the fields of a version, as in JSON, and returns those of the next."""


class BadMessage(ValueError):
    """A stored or received message that cannot be read; says why."""


class UnknownMessage(BadMessage):
    """Of a type or a version that this program does not know."""


class Schemas:
    """The classes of messages, by name, and their versions.

    `upcasters` of a message lead from version 1 to 2, from 2 to 3, and so on; so its present version is one more than
    the number of upcasters, and there is no new version without a way to read the old one.
    """

    def __init__(self, messages: Iterable[type], upcasters: Mapping[str, Sequence[Upcaster]] | None = None) -> None:
        self.types = {message.__name__: message for message in messages}
        self._upcasters = dict(upcasters or {})
        if strangers := self._upcasters.keys() - self.types.keys():
            raise ValueError(f"there is no message {', '.join(sorted(strangers))} to upcast")
        self._versions = {name: 1 + len(self._upcasters.get(name, ())) for name in self.types}
        self.names_and_versions = {kind: (name, self._versions[name]) for name, kind in self.types.items()}
        """The name and version of each class, as they are written today."""
        self.readers: dict[tuple[str, int], Callable[[str | bytes], Any]] = {}
        """By name and version, for callers that read millions. `decode` translates what they raise."""
        for name, message in self.types.items():
            today = self._versions[name]
            self.readers[name, today] = msgspec.json.Decoder(message).decode
            self.readers |= {(name, v): partial(self._upcast, name, v) for v in range(1, today)}

    def version_of(self, message: type) -> int:
        """The version that is written today."""
        return self.names_and_versions[message][1]

    def decode(self, name: str, data: str | bytes, version: int) -> Any:
        """A message from its JSON. Raises `BadMessage`, as `UnknownMessage` for an unknown type or version."""
        reader = self.readers.get((name, version))
        if reader is None:
            raise self._unknown(name, version)
        try:
            return reader(data)
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            raise BadMessage(f"{name} cannot be read: {error}") from error

    def _unknown(self, name: str, version: int) -> UnknownMessage:
        if name not in self.types:
            return UnknownMessage(f"unknown message type {name[:40]!r}")
        return UnknownMessage(
            f"{name} of schema version {version} is not supported: this program knows up to {self._versions[name]}"
        )

    def _upcast(self, name: str, version: int, data: str | bytes) -> Any:
        fields = msgspec.json.decode(data, type=dict[str, Any])
        for upcaster in self._upcasters[name][version - 1 :]:
            try:
                fields = upcaster(fields)
            except (KeyError, TypeError, ValueError) as error:
                raise BadMessage(f"{name} of schema version {version} cannot be read: {error!r}") from error
        return msgspec.convert(fields, self.types[name])
