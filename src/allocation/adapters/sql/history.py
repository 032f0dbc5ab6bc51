"""Questions about the past, answered from the log and the inbox on SQLite and PostgreSQL. Each question has an index to
use."""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, Select, literal_column, select

from allocation.adapters import serialization
from allocation.adapters.serialization import UNREADABLE, decode_snapshot
from allocation.adapters.sql.engine import dialect_of
from allocation.adapters.sql.errors import translated
from allocation.adapters.sql.streaming import stream
from allocation.adapters.sql.tables import (
    batches,
    event_log,
    inbox,
    log_head,
    moment_text,
    order_lines,
    orderid_of_event,
    snapshots,
)
from allocation.adapters.sql.unit_of_work import handled_from
from allocation.adapters.sql.views import logged_from
from allocation.domain.errors import CorruptLog
from allocation.service_layer.envelope import EventEnvelope, LogPosition, partition_of
from allocation.service_layer.history.ports import Cut, Fact, History
from allocation.service_layer.history.snapshots import Snapshot
from allocation.service_layer.unit_of_work import Handled

_STRETCH = 50_000  # events read by one statement, so that none runs for long
_PAGE = 1_000
_NAMED = 1_000  # keys that one statement names: every database limits the number of parameters
_LAST_VERSION = 2**63 - 1
_FACTS = (
    "SELECT type, schema_version, data, version, position FROM event_log "
    "WHERE log_partition = ? AND position > ? AND position <= ? ORDER BY position"
)
_FACTS_BY_PRODUCT = (
    "SELECT type, schema_version, data, version, position FROM event_log WHERE (sku, version) > (?, ?) "
    "AND position <= CASE log_partition {heads} END ORDER BY sku, version LIMIT ?"
)
_FACTS_OF = (
    "SELECT type, schema_version, data, version, position FROM event_log "
    "WHERE sku = ? AND version > ? AND version <= ? AND position <= ? ORDER BY version"
)
_HALF = "(SELECT e.at FROM event_log e WHERE e.log_partition = ? AND e.position = (lo + hi + 1) / 2) <= ?"
_UNTIL = (
    "WITH RECURSIVE halves(lo, hi) AS (SELECT CAST(0 AS bigint), CAST(? AS bigint) UNION ALL "
    f"SELECT CASE WHEN {_HALF} THEN (lo + hi + 1) / 2 ELSE lo END, "
    f"CASE WHEN {_HALF} THEN hi ELSE (lo + hi - 1) / 2 END "
    "FROM halves WHERE lo < hi) SELECT lo FROM halves WHERE lo = hi"
)
_INBOX = (
    inbox.c.source,
    inbox.c.id,
    inbox.c.client,
    inbox.c.type,
    inbox.c.body,
    inbox.c.outcome,
    inbox.c.log_partition,
    inbox.c.position,
    inbox.c.at,
    inbox.c.correlation_id,
    inbox.c.causation_id,
    inbox.c.traceparent,
)


