"""The floor's statements for PostgreSQL, in the variants that were tried.

They differ in how a thousand rows travel (one string a column, one list a column, one JSON parameter, COPY, one
statement a row), whether all writes are one statement, and whether statements go out without waiting for answers
(pipeline mode: the server works on one while the rows of the next are made).
"""

import json
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import psycopg

from benchmarks.floor import PAGE, Group, Line, OpenBatch

SEPARATOR, NULL = "\x1f", "\x1e"

Columns = Sequence[tuple[str, str]]
"""Names and types of the columns of rows that travel."""


@dataclass(frozen=True, slots=True)
class Write:
    """The writing of one table. In the statement `{rows}` stands for the rows, `{base}` for the position before the
    group's first event, `{at}` for its moment, `{correlation_id}` for what all commands of the group have in common.
    `guarded`: as many rows of the table must be met."""

    statement: str
    columns: Columns
    rows_of: Callable[[Group], list[tuple]]
    guarded: bool = False


LINES = Write(
    "INSERT INTO order_lines (orderid, sku, qty, batchref, since) SELECT orderid, sku, qty, batchref, since {rows}",
    [("orderid", "text"), ("sku", "text"), ("qty", "int"), ("batchref", "text"), ("since", "bigint")],
    Group.lines,
)
BATCHES = Write(
    "UPDATE batches SET allocated_quantity = allocated_quantity + taken {rows} WHERE batches.reference = v.ref",
    [("ref", "text"), ("taken", "int")],
    lambda group: group.batches,
    guarded=True,
)
PRODUCTS = Write(
    "UPDATE products SET version_number = version {rows} WHERE products.sku = v.sku AND version_number = loaded",
    [("sku", "text"), ("loaded", "bigint"), ("version", "bigint")],
    lambda group: group.products,
    guarded=True,
)
EVENTS = Write(
    "INSERT INTO event_log (log_partition, position, sku, version, id, type, schema_version, at, correlation_id, "
    "causation_id, data) SELECT 0, {base} + place, sku, version, id, type, 1, {at}, {correlation_id}, cause, data "
    "{rows}",
    [
        ("place", "int"),
        ("sku", "text"),
        ("version", "bigint"),
        ("id", "text"),
        ("type", "text"),
        ("data", "text"),
        ("cause", "text"),
    ],
    Group.events,
)
INBOX = Write(
    "INSERT INTO inbox (id, source, client, type, body, outcome, log_partition, position, at, correlation_id) "
    "SELECT id, 'import', '', 'Allocate', body, outcome, 0, {base} + place, {at}, {correlation_id} {rows}",
    [("id", "text"), ("body", "text"), ("outcome", "text"), ("place", "int")],
    Group.inbox,
)
STATE, LOG = (LINES, BATCHES, PRODUCTS), (EVENTS, INBOX)
HEAD = (
    "UPDATE log_head SET seq = seq + %(events)s, last_at = greatest(last_at, %(at)s) WHERE log_partition = 0 "
    "RETURNING seq - %(events)s AS base, last_at"
)
CORRELATION = "%(correlation_id)s"
OF_HEAD = {
    "base": "(SELECT seq FROM log_head WHERE log_partition = 0) - %(events)s",
    "at": "(SELECT last_at FROM log_head WHERE log_partition = 0)",
    "correlation_id": CORRELATION,
}


class Strings:
    """Rows travel as one string a column, which the server cuts up, side by side in the list of a SELECT."""

    def rows(self, columns: Columns, name: str) -> str:
        apart = [
            f"unnest({cut}) AS {column}" for cut, (column, _) in zip(self.cut(columns, name), columns, strict=True)
        ]
        return f"(SELECT {', '.join(apart)}) AS v"

    def cut(self, columns: Columns, name: str) -> list[str]:
        cut = "string_to_array(%({name}{n})s, '{s}', '{null}')::{kind}[]"
        return [cut.format(name=name, n=n, s=SEPARATOR, null=NULL, kind=c[1]) for n, c in enumerate(columns)]

    def parameters(self, columns: Columns, name: str, rows: list[tuple]) -> dict[str, Any]:
        turned = zip(*rows, strict=True) if rows else [()] * len(columns)
        return {f"{name}{n}": _joined(column) for n, column in enumerate(turned)}


class StringsInFrom(Strings):
    """The same, cut up by functions in FROM, each of which keeps its rows whole before the first is read."""

    def rows(self, columns: Columns, name: str) -> str:
        return f"unnest({', '.join(self.cut(columns, name))}) AS v({_names(columns)})"


