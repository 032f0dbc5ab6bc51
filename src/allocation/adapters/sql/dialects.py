"""How many rows travel in one statement, which is what SQLite and PostgreSQL do differently; nothing else is in here.

PostgreSQL takes a column as one string (see `columns`). SQLite takes the rows of keys for a read as one JSON array,
rows to insert as lists (see `values_lists`), and rows to update by executemany. Statements write parameters as `?`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import Connection, Table

from allocation.adapters.sql.columns import Columns, ColumnsOfText, joined, unnest
from allocation.adapters.sql.values_lists import ValuesLists, rows_in_lists
from allocation.service_layer.errors import Conflict

Row = Sequence[Any]

_POSTGRES_TYPES = {
    "TEXT": "text",
    "BIGINT": "bigint",
    "INTEGER": "int",
    "SMALLINT": "smallint",
    "BOOLEAN": "boolean",
    "DATE": "date",
    "DATETIME": "timestamptz",
}


@dataclass(frozen=True, slots=True)
class Step:
    """One statement with its parameters. On SQLite, if they are a list of tuples, it runs once for each, after `lists`,
    another statement that takes several rows at a time (and cannot be combined with `meets` or `told`).

    `meets`: how many rows it has to affect; if it does not, `run` raises `Conflict` and the transaction is over. `told`
    is called with the rows that it returns: on SQLite before the next step is requested, on PostgreSQL after the last.
    """

    sql: str
    parameters: Sequence[Any] = ()
    meets: int | None = None
    told: Callable[[Sequence[Any]], None] | None = None
    lists: tuple[str, Sequence[Sequence[Any]]] | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a step returned."""

    rows: Sequence[Any]


class Dialect(ABC):
    """`begin` opens a transaction that may write; `one_of` joins at most one row by its key; `greatest` is the scalar
    function; `for_update` locks the rows of the alias it is given. `answers_at_the_end`: the steps of a run are all
    answered after the last one, not each before the next is requested."""

    begin: str
    greatest: str
    answers_at_the_end: bool

    def __init__(self) -> None:
        self._filled: dict[Hashable, str] = {}

    @abstractmethod
    def rows(self, alias: str, *columns: str) -> str:
        """A FROM item with one row for each of the rows to read by; its columns are text."""

    @abstractmethod
    def one_of(self, table: str, alias: str, condition: str, outer: bool = False) -> str:
        """A join to the one row of a table that meets the condition."""

    @abstractmethod
    def first_open_batches(self, rows: str, columns: str) -> str:
        """The first page of open batches, in order of preference, of each `v.sku`; `?` is the page size."""

    @abstractmethod
    def first_waiting(self, rows: str, columns: str) -> str:
        """The first page of waiting lines, by quantity and age, of each `v.sku`; `?` is the page size."""

    @abstractmethod
    def open_batches_of(self, sku: str) -> str:
        """An outer join to every open batch `b` of a sku."""

    @abstractmethod
    def waiting_of_each_size(self, columns: str) -> str:
        """For each quantity in `sizes`, the oldest waiting lines of `:sku` after `:after`, `:page` of them."""

    @abstractmethod
    def for_update(self, alias: str) -> str: ...

    @abstractmethod
    def day_of(self, moment: str) -> str:
        """The day (UTC, ISO 8601 text) of a column that holds a moment."""

    @abstractmethod
    def text_of_day(self, day: str) -> str:
        """A column that holds a day as ISO 8601 text."""

    @abstractmethod
    def sql(self, statement: str) -> str:
        """The statement with the driver's own parameter marks."""

    @abstractmethod
    def run(self, connection: Connection, steps: Iterable[Step]) -> list[Outcome]:
        """Run steps in order, each requested when its turn comes; the first that fails ends the run. Each step sees
        what the earlier ones wrote, and what they waited for."""

    @abstractmethod
    def reading(self, statement: str, rows: Sequence[Row], *parameters: Any) -> Step:
        """A statement that has one `rows` item, and `parameters` after it."""

    @abstractmethod
    def inserting(self, table: Table, rows: Sequence[Row], conflict: str = "") -> Step:
        """Insert rows, at least one, given in the order of the table's (not computed) columns; days and moments as
        ISO 8601 text."""

    @abstractmethod
    def updating(self, statement: str, types: Sequence[str], rows: Sequence[Row], meets_all: bool = False) -> Step:
        """An UPDATE (with `/*from*/` before WHERE) or DELETE (`/*using*/`) for each row, whose fields are `{0}`, `{1}`,
        ...; with `meets_all`, each has to affect one row of the table."""

    @abstractmethod
    def writing(self, statement: str, types: Sequence[str], columns: Columns) -> Step:
        """An INSERT ... SELECT ... FROM `/*rows*/` for each row, whose fields are `{0}`, `{1}`, ..."""


