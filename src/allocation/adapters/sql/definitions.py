"""Definitions of subscriptions in the database, as JSON."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
from sqlalchemy import Connection, Engine, delete, select, update
from sqlalchemy.dialects import postgresql, sqlite

from allocation.adapters.sql.cursor_rows import forget, make_cursors, writing
from allocation.adapters.sql.engine import dialect_of, turn_to_write
from allocation.adapters.sql.errors import translated
from allocation.adapters.sql.tables import definitions
from allocation.service_layer.definitions import Definition, Definitions
from allocation.service_layer.envelope import Clock

_decode = msgspec.json.Decoder(Definition).decode


class SqlDefinitions(Definitions):
    """A definition's row is locked before its cursors are touched: who makes and who removes them wait for each
    other."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine, self._clock, self._dialect = engine, clock, dialect_of(engine)

    def put(self, definition: Definition, known: Definition | None, from_the_beginning: bool) -> bool:
        here = definitions.c.name == definition.name
        written = {"definition": _text(definition), "stopped": definition.stopped}
        with writing(self._engine) as connection:
            row = connection.execute(select(definitions).where(here).with_for_update()).one_or_none()
            if known != (None if row is None else _definition(row)):
                return False
            if row is None:
                # No row can be locked that is not there: who inserts it second waits for the first, and inserts none.
                inserting = _insert(connection).values(name=definition.name, **written).on_conflict_do_nothing()
                if connection.scalar(inserting.returning(definitions.c.name)) is None:
                    return False
                forget(connection, definition.name)
            elif definition != known:
                connection.execute(update(definitions).where(here).values(written))
            make_cursors(connection, self._dialect, definition.name, from_the_beginning, self._clock.now())
            return True

    def get(self, name: str) -> Definition | None:
        with translated(), self._engine.connect() as connection:
            row = connection.execute(select(definitions).where(definitions.c.name == name)).one_or_none()
        return None if row is None else _definition(row)

    def all(self) -> list[Definition]:
        with translated(), self._engine.connect() as connection:
            return [_definition(row) for row in connection.execute(select(definitions).order_by(definitions.c.name))]

    def delete(self, name: str) -> bool:
        with writing(self._engine) as connection:
            was_there = connection.execute(delete(definitions).where(definitions.c.name == name)).rowcount == 1
            if was_there:
                forget(connection, name)
            return was_there

    def stop(self, definition: Definition, reason: str) -> bool:
        d = definitions.c
        same = (d.name == definition.name) & (d.definition == _text(definition)) & d.stopped.is_(None)
        with translated(), turn_to_write(self._engine), self._engine.connect() as connection:
            return connection.execute(update(definitions).where(same).values(stopped=reason)).rowcount == 1


def _insert(connection: Connection) -> Any:
    return (sqlite if connection.dialect.name == "sqlite" else postgresql).insert(definitions)


def _text(definition: Definition) -> str:
    """The same definition always gives the same text: its fields are in a fixed order."""
    return msgspec.json.encode(replace(definition, stopped=None)).decode()


def _definition(row: Any) -> Definition:
    return replace(_decode(row.definition), stopped=row.stopped)
