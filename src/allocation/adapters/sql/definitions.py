"""Definitions of subscriptions in the database, as JSON."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
from sqlalchemy import Connection, Engine, delete, select, update
from sqlalchemy.dialects import postgresql, sqlite

from allocation.adapters.sql.engine import turn_to_write
from allocation.adapters.sql.errors import translated
from allocation.adapters.sql.tables import definitions
from allocation.service_layer.definitions import Definition, Definitions

_decode = msgspec.json.Decoder(Definition).decode


class SqlDefinitions(Definitions):
    """Each method is one statement, which commits by itself."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def put(self, definition: Definition) -> None:
        with translated(), turn_to_write(self._engine), self._engine.connect() as connection:
            inserting = _insert(connection)
            kept = {"definition": inserting.excluded.definition, "stopped": inserting.excluded.stopped}
            row = {"name": definition.name, "definition": _text(definition), "stopped": definition.stopped}
            connection.execute(inserting.on_conflict_do_update(index_elements=["name"], set_=kept), row)

    def get(self, name: str) -> Definition | None:
        with translated(), self._engine.connect() as connection:
            row = connection.execute(select(definitions).where(definitions.c.name == name)).one_or_none()
        return None if row is None else _definition(row)

    def all(self) -> list[Definition]:
        with translated(), self._engine.connect() as connection:
            return [_definition(row) for row in connection.execute(select(definitions).order_by(definitions.c.name))]

    def delete(self, name: str) -> bool:
        with translated(), turn_to_write(self._engine), self._engine.connect() as connection:
            return connection.execute(delete(definitions).where(definitions.c.name == name)).rowcount == 1

    def stop(self, definition: Definition, reason: str) -> bool:
        d = definitions.c
        same = (d.name == definition.name) & (d.definition == _text(definition)) & d.stopped.is_(None)
        with translated(), turn_to_write(self._engine), self._engine.connect() as connection:
            return connection.execute(update(definitions).where(same).values(stopped=reason)).rowcount == 1


def _insert(connection: Connection) -> Any:
    return (sqlite if connection.dialect.name == "sqlite" else postgresql).insert(definitions)


def _text(definition: Definition) -> str:
    """The same text for the same definition: fields stand in their order."""
    return msgspec.json.encode(replace(definition, stopped=None)).decode()


def _definition(row: Any) -> Definition:
    return replace(_decode(row.definition), stopped=row.stopped)
