"""Whether a newer document keeps what an older one promised."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from allocation.entrypoints.contracts.asyncapi import DIRECTION, VERSION, Json

WORDS_ONLY = ("title", "description", "default", "examples", VERSION, DIRECTION)
"""The parts of a schema that are for people; they may change freely."""


def breaking_changes(old: Json, new: Json) -> list[str]:
    """The changes that would break a program that relies on `old`, each in a sentence; empty if there are none.

    Within a version, a schema may gain fields that can be absent, and nothing else. An event may change in a new
    version, because its upcasters read the old one. A command never gets a new version, because the inbox keeps
    commands without a version: a changed command needs a new name.
    """
    return [*_channels(old["channels"], new["channels"]), *_schemas(_all(old), _all(new))]


def _all(document: Json) -> Json:
    schemas: Json = document["components"]["schemas"]
    return schemas


def _channels(old: Json, new: Json) -> Iterator[str]:
    for name, channel in old.items():
        if name not in new:
            yield f"the channel {name} is gone"
            continue
        for message in channel["messages"]:
            if message not in new[name]["messages"]:
                yield f"{message} is gone from the channel {name}"


def _schemas(old: Json, new: Json) -> Iterator[str]:
    for name, schema in old.items():
        if name not in new:
            yield f"{name} is gone"
            continue
        before, after = schema.get(VERSION, 1), new[name].get(VERSION, 1)
        changes = list(_changes(schema, new[name]))
        if after < before:
            yield f"{name} goes back from version {before} to {after}"
        elif schema.get(DIRECTION) == "in":
            yield from (f"{name}: {change}; give the changed command a new name" for change in changes)
        elif after == before:
            yield from (f"{name}: {change}; give the changed event a new version and an upcaster" for change in changes)


def _changes(old: Json, new: Json) -> Iterator[str]:
    """The changes of one schema that are more than additions."""
    fields, now = old.get("properties", {}), new.get("properties", {})
    must, must_now = set(old.get("required", ())), set(new.get("required", ()))
    for field, schema in fields.items():
        if field not in now:
            yield f"the field {field} is gone"
        elif _bare(schema) != _bare(now[field]):
            yield f"the field {field} was {_bare(schema)} and is now {_bare(now[field])}"
    for field in sorted(must_now - must):
        yield f"the field {field} is now required"
    for field in sorted(must - must_now):
        if field in now:
            yield f"the field {field} is now optional"
    whole, whole_now = ({k: v for k, v in _bare(x).items() if k not in ("properties", "required")} for x in (old, new))
    if whole != whole_now:
        yield f"it was {whole} and is now {whole_now}"


def _bare(schema: Any) -> Any:
    """The schema without the parts that are for people."""
    return {name: value for name, value in schema.items() if name not in WORDS_ONLY}