def _written(table: Table) -> list[Any]:
    return [column for column in table.columns if column.computed is None]


def _into(table: Table) -> str:
    return f"INTO {table.name} ({', '.join(column.name for column in _written(table))})"


class SqliteDialect(Dialect):
    begin = "BEGIN IMMEDIATE"
    answers_at_the_end = False
    greatest = "max"

    def rows(self, alias: str, *columns: str) -> str:
        if len(columns) == 1:
            return f"(SELECT value AS {columns[0]} FROM json_each(?)) AS {alias}"
        picked = ", ".join(f"json_extract(value, '$[{n}]') AS {name}" for n, name in enumerate(columns))
        return f"(SELECT {picked} FROM json_each(?)) AS {alias}"

    def one_of(self, table: str, alias: str, condition: str, outer: bool = False) -> str:
        # SQLite keeps the order of a CROSS JOIN: the rows first, then the table by its key, whatever ANALYZE found.
        return f"{'LEFT' if outer else 'CROSS'} JOIN {table} {alias} ON {condition}"

    def first_open_batches(self, rows: str, columns: str) -> str:
        return (
            f"SELECT {columns} FROM {rows} CROSS JOIN batches b ON b.rowid IN (SELECT o.rowid FROM batches o "
            "WHERE o.sku = v.sku AND o.is_open ORDER BY coalesce(o.eta, '0001-01-01'), o.reference LIMIT ?)"
        )

    def first_waiting(self, rows: str, columns: str) -> str:
        return (
            f"SELECT {columns} FROM {rows} CROSS JOIN order_lines l ON l.rowid IN (SELECT o.rowid FROM order_lines o "
            "WHERE o.sku = v.sku AND o.batchref IS NULL ORDER BY o.qty, o.since LIMIT ?)"
        )

    def open_batches_of(self, sku: str) -> str:
        return f"LEFT JOIN batches b ON b.sku = {sku} AND b.is_open"

    def waiting_of_each_size(self, columns: str) -> str:
        return (
            f"SELECT {columns} FROM sizes CROSS JOIN order_lines l ON l.sku = :sku AND l.batchref IS NULL "
            "AND l.qty = sizes.qty AND l.since > :after AND l.since <= coalesce((SELECT w.since FROM order_lines w "
            "WHERE w.sku = :sku AND w.batchref IS NULL AND w.qty = sizes.qty AND w.since > :after "
            "ORDER BY w.since LIMIT 1 OFFSET :page), 9223372036854775807)"
        )

    def for_update(self, alias: str) -> str:
        return ""

    def day_of(self, moment: str) -> str:
        return f"substr({moment}, 1, 10)"

    def text_of_day(self, day: str) -> str:
        return day

    def sql(self, statement: str) -> str:
        return statement

    def run(self, connection: Connection, steps: Iterable[Step]) -> list[Outcome]:
        driver: Any = connection.connection.driver_connection
        outcomes = []
        for step in steps:
            if step.lists is not None:
                driver.executemany(*step.lists)
            once_a_row = type(step.parameters) is list
            cursor = (driver.executemany if once_a_row else driver.execute)(step.sql, step.parameters)
            rows = cursor.fetchall() if cursor.description else ()
            outcomes.append(Outcome(rows))
            if step.told is not None:
                step.told(rows)
            if step.meets is not None and cursor.rowcount != step.meets:
                raise Conflict(f"{step.meets - cursor.rowcount} of {step.meets} rows are not as they were loaded")
        return outcomes

    def reading(self, statement: str, rows: Sequence[Row], *parameters: Any) -> Step:
        source = msgspec.json.encode([row[0] for row in rows] if rows and len(rows[0]) == 1 else rows)
        return Step(statement, (source.decode(), *parameters))

    def inserting(self, table: Table, rows: Sequence[Row], conflict: str = "") -> Step:
        key = (table.name, conflict)
        if (one_by_one := self._filled.get(key)) is None:
            marks = ", ".join("?" * len(rows[0]))
            one_by_one = self._filled[key] = f"INSERT {_into(table)} VALUES ({marks}) {conflict}"
        in_lists = rows_in_lists(table, conflict, len(rows))
        if not in_lists:
            return Step(one_by_one, list(rows))
        lists = ValuesLists(rows[:in_lists])
        if (several := self._filled.get((*key, lists.alike))) is None:
            several = f"INSERT OR FAIL {_into(table)} VALUES {lists.marks()} {conflict}"
            self._filled[*key, lists.alike] = several
        return Step(one_by_one, list(rows[in_lists:]), lists=(several, lists.parameters))

    def updating(self, statement: str, types: Sequence[str], rows: Sequence[Row], meets_all: bool = False) -> Step:
        numbered = statement.format(*(f"?{n + 1}" for n in range(len(types))))
        return Step(numbered, list(rows), len(rows) if meets_all else None)

    def writing(self, statement: str, types: Sequence[str], columns: Columns) -> Step:
        return self.updating(statement.replace("/*rows*/", "(SELECT 1)"), types, list(zip(*columns, strict=True)))


