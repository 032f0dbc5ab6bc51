"""The books of a database: log and tables read in bulk, a snapshot at a time; corrections under a product's lock."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine

from allocation.adapters.serialization import BadMessage, decode_command, decode_outcome
from allocation.adapters.sql.asking import BATCH, LINE, Ask, batches_from, decoded, history_of
from allocation.adapters.sql.corrections import LockedProduct
from allocation.adapters.sql.engine import dialect_of, roll_back, transaction
from allocation.adapters.sql.errors import translated
from allocation.adapters.sql.projections import HeldProjections, Projections
from allocation.service_layer.books import (
    Books,
    Found,
    Locked,
    Logged,
    LogPage,
    Projecting,
    Stored,
    led_elsewhere,
)
from allocation.service_layer.envelope import LogPosition

MOST_DOUBLED = 100
_SKUS_ELSEWHERE = (
    "products WHERE",
    "batches WHERE",
    "order_lines WHERE batchref IS NULL AND",
    "stock_levels WHERE",
    "movements WHERE",
    "snapshots WHERE",
)


class SqlBooks(Books):
    """On SQLite a snapshot is that of its WAL, on PostgreSQL a REPEATABLE READ transaction."""

    def __init__(self, engine: Engine, partitions: int) -> None:
        self._engine, self._dialect, self._partitions = engine, dialect_of(engine), partitions

    def heads(self) -> dict[int, int]:
        with self._snapshot() as ask:
            return dict(ask("SELECT log_partition, seq FROM log_head"))

    def holes(self) -> set[int]:
        with self._snapshot() as ask:
            rows = ask("SELECT log_partition, count(*), max(position), min(position) FROM event_log GROUP BY 1")
            held = {partition: tuple(bounds) for partition, *bounds in rows}
            heads = ask("SELECT log_partition, seq FROM log_head")
        return {n for n, seq in heads if held.get(n, (0, 0, 1)) != (seq, seq, 1)} | (
            held.keys() - {n for n, _ in heads}
        )

    def log(self, partition: int, after: int, limit: int) -> LogPage:
        with self._snapshot() as ask:
            rows = ask(
                "SELECT e.position, e.sku, e.at, e.causation_id, EXISTS (SELECT 1 FROM inbox i WHERE "
                "i.id = e.causation_id AND i.log_partition = e.log_partition AND i.position = e.position) "
                "FROM event_log e WHERE e.log_partition = ? AND e.position > ? ORDER BY e.position LIMIT ?",
                *(partition, after, limit),
            )
            if len(rows) == limit:
                return LogPage(rows, None)
            heads = ask("SELECT seq, last_at FROM log_head WHERE log_partition = ?", partition)
        return LogPage(rows, tuple(heads[0]) if heads else (0, None))

    @contextmanager
    def products(self, after: str, most: int, most_events: int) -> Iterator[Sequence[Stored]]:
        with self._snapshot() as ask:
            chosen = self._next_skus(ask, after, most, most_events)
            if not chosen:
                yield []
                return
            bounds = (after, chosen[-1])
            versions = dict(ask("SELECT sku, version_number FROM products WHERE sku > ? AND sku <= ?", *bounds))
            kept = _by_sku(ask(f"SELECT sku, {BATCH} FROM batches WHERE sku > ? AND sku <= ?", *bounds))
            on_batches = ask(
                f"SELECT b.sku, {LINE} FROM batches b JOIN order_lines l ON l.batchref = b.reference "
                "WHERE b.sku > ? AND b.sku <= ?",
                *bounds,
            )
            waiting = ask(
                f"SELECT l.sku, {LINE} FROM order_lines l WHERE l.batchref IS NULL AND l.sku > ? AND l.sku <= ?",
                *bounds,
            )
            lines = _by_sku(on_batches, waiting)
            history = self._histories(ask, chosen, bounds, most_events)
            projected = Projections(ask, self._partitions, "{0} > ? AND {0} <= ?", *bounds)
            yield [
                Stored(
                    sku,
                    versions.get(sku),
                    history[sku],
                    batches_from(kept.get(sku, ())),
                    lines.get(sku, ()),
                    projected.of(sku),
                )
                for sku in chosen
            ]

    def _next_skus(self, ask: Ask, after: str, most: int, most_events: int) -> list[str]:
        """The next skus that any of the tables names."""
        counting = "SELECT sku, count(*) FROM event_log WHERE sku > ? GROUP BY sku ORDER BY sku LIMIT ?"
        events: dict[str, int] = dict(ask(counting, after, most))
        named = set(events)
        for source in _SKUS_ELSEWHERE:
            found = ask(f"SELECT DISTINCT sku FROM {source} sku > ? ORDER BY sku LIMIT ?", after, most)
            named.update(sku for (sku,) in found)
        chosen: list[str] = []
        total = 0
        for sku in sorted(named)[:most]:
            total += events.get(sku, 0)
            if chosen and total > most_events:
                break
            chosen.append(sku)
        return chosen

    def _histories(
        self, ask: Ask, chosen: Sequence[str], bounds: tuple[str, str], most_events: int
    ) -> dict[str, Iterable[Logged]]:
        if len(chosen) == 1:
            return {chosen[0]: history_of(ask, chosen[0], 0, most_events)}
        rows = ask(f"SELECT sku, {ask.event} FROM event_log WHERE sku > ? AND sku <= ? ORDER BY sku, version", *bounds)
        by_sku = _by_sku(rows)
        return {sku: decoded(by_sku.get(sku, ())) for sku in chosen}

    def false_commands(self, after: str, limit: int) -> Found:
        with self._snapshot() as ask:
            until, looked_at = _bound(ask, "inbox", "id", after, limit)
            bounds, those = ([after], "i.id > ?") if until is None else ([after, until], "i.id > ? AND i.id <= ?")
            rows = ask(
                f"SELECT i.id, i.source, i.log_partition, i.position FROM inbox i WHERE {those} "
                "AND i.position IS NOT NULL AND NOT EXISTS (SELECT 1 FROM event_log e "
                "WHERE e.log_partition = i.log_partition AND e.position = i.position AND e.causation_id = i.id "
                "AND e.correlation_id = i.correlation_id)",
                *bounds,
            )
            texts = ask(f"SELECT i.id, i.source, i.type, i.body, i.outcome FROM inbox i WHERE {those}", *bounds)
        false = [(key, source, led_elsewhere(LogPosition(n, position))) for key, source, n, position in rows]
        return Found(until, looked_at, [*false, *_unreadable(texts)])

    def strays(self, after: str, limit: int) -> Found:
        with self._snapshot() as ask:
            until, looked_at = _bound(ask, "batches", "reference", after, limit)
            rows = ask(
                # From the bound on, not after it: an empty reference is no batch's, either.
                "SELECT l.orderid, l.sku, l.batchref FROM order_lines l WHERE l.batchref >= ? "
                f"{'AND l.batchref <= ? ' if until is not None else ''}"
                "AND NOT EXISTS (SELECT 1 FROM batches b WHERE b.reference = l.batchref)",
                *([after] if until is None else [after, until]),
            )
        return Found(until, looked_at, rows)

    def doubled_ids(self) -> list[str]:
        with self._snapshot() as ask:
            doubled = ask(f"SELECT id FROM event_log GROUP BY id HAVING count(*) > 1 ORDER BY id LIMIT {MOST_DOUBLED}")
        return [event_id for (event_id,) in doubled]

    @contextmanager
    def locked(self, sku: str, after_version: int, orderids: Collection[str]) -> Iterator[Locked]:
        with transaction(self._engine, self._dialect.begin) as connection:
            locked = LockedProduct(connection, self._asking(connection), sku, after_version, orderids)
            yield locked
            locked.end()

    @contextmanager
    def projecting(self, sku: str) -> Iterator[Projecting]:
        with transaction(self._engine, self._dialect.begin) as connection:
            yield HeldProjections(connection, self._asking(connection), self._partitions, sku)

    @contextmanager
    def _snapshot(self) -> Iterator[Ask]:
        """All reads inside see one moment, and block nobody."""
        postgres = self._engine.dialect.name == "postgresql"
        with translated(), self._engine.connect() as connection:
            connection.exec_driver_sql("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY" if postgres else "BEGIN")
            try:
                if postgres:
                    # Steps are small, except the search for duplicate ids, which reads the whole log.
                    connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
                yield self._asking(connection)
            finally:
                roll_back(connection)

    def _asking(self, connection: Connection) -> Ask:
        return Ask(connection, self._dialect)


def _unreadable(texts: Iterable[Sequence[Any]]) -> Iterator[tuple[str, str, str]]:
    for key, source, kind, body, outcome in texts:
        try:
            decode_command(kind, body)
            decode_outcome(outcome)
        except BadMessage as bad:
            yield key, source, f"it cannot be answered again: {bad}"


def _by_sku(*answers: Sequence[Any]) -> dict[str, list[Any]]:
    """Rows without their first field, by that field."""
    found: dict[str, list[Any]] = {}
    for rows in answers:
        for sku, *row in rows:
            found.setdefault(sku, []).append(row)
    return found


def _bound(ask: Ask, table: str, key: str, after: str, limit: int) -> tuple[str | None, int]:
    """The key `limit` rows further on, and the number of rows up to it; None: to the end."""
    found = ask(f"SELECT {key} FROM {table} WHERE {key} > ? ORDER BY {key} LIMIT 1 OFFSET ?", after, limit - 1)
    if found:
        return found[0][0], limit
    return None, ask(f"SELECT count(*) FROM {table} WHERE {key} > ?", after)[0][0]
