"""The floor's statements for SQLite (WAL, synchronous=FULL), in the variants that were tried: rows are read by one
statement a key or by one JSON array of keys, and written by executemany, by lists of rows or by one JSON array."""

import json
import re
import sqlite3
from collections.abc import Callable, Sequence
from itertools import chain

from benchmarks.floor import PAGE, Group, Line, OpenBatch

OPEN = (
    "SELECT reference, sku, purchased_quantity - allocated_quantity, eta FROM batches WHERE sku = ? AND is_open "
    "ORDER BY coalesce(eta, '0001-01-01'), reference LIMIT ?"
)
TAKE = "UPDATE batches SET allocated_quantity = allocated_quantity + ?2 WHERE reference = ?1"
RAISE = "UPDATE products SET version_number = ?3 WHERE sku = ?1 AND version_number = ?2"
HEAD = (
    "UPDATE log_head SET seq = seq + ?1, last_at = max(last_at, ?2) WHERE log_partition = 0 RETURNING seq - ?1, last_at"
)
LIST = 50  # rows
WRITES = {
    "order_lines": ("orderid, sku, qty, batchref, since", "?1, ?2, ?3, ?4, ?5"),
    "event_log": (
        "log_partition, position, sku, version, id, type, schema_version, at, correlation_id, causation_id, data",
        "0, {base} + ?1, ?2, ?3, ?4, ?5, 1, '{at}', '{correlation_id}', ?7, ?6",
    ),
    "inbox": (
        "id, source, client, type, body, outcome, log_partition, position, at, correlation_id",
        "?1, 'import', '', 'Allocate', ?2, ?3, 0, {base} + ?4, '{at}', '{correlation_id}'",
    ),
}


class SqliteFloor:
    """`by_key`: reads one statement a key; `json_rows`: inserts all rows of a table by one statement; `lists`: fifty of
    them, where no index holds an expression; after so many `checkpoint_pages` of 4 KiB the write-ahead log is copied
    into the database (SQLite's own default: 1,000)."""

    def __init__(
        self,
        path: str,
        *,
        by_key: bool = False,
        json_rows: bool = False,
        lists: bool = False,
        checkpoint_pages: int = 16_000,
    ) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        for pragma in (
            "journal_mode=WAL",
            "synchronous=FULL",
            "cache_size=-65536",
            f"wal_autocheckpoint={checkpoint_pages}",
        ):
            self._connection.execute(f"PRAGMA {pragma}")
        self._by_key, self._json_rows, self._lists = by_key, json_rows, lists

    def close(self) -> None:
        self._connection.close()

    def read(self, skus: list[str], lines: Sequence[Line]) -> tuple[dict[str, int], list[OpenBatch], set]:
        execute = self._connection.execute
        execute("BEGIN IMMEDIATE")
        if not self._by_key:
            return self._read_by_json(skus, lines)
        versions: dict[str, int] = {}
        batches: list[OpenBatch] = []
        for sku in skus:
            versions.update(execute("SELECT sku, version_number FROM products WHERE sku = ?", (sku,)).fetchall())
            batches += execute(OPEN, (sku, PAGE)).fetchall()
        known = set()
        for line in lines:
            known.update(
                execute("SELECT orderid, sku FROM order_lines WHERE orderid = ? AND sku = ?", line[:2]).fetchall()
            )
        return versions, batches, known

    def _read_by_json(self, skus: list[str], lines: Sequence[Line]) -> tuple[dict[str, int], list[OpenBatch], set]:
        execute, wanted = self._connection.execute, json.dumps(skus)
        versions = execute(
            "SELECT p.sku, p.version_number FROM json_each(?) v CROSS JOIN products p ON p.sku = v.value", (wanted,)
        ).fetchall()
        batches = execute(
            "SELECT b.reference, b.sku, purchased_quantity - allocated_quantity, b.eta FROM json_each(?) v "
            "CROSS JOIN batches b ON b.rowid IN (SELECT o.rowid FROM batches o WHERE o.sku = v.value AND o.is_open "
            "ORDER BY coalesce(o.eta, '0001-01-01'), o.reference LIMIT ?)",
            (wanted, PAGE),
        ).fetchall()
        known = execute(
            "SELECT l.orderid, l.sku FROM json_each(?) v CROSS JOIN order_lines l "
            "ON l.orderid = v.value ->> 0 AND l.sku = v.value ->> 1",
            (json.dumps([line[:2] for line in lines]),),
        ).fetchall()
        return dict(versions), batches, set(known)

    def next_open(self, sku: str) -> list[OpenBatch]:
        return self._connection.execute(OPEN, (sku, -1)).fetchall()

    def write(self, group: Group) -> None:
        connection = self._connection
        changed = connection.executemany(TAKE, group.batches).rowcount
        changed += connection.executemany(RAISE, group.products).rowcount
        if changed != len(group.batches) + len(group.products):
            raise RuntimeError("another program changed the products")
        moment = group.at.isoformat(timespec="microseconds")
        base, at = connection.execute(HEAD, (group.event_count, moment)).fetchone()
        for table, (fields, values) in WRITES.items():
            picked = values.format(base=base, at=at, correlation_id=group.correlation_id)
            rows = getattr(
                group, "lines" if table == "order_lines" else "events" if table == "event_log" else "inbox"
            )()
            if self._json_rows:
                picked = re.sub(r"\?(\d)", lambda match: f"value ->> {int(match[1]) - 1}", picked)
                statement = f"INSERT INTO {table} ({fields}) SELECT {picked} FROM json_each(?)"
                connection.execute(statement, (json.dumps(rows),))
                continue
            if self._lists and table != "event_log":
                rows = self._insert_in_lists(table, fields, picked, rows)
            connection.executemany(f"INSERT INTO {table} ({fields}) VALUES ({picked})", rows)
        connection.execute("COMMIT")

    def _insert_in_lists(self, table: str, fields: str, picked: str, rows: list[tuple]) -> list[tuple]:
        """Answers those left over."""
        if not rows:
            return rows
        whole, width = len(rows) - len(rows) % LIST, len(rows[0])
        marks = (
            re.sub(r"\?(\d)", lambda match, behind=behind: f"?{behind + int(match[1])}", picked)
            for behind in range(0, LIST * width, width)
        )
        statement = f"INSERT OR FAIL INTO {table} ({fields}) VALUES {', '.join(f'({row})' for row in marks)}"
        lists = [tuple(chain.from_iterable(rows[at : at + LIST])) for at in range(0, whole, LIST)]
        self._connection.executemany(statement, lists)
        return rows[whole:]


VARIANTS: dict[str, Callable[[str], SqliteFloor]] = {
    "read by a JSON array, executemany, checkpoint at 16,000 pages": SqliteFloor,
    "read by a JSON array, executemany, checkpoint at 1,000 pages": lambda path: SqliteFloor(
        path, checkpoint_pages=1_000
    ),
    "read by key, executemany, checkpoint at 16,000 pages": lambda path: SqliteFloor(path, by_key=True),
    "read and write by a JSON array, checkpoint at 16,000 pages": lambda path: SqliteFloor(path, json_rows=True),
    "read by a JSON array, written by lists of 50, checkpoint at 16,000 pages": lambda path: SqliteFloor(
        path, lists=True
    ),
}
FASTEST = "read by a JSON array, written by lists of 50, checkpoint at 16,000 pages"
BESIDE = {"": FASTEST, ", floor by executemany": "read by a JSON array, executemany, checkpoint at 16,000 pages"}
"""What bulk is measured beside: the second is what most would write, and what the aim was set by."""