class Lists:
    """Rows travel as one list a column, which the driver writes as an array."""

    def rows(self, columns: Columns, name: str) -> str:
        parts = [f"%({name}{n})s::{kind}[]" for n, (_, kind) in enumerate(columns)]
        return f"unnest({', '.join(parts)}) AS v({_names(columns)})"

    def parameters(self, columns: Columns, name: str, rows: list[tuple]) -> dict[str, Any]:
        turned = zip(*rows, strict=True) if rows else [()] * len(columns)
        return {f"{name}{n}": list(column) for n, column in enumerate(turned)}


class Json:
    """Rows travel as one JSON parameter."""

    def rows(self, columns: Columns, name: str) -> str:
        return f"json_to_recordset(%({name})s::json) AS v({', '.join(' '.join(column) for column in columns)})"

    def parameters(self, columns: Columns, name: str, rows: list[tuple]) -> dict[str, Any]:
        names = [column for column, _ in columns]
        return {name: json.dumps([dict(zip(names, row, strict=True)) for row in rows])}


def _names(columns: Columns) -> str:
    return ", ".join(name for name, _ in columns)


def _joined(column: Sequence[Any]) -> str:
    if column and type(column[0]) is int:
        return SEPARATOR.join(map(str, column))
    try:
        return SEPARATOR.join(column)
    except TypeError:
        return SEPARATOR.join([NULL if value is None else value for value in column])


class PostgresFloor:
    """Writes travel as `source` says. `fused`: they are one statement; `pipelined`: see above."""

    def __init__(
        self, url: str, source: Strings | Lists | Json | None = None, *, fused: bool = False, pipelined: bool = True
    ) -> None:
        self._connection = psycopg.connect(url, autocommit=True)
        self._connection.execute("SET enable_seqscan = off; SET jit = off")
        self._source = source or Strings()
        self._fused, self._pipelined = fused, pipelined
        keys = self._source if isinstance(self._source, Strings) else Strings()
        wanted = keys.rows([("sku", "text")], "sku")
        named = keys.rows([("orderid", "text"), ("sku", "text")], "key")
        self._lock = (
            f"SELECT p.sku, p.version_number FROM {wanted} JOIN products p ON p.sku = v.sku "
            "ORDER BY p.sku FOR UPDATE OF p"
        )
        self._open = (
            f"SELECT reference, b.sku, purchased_quantity - allocated_quantity, eta::text FROM {wanted} CROSS JOIN "
            "LATERAL (SELECT * FROM batches o WHERE o.sku = v.sku AND o.is_open "
            f"ORDER BY coalesce(o.eta, '0001-01-01'), o.reference LIMIT {PAGE}) b"
        )
        self._known = (
            f"SELECT l.orderid, l.sku FROM {named} CROSS JOIN LATERAL (SELECT * FROM order_lines o "
            "WHERE o.orderid = v.orderid AND o.sku = v.sku LIMIT 1) l"
        )
        self._one_statement = self._fuse()

    def close(self) -> None:
        self._connection.close()

    def read(self, skus: list[str], lines: Sequence[Line]) -> tuple[dict[str, int], list[OpenBatch], set]:
        wanted = {"sku0": SEPARATOR.join(skus)}
        keys = {"key0": _joined([line[0] for line in lines]), "key1": _joined([line[1] for line in lines])}
        with self._connection.pipeline() if self._pipelined else nullcontext():
            self._connection.execute("BEGIN")
            versions = self._connection.execute(self._lock, wanted)
            batches = self._connection.execute(self._open, wanted)
            known = self._connection.execute(self._known, keys)
        return dict(versions.fetchall()), batches.fetchall(), set(known.fetchall())

    def next_open(self, sku: str) -> list[OpenBatch]:
        return self._connection.execute(
            "SELECT reference, sku, purchased_quantity - allocated_quantity, eta::text FROM batches WHERE sku = %s "
            "AND is_open ORDER BY coalesce(eta, '0001-01-01'), reference",
            (sku,),
        ).fetchall()

    def write(self, group: Group) -> None:
        with self._connection.pipeline() if self._pipelined else nullcontext():
            if self._fused:
                self._connection.execute(self._one_statement, self._all_parameters(group))
            else:
                for write in STATE:
                    self._write(write, group)
                self._connection.execute(HEAD, {"events": group.event_count, "at": group.at})
                for write in LOG:
                    self._write(write, group)
            self._connection.execute("COMMIT")

    def _write(self, write: Write, group: Group) -> None:
        rows = write.rows_of(group)
        statement = write.statement.format(rows=f"FROM {self._source.rows(write.columns, 'w')}", **OF_HEAD)
        if write.guarded:
            statement = _guarded([f"w AS ({statement} RETURNING 1)"], {"w": "%(met)s"})
        fixed = {"events": group.event_count, "met": len(rows), "correlation_id": group.correlation_id}
        self._connection.execute(statement, fixed | self._source.parameters(write.columns, "w", rows))

    def _fuse(self) -> str:
        parts, guards = [f"head AS ({HEAD})"], {}
        for n, write in enumerate((*STATE, *LOG)):
            rows = f"FROM {self._source.rows(write.columns, f'w{n}_')}{'' if write in STATE else ', head'}"
            filled = write.statement.format(rows=rows, base="base", at="last_at", correlation_id=CORRELATION)
            parts.append(f"w{n} AS ({filled} RETURNING 1)")
            if write.guarded:
                guards[f"w{n}"] = f"%(met{n})s"
        return _guarded(parts, guards)

    def _all_parameters(self, group: Group) -> dict[str, Any]:
        parameters: dict[str, Any] = {"events": group.event_count, "at": group.at}
        parameters["correlation_id"] = group.correlation_id
        for n, write in enumerate((*STATE, *LOG)):
            rows = write.rows_of(group)
            parameters |= {f"met{n}": len(rows)} | self._source.parameters(write.columns, f"w{n}_", rows)
        return parameters