class PostgresDialect(Dialect):
    begin = "BEGIN"
    answers_at_the_end = True
    greatest = "greatest"

    def rows(self, alias: str, *columns: str) -> str:
        return unnest(alias, columns, ["text"] * len(columns))

    def one_of(self, table: str, alias: str, condition: str, outer: bool = False) -> str:
        # LATERAL with LIMIT keeps the key's index in the plan, even in a plan made while the table was empty.
        one = f"LATERAL (SELECT * FROM {table} {alias} WHERE {condition} LIMIT 1) {alias}"
        return f"LEFT JOIN {one} ON true" if outer else f"CROSS JOIN {one}"

    def first_open_batches(self, rows: str, columns: str) -> str:
        return (
            f"SELECT {columns} FROM {rows} CROSS JOIN LATERAL (SELECT * FROM batches o WHERE o.sku = v.sku "
            "AND o.is_open ORDER BY coalesce(o.eta, '0001-01-01'), o.reference LIMIT ?) b"
        )

    def first_waiting(self, rows: str, columns: str) -> str:
        return (
            f"SELECT {columns} FROM {rows} CROSS JOIN LATERAL (SELECT * FROM order_lines o WHERE o.sku = v.sku "
            "AND o.batchref IS NULL ORDER BY o.qty, o.since LIMIT ?) l"
        )

    def open_batches_of(self, sku: str) -> str:
        return f"LEFT JOIN LATERAL (SELECT * FROM batches o WHERE o.sku = {sku} AND o.is_open) b ON true"

    def waiting_of_each_size(self, columns: str) -> str:
        return (
            f"SELECT {columns} FROM sizes CROSS JOIN LATERAL (SELECT * FROM order_lines w WHERE w.sku = :sku "
            "AND w.batchref IS NULL AND w.qty = sizes.qty AND w.since > :after ORDER BY w.since LIMIT :page) l"
        )

    def for_update(self, alias: str) -> str:
        return f"FOR UPDATE OF {alias}"

    def day_of(self, moment: str) -> str:
        return f"to_char({moment} AT TIME ZONE 'UTC', 'YYYY-MM-DD')"

    def text_of_day(self, day: str) -> str:
        return f"to_char({day}, 'YYYY-MM-DD')"

    def sql(self, statement: str) -> str:
        return statement.replace("?", "%s")

    def run(self, connection: Connection, steps: Iterable[Step]) -> list[Outcome]:
        """In the driver's pipeline mode: one trip to the server and back for any number of steps, and the server works
        on one while the next is made."""
        driver: Any = connection.connection.driver_connection
        try:
            with driver.pipeline() as trip:
                _without_a_last_flush(trip)
                sent = [(step.told, driver.execute(step.sql, step.parameters or None)) for step in steps]
        except BaseException:
            # The driver believes that statements which the server skipped after the failure are prepared, and would
            # fail on them from now on.
            connection.invalidate()
            raise
        outcomes = []
        for told, cursor in sent:
            rows = cursor.fetchall() if cursor.description else ()
            outcomes.append(Outcome(rows))
            if told is not None:
                told(rows)
        return outcomes

    def reading(self, statement: str, rows: Sequence[Row], *parameters: Any) -> Step:
        return Step(statement, (*map(joined, zip(*rows, strict=True)), *parameters))

    def inserting(self, table: Table, rows: Sequence[Row], conflict: str = "") -> Step:
        columns = ColumnsOfText(list(zip(*rows, strict=True)))
        key = (table.name, conflict, columns.alike)
        if (statement := self._filled.get(key)) is None:
            written = _written(table)
            names = [column.name for column in written]
            types = [_POSTGRES_TYPES[str(column.type)] for column in written]
            listed = ", ".join(names)
            source = columns.source(names, types)
            statement = self.sql(f"INSERT INTO {table.name} ({listed}) SELECT {listed} FROM {source} {conflict}")
            self._filled[key] = statement
        return Step(statement, columns.parameters())

    def updating(self, statement: str, types: Sequence[str], rows: Sequence[Row], meets_all: bool = False) -> Step:
        columns = ColumnsOfText(list(zip(*rows, strict=True)))
        key = (statement, meets_all, columns.alike)
        if (filled := self._filled.get(key)) is None:
            names = [f"c{n}" for n in range(len(types))]
            source = columns.source(names, types)
            filled = statement.format(*(f"v.{name}" for name in names))
            filled = filled.replace("/*from*/", f"FROM {source}").replace("/*using*/", f"USING {source}")
            if meets_all:
                # COMMIT follows in the same trip, before anybody can check a count: so the server itself has to fail.
                filled = f"WITH met AS ({filled} RETURNING 1) SELECT 1 / (count(*) = ?)::int FROM met"
            filled = self._filled[key] = self.sql(filled)
        parameters = columns.parameters()
        return Step(filled, (*parameters, len(rows)) if meets_all else parameters)

    def writing(self, statement: str, types: Sequence[str], columns: Columns) -> Step:
        travelling = ColumnsOfText(columns)
        key = (statement, travelling.alike)
        if (filled := self._filled.get(key)) is None:
            names = [f"c{n}" for n in range(len(types))]
            filled = statement.format(*(f"v.{name}" for name in names))
            filled = self.sql(filled.replace("/*rows*/", travelling.source(names, types)))
            self._filled[key] = filled
        return Step(filled, travelling.parameters())


def _without_a_last_flush(trip: Any) -> None:
    """psycopg (3.3) sends a Flush after its last Sync, if not all answers are there yet. The Flush requests nothing
    that Sync has not requested, but it ends the server's `idle_in_transaction_session_timeout`: a process that is
    stopped then would hold its locks for as long as it is stopped."""
    fetch = trip._fetch_gen
    trip._fetch_gen = lambda *, flush: fetch(flush=False)