class SqlHistory(History):
    def __init__(self, engine: Engine, partitions: int) -> None:
        self._engine, self._partitions = engine, partitions
        sql = dialect_of(engine).sql
        self._facts, self._facts_of, self._until = sql(_FACTS), sql(_FACTS_OF), sql(_UNTIL)
        heads = " ".join(f"WHEN {n} THEN CAST(? AS bigint)" for n in range(partitions))
        self._facts_by_product = sql(_FACTS_BY_PRODUCT.format(heads=heads))

    def now(self) -> Cut:
        rows = self._rows(select(log_head.c.log_partition, log_head.c.seq).order_by(log_head.c.log_partition))
        return Cut(tuple(row.seq for row in rows))

    def moment_of(self, position: LogPosition) -> datetime:
        here = (event_log.c.log_partition == position.partition) & (event_log.c.position == position.seq)
        [row] = self._rows(select(event_log.c.at).where(here))
        moment: datetime = row.at
        return moment

    def until(self, partition: int, head: int, moment: datetime) -> int:
        at = moment_text(moment)
        with translated(), self._engine.connect() as connection:
            found = connection.exec_driver_sql(self._until, (head, partition, at, partition, at))
            number: int = found.scalar_one()
            return number

    # Events

    def facts(self, partition: int, after: int, until: int) -> Iterator[Fact]:
        with translated(), self._engine.connect() as connection:
            for start in range(after, until, _STRETCH):
                parameters = (partition, start, min(start + _STRETCH, until))
                yield from self._streamed(connection, self._facts, parameters)

    def facts_by_product(self, after: str, cut: Cut) -> Iterator[Fact]:
        """Statement after statement, each for more events than the one before: a caller that wants few does not read
        many."""
        place, page = (after, _LAST_VERSION), _PAGE
        with translated(), self._engine.connect() as connection, by_the_index(connection):
            while True:
                parameters = (*place, *cut.heads, page)
                count, last = yield from self._streamed(connection, self._facts_by_product, parameters)
                if last is None or count < page:
                    return
                place, page = (last[0].sku, last[1]), min(2 * page, _STRETCH)

    def _streamed(
        self, connection: Connection, statement: str, parameters: Sequence[Any]
    ) -> Generator[Fact, None, tuple[int, Fact | None]]:
        """Facts as they come; returns how many, and the last. If the caller leaves before the end, the rest is
        cancelled; otherwise the connection could not be given back."""
        count, fact = 0, None
        with closing(stream(connection, statement, parameters)) as rows:
            for fact in _facts_from(rows):
                yield fact
                count += 1
        return count, fact

    def facts_of(self, sku: str, after_version: int, until: int) -> Iterator[Fact]:
        """Reads until a page is empty: a short page may be the last one, or its end may be missing."""
        expected = after_version + 1
        with translated(), self._engine.connect() as connection:
            while page := self._page_of(connection, sku, after_version, until):
                for fact in _facts_from(page):
                    if fact[1] != expected:
                        raise CorruptLog(f"{sku} has no event for version {expected}")
                    yield fact
                    expected += 1
                after_version += _PAGE

    def _page_of(self, connection: Connection, sku: str, after_version: int, until: int) -> Sequence[Sequence[Any]]:
        parameters = (sku, after_version, after_version + _PAGE, until)
        page: Sequence[Sequence[Any]] = connection.exec_driver_sql(self._facts_of, parameters).cursor.fetchall()
        return page

    def events(self, sku: str, versions: Collection[int]) -> list[EventEnvelope]:
        query = select(event_log).where(event_log.c.sku == sku).order_by(event_log.c.version)
        return [logged_from(row) for row in self._named(query, event_log.c.version, sorted(versions))]

    def events_up_to(self, position: LogPosition, limit: int) -> list[EventEnvelope]:
        here = (event_log.c.log_partition == position.partition) & (event_log.c.position <= position.seq)
        query = select(event_log).where(here).order_by(event_log.c.position.desc()).limit(limit)
        return [logged_from(row) for row in self._rows(query)]

    # Commands

    def commands(self, ids: Collection[str]) -> list[Handled]:
        return [handled_from(row) for row in self._named(select(*_INBOX), inbox.c.id, ids)]

    def commands_of(self, correlation_id: str, limit: int) -> list[Handled]:
        """The command that began the correlation is found by its id, the others by an index that leaves such commands
        out, which are nearly all."""
        same = (inbox.c.id == correlation_id) & (inbox.c.correlation_id == correlation_id)
        other = (inbox.c.correlation_id == correlation_id) & (inbox.c.correlation_id != inbox.c.id)
        found = self._handled(select(*_INBOX).where(same))
        found += self._handled(select(*_INBOX).where(other).order_by(inbox.c.at).limit(limit))
        return sorted(found, key=lambda done: done.envelope.time)[:limit]

    # Names

    def skus_of_batches(self, refs: Collection[str]) -> Mapping[str, str]:
        query = select(batches.c.reference, batches.c.sku)
        return {row.reference: row.sku for row in self._named(query, batches.c.reference, refs)}

    def skus_of_order(self, orderid: str) -> list[str]:
        """From the lines that exist, and those that were cancelled; a line ends in no other way."""
        there = select(order_lines.c.sku).where(order_lines.c.orderid == orderid)
        cancelled = select(event_log.c.sku).where(
            orderid_of_event == orderid, literal_column("event_log.type = 'Cancelled'")
        )
        return sorted({row.sku for query in (there, cancelled) for row in self._rows(query)})

    def since(self, sku: str, orderids: Collection[str]) -> Mapping[str, int]:
        query = select(order_lines.c.orderid, order_lines.c.since).where(order_lines.c.sku == sku)
        return {row.orderid: row.since for row in self._named(query, order_lines.c.orderid, orderids)}

    # Snapshots

    def snapshot(self, sku: str, until: int) -> Snapshot | None:
        s = snapshots.c
        query = select(s.version, s.position, s.state).where(s.sku == sku).order_by(s.position.desc()).limit(1)
        while rows := self._rows(query.where(s.position <= until)):
            position = LogPosition(partition_of(sku, self._partitions), rows[0].position)
            try:
                return decode_snapshot(sku, rows[0].version, position, rows[0].state)
            except UNREADABLE:
                until = rows[0].position - 1
        return None

    def _rows(self, query: Select[Any]) -> list[Any]:
        with translated(), self._engine.connect() as connection:
            return list(connection.execute(query))

    def _named(self, query: Select[Any], column: ColumnElement[Any], keys: Collection[Any]) -> Iterator[Any]:
        """The rows whose column is one of these keys, read for one part of the keys after the other."""
        listed = list(keys)
        for n in range(0, len(listed), _NAMED):
            yield from self._rows(query.where(column.in_(listed[n : n + _NAMED])))

    def _handled(self, query: Select[Any]) -> list[Handled]:
        return [handled_from(row) for row in self._rows(query)]


@contextmanager
def by_the_index(connection: Connection) -> Iterator[None]:
    """Has rows in the order of an index read through that index. Near the end of a long log, PostgreSQL would otherwise
    collect all that is left and sort it, again for each page."""
    if connection.dialect.name != "postgresql":
        yield
        return
    connection.exec_driver_sql("SET enable_sort = off")
    try:
        yield
    finally:
        connection.exec_driver_sql("RESET enable_sort")


def _facts_from(rows: Iterable[Sequence[Any]]) -> Iterator[Fact]:
    read = serialization.EVENTS.readers
    for kind, schema_version, data, version, seq in rows:
        try:
            event = read[kind, schema_version](data)
        except (KeyError, *UNREADABLE) as unreadable:
            raise CorruptLog(f"event {seq} of the log, {kind}, cannot be read: {unreadable}") from unreadable
        yield event, version, seq