def _guarded(parts: list[str], met: dict[str, str]) -> str:
    """If somebody else changed a product or a batch, the division fails, and with it the transaction."""
    guard = " AND ".join(f"(SELECT count(*) FROM {name}) = {expected}" for name, expected in met.items())
    return f"WITH {', '.join(parts)} SELECT 1 / ({guard})::int"


class PostgresFloorByCopy(PostgresFloor):
    """Inserts by COPY, which pipeline mode refuses and which needs the positions beforehand."""

    def __init__(self, url: str) -> None:
        super().__init__(url, pipelined=False)

    def write(self, group: Group) -> None:
        for write in (BATCHES, PRODUCTS):
            self._write(write, group)
        head = self._connection.execute(HEAD, {"events": group.event_count, "at": group.at}).fetchone()
        assert head is not None
        base, at = head
        correlation_id = group.correlation_id
        self._copy("order_lines (orderid, sku, qty, batchref, since)", group.lines())
        self._copy(
            "event_log (log_partition, position, sku, version, id, type, schema_version, at, correlation_id, "
            "causation_id, data)",
            [
                (0, base + n, sku, v, i, kind, 1, at, correlation_id, c, data)
                for n, sku, v, i, kind, data, c in group.events()
            ],
        )
        self._copy(
            "inbox (id, source, client, type, body, outcome, log_partition, position, at, correlation_id)",
            [
                (i, "import", "", "Allocate", body, out, 0, base + n, at, correlation_id)
                for i, body, out, n in group.inbox()
            ],
        )
        self._connection.execute("COMMIT")

    def _copy(self, into: str, rows: list[tuple]) -> None:
        text = "\n".join(["\t".join([r"\N" if value is None else str(value) for value in row]) for row in rows])
        with self._connection.cursor().copy(f"COPY {into} FROM STDIN") as copy:
            copy.write(text.replace("\\", "\\\\").replace(r"\\N", r"\N") + "\n")


class PostgresFloorByRow(PostgresFloor):
    """One statement a row (`executemany`, which pipelines by itself)."""

    def __init__(self, url: str) -> None:
        super().__init__(url, pipelined=False)

    def _write(self, write: Write, group: Group) -> None:
        names = [name for name, _ in write.columns]
        row = ", ".join(f"%({name})s::{kind} AS {name}" for name, kind in write.columns)
        statement = write.statement.format(rows=f"FROM (SELECT {row}) v", **OF_HEAD)
        fixed = {"events": group.event_count, "correlation_id": group.correlation_id}
        cursor = self._connection.cursor()
        cursor.executemany(statement, [fixed | dict(zip(names, r, strict=True)) for r in write.rows_of(group)])


VARIANTS: dict[str, Callable[[str], PostgresFloor]] = {
    "strings, a statement a table, pipelined": PostgresFloor,
    "strings as functions in FROM, a statement a table, pipelined": lambda url: PostgresFloor(url, StringsInFrom()),
    "strings, a statement a table": lambda url: PostgresFloor(url, pipelined=False),
    "strings, one statement, pipelined": lambda url: PostgresFloor(url, fused=True),
    "strings, one statement": lambda url: PostgresFloor(url, fused=True, pipelined=False),
    "JSON, a statement a table, pipelined": lambda url: PostgresFloor(url, Json()),
    "lists, a statement a table, pipelined": lambda url: PostgresFloor(url, Lists()),
    "COPY": PostgresFloorByCopy,
    "a statement a row": PostgresFloorByRow,
}
FASTEST = "strings, a statement a table, pipelined"
BESIDE = {"": FASTEST, ", floor by functions in FROM": "strings as functions in FROM, a statement a table, pipelined"}
"""What bulk is measured beside; the second is how the aim was set."""
