"""The questions of `allocation.views`, asked of the state tables and the log."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from typing import Any

from sqlalchemy import Connection, Engine, Row, Select, func, select

from allocation.adapters.serialization import decode_event, event_version
from allocation.adapters.sql.errors import translated
from allocation.adapters.sql.read_models import level_from
from allocation.adapters.sql.tables import (
    batches,
    event_log,
    lanes,
    log_head,
    movements,
    order_lines,
    products,
    stock_levels,
    subscriptions,
)
from allocation.domain.model import Batch, Product
from allocation.service_layer.answers import BatchState, Promise
from allocation.service_layer.cache import Places
from allocation.service_layer.envelope import EventEnvelope, LogPosition, partition_of
from allocation.service_layer.history.ports import Cut
from allocation.service_layer.read_models import Movements, StockLevel
from allocation.views import STOCK_LEVELS, Answer, EventPage, ProductView, StockPage, Views

_LINES = select(
    order_lines.c.orderid, order_lines.c.sku, order_lines.c.qty, order_lines.c.batchref, batches.c.eta
).select_from(order_lines.outerjoin(batches, batches.c.reference == order_lines.c.batchref))


class SqlViews(Views):
    def __init__(self, engine: Engine, partitions: int) -> None:
        self._engine, self._partitions = engine, partitions

    def order(self, orderid: str) -> list[Promise]:
        return self._promises(_LINES.where(order_lines.c.orderid == orderid).order_by(order_lines.c.sku))

    def line(self, orderid: str, sku: str) -> Promise | None:
        found = self._promises(_LINES.where(order_lines.c.orderid == orderid, order_lines.c.sku == sku))
        return found[0] if found else None

    def batch(self, ref: str) -> BatchState | None:
        query = (
            select(batches, products.c.version_number)
            .join_from(batches, products, products.c.sku == batches.c.sku)
            .where(batches.c.reference == ref)
        )
        with self._reading() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else _state(row, row.version_number)

    def product(self, sku: str, waiting_limit: int = 100) -> ProductView | None:
        waiting = (order_lines.c.sku == sku) & order_lines.c.batchref.is_(None)
        with self._reading() as connection:
            version = connection.scalar(select(products.c.version_number).where(products.c.sku == sku))
            if version is None:
                return None
            rows = connection.execute(select(batches).where(batches.c.sku == sku)).all()
            counted = connection.execute(
                select(func.count(), func.coalesce(func.sum(order_lines.c.qty), 0)).where(waiting)
            ).one()
            first = connection.execute(_LINES.where(waiting).order_by(order_lines.c.since).limit(waiting_limit)).all()
        product = Product(sku, [_batch(row) for row in rows], version)
        states = {row.reference: _state(row, version) for row in rows}
        return ProductView(
            sku,
            version,
            [states[batch.reference] for batch in product.batches],
            product.availability(),
            [_promise(row) for row in first],
            counted[0],
            counted[1],
        )

    def events(self, after: Sequence[LogPosition], limit: int, sku: str | None = None) -> EventPage:
        cursor = {p.partition: p.seq for p in after}
        chosen = range(self._partitions) if sku is None else [partition_of(sku, self._partitions)]
        found: list[EventEnvelope] = []
        with self._reading() as connection:
            _require_there(connection, after)
            for partition in chosen:
                query = self._after(connection, partition, cursor.get(partition, 0), sku)
                page = [logged_from(row) for row in connection.execute(query.limit(limit - len(found)))]
                if page:
                    cursor[partition] = page[-1].position.seq
                found += page
        return EventPage(found, [LogPosition(p, seq) for p, seq in sorted(cursor.items())])

    def position_at(self, sku: str, version: int) -> LogPosition | None:
        last = (
            select(event_log.c.log_partition, event_log.c.position)
            .where(event_log.c.sku == sku, event_log.c.version <= version)
            .order_by(event_log.c.version.desc())
            .limit(1)
        )
        with self._reading() as connection:
            row = connection.execute(last).one_or_none()
        return None if row is None else LogPosition(row.log_partition, row.position)

    def stock(self, after: Sequence[LogPosition], limit: int) -> StockPage:
        cursor = {p.partition: p.seq for p in after}
        table = stock_levels.c
        found: list[StockLevel] = []
        waiting: list[datetime] = []
        with self._reading() as connection:
            _require_there(connection, after)
            for partition in range(self._partitions):
                known = _known_to_stock(connection, partition)
                here = (table.position > cursor.get(partition, 0), table.position <= known)
                query = (
                    select(table.sku, table.version, table.log_partition, table.position, table.available)
                    .where(table.log_partition == partition, *here)
                    .order_by(table.position)
                    .limit(limit - len(found))
                )
                page = [level_from(*row) for row in connection.execute(query)]
                if page:
                    cursor[partition] = page[-1].position.seq
                found += page
                waiting += connection.scalars(
                    select(event_log.c.at).where(
                        event_log.c.log_partition == partition, event_log.c.position == known + 1
                    )
                )
        following = [LogPosition(p, seq) for p, seq in sorted(cursor.items())]
        return StockPage(found, following, min(waiting, default=None))

    def movements(self, sku: str, limit: int = 100) -> list[tuple[date, Movements]]:
        query = select(movements).where(movements.c.sku == sku).order_by(movements.c.day.desc()).limit(limit)
        with self._reading() as connection:
            return [(row.day, Movements(*row[2:])) for row in connection.execute(query)]

    def reached(self, position: LogPosition) -> bool:
        return self.log_reached(position)

    def log_reached(self, position: LogPosition) -> bool:
        head = select(log_head.c.seq).where(log_head.c.log_partition == position.partition)
        with self._reading() as connection:
            return (connection.scalar(head) or 0) >= position.seq

    def stock_reached(self, position: LogPosition) -> bool:
        with self._reading() as connection:
            return _known_to_stock(connection, position.partition) >= position.seq

    def with_heads(self, ask: Callable[[Views], Answer]) -> tuple[Answer, Places]:
        with self._reading() as connection:
            heads = _heads(connection)
            answer = ask(_Inside(self._engine, self._partitions, connection))
        return answer, dict(enumerate(heads.heads))

    def ready(self) -> None:
        with self._reading() as connection:
            connection.execute(select(log_head.c.log_partition).limit(1))

    def _after(self, connection: Connection, partition: int, seq: int, sku: str | None) -> Select[Any]:
        query = select(event_log).where(event_log.c.log_partition == partition)
        if sku is None:
            return query.where(event_log.c.position > seq).order_by(event_log.c.position)
        query = query.where(event_log.c.sku == sku).order_by(event_log.c.version)
        # A cursor of this sku's feed is one of its events: continue by its version, which is in the index.
        here = (event_log.c.log_partition == partition) & (event_log.c.position == seq) & (event_log.c.sku == sku)
        version = connection.scalar(select(event_log.c.version).where(here))
        return query.where(event_log.c.position > seq if version is None else event_log.c.version > version)

    def _promises(self, query: Select[Any]) -> list[Promise]:
        with self._reading() as connection:
            return [_promise(row) for row in connection.execute(query)]

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        """One snapshot for everything that is read inside."""
        postgres = self._engine.dialect.name == "postgresql"
        with translated(), self._engine.connect() as connection:
            connection.exec_driver_sql("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY" if postgres else "BEGIN")
            yield connection
            connection.exec_driver_sql("COMMIT")


class _Inside(SqlViews):
    """The same questions, asked inside an open snapshot."""

    def __init__(self, engine: Engine, partitions: int, connection: Connection) -> None:
        super().__init__(engine, partitions)
        self._connection = connection

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        yield self._connection


def _heads(connection: Connection) -> Cut:
    return Cut(tuple(connection.scalars(select(log_head.c.seq).order_by(log_head.c.log_partition))))


def _require_there(connection: Connection, after: Sequence[LogPosition]) -> None:
    """Raises `UnknownPosition`. The heads are read in the same snapshot as the answer, so a position that a caller has
    seen committed is never unknown."""
    if after:
        _heads(connection).require(after)


def _known_to_stock(connection: Connection, partition: int) -> int:
    """Up to which position the levels are complete: the projection's cursor, or what is before its first lane."""
    cursor = select(subscriptions.c.position).where(
        subscriptions.c.name == STOCK_LEVELS, subscriptions.c.log_partition == partition
    )
    lagging = select(func.min(lanes.c.next_position)).where(
        lanes.c.subscription == STOCK_LEVELS, lanes.c.log_partition == partition
    )
    known, first_missing = connection.execute(select(cursor.scalar_subquery(), lagging.scalar_subquery())).one()
    return min(known or 0, (first_missing or 2**63) - 1)


def _promise(row: Any) -> Promise:
    return Promise(
        row.orderid, row.sku, row.qty, "waiting" if row.batchref is None else "allocated", row.batchref, row.eta
    )


def _batch(row: Row[Any]) -> Batch:
    return Batch(row.reference, row.sku, row.purchased_quantity, row.eta, row.allocated_quantity)


def _state(row: Row[Any], version: int) -> BatchState:
    free = row.purchased_quantity - row.allocated_quantity
    return BatchState(row.reference, row.sku, row.purchased_quantity, free, row.eta, version)


def logged_from(row: Any) -> EventEnvelope:
    """A row of `event_log`, all of its columns in order; it reads many rows, and access by name costs more than by
    index."""
    partition, seq, _, version, event_id, name, schema_version, at, correlation_id, causation_id, traceparent, data = (
        row
    )
    event = decode_event(name, data, schema_version)
    return EventEnvelope(
        event,
        event_id,
        at,
        LogPosition(partition, seq),
        version,
        correlation_id,
        causation_id,
        traceparent,
        event_version(event),
    )
