"""Everything that writes: state rows, then positions, then the log and the inbox. One statement a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from datetime import date, datetime
from typing import Any

from sqlalchemy import Connection

from allocation.adapters.serialization import encode, encode_outcome
from allocation.adapters.sql.dialects import Dialect
from allocation.adapters.sql.projector import Rows
from allocation.adapters.sql.tables import batches, event_log, inbox, moment_text, order_lines
from allocation.service_layer.envelope import Ids, LogPosition, partition_of
from allocation.service_layer.errors import Conflict
from allocation.service_layer.unit_of_work import Handled

_CHANGE_BATCH = (
    "UPDATE batches SET allocated_quantity = allocated_quantity + {1}, "
    "purchased_quantity = coalesce({2}, purchased_quantity), eta = CASE WHEN {3} = 1 THEN {4} ELSE eta END "
    "/*from*/ WHERE batches.reference = {0}"
)
_DELETE_LINE = "DELETE FROM order_lines /*using*/ WHERE order_lines.orderid = {0} AND order_lines.sku = {1}"
_RAISE_VERSION = (
    "UPDATE products SET version_number = {2} /*from*/ WHERE products.sku = {0} AND products.version_number = {1}"
)
_DELETE_UNUSED = "DELETE FROM products /*using*/ WHERE products.sku = {0} AND products.version_number = 0"


class Writer:
    """Writes, bound to a dialect; stateless, shared by all units of work."""

    def __init__(self, dialect: Dialect, ids: Ids, partitions: int) -> None:
        self._dialect, self._ids, self._partitions = dialect, ids, partitions
        self._take = dialect.sql(
            f"UPDATE log_head SET seq = seq + ?, last_at = {dialect.greatest}(last_at, ?) "
            "WHERE log_partition = ? RETURNING seq, last_at"
        )
        self._lock_head = dialect.sql("UPDATE log_head SET seq = seq WHERE log_partition = ?")

    def write_state(self, c: Connection, rows: Rows, loaded: dict[str, int]) -> None:
        """The final rows of what changed. Raises `Conflict` if a product has not the version it was loaded with."""
        d = self._dialect
        created = [
            (ref, b.created.sku, b.qty, b.allocated, _day(b.eta), b.created.qty, _day(b.created.eta))
            for ref, b in rows.batches.items()
            if b.created is not None
        ]
        changed = [
            (ref, b.allocated, b.qty, int(b.moved), _day(b.eta)) for ref, b in rows.batches.items() if b.created is None
        ]
        if created:
            d.insert(c, batches, created)
        if changed:
            _expect(len(changed), d.update(c, _CHANGE_BATCH, ("text", "int", "int", "int", "date"), changed))
        if rows.gone:
            d.update(c, _DELETE_LINE, ("text", "text"), list(rows.gone))
        if rows.lines:
            lines = [(orderid, sku, *line) for (orderid, sku), line in rows.lines.items()]
            d.insert(c, order_lines, lines, "ON CONFLICT (orderid, sku) DO UPDATE SET batchref = excluded.batchref")
        versions = [(sku, loaded[sku], version) for sku, version in rows.versions.items()]
        _expect(len(versions), d.update(c, _RAISE_VERSION, ("text", "bigint", "bigint"), versions))

    def delete_unused(self, c: Connection, skus: Collection[str]) -> None:
        """Products that were made to be locked, and then got no event."""
        if skus:
            self._dialect.update(c, _DELETE_UNUSED, ("text",), [(sku,) for sku in skus])

    def write_log(self, c: Connection, handled: Sequence[Handled], now: datetime) -> tuple[LogPosition, str] | None:
        """Take positions, last of all locks, and write events and inbox under them. Answers where the first event
        stands, and its id."""
        places = self._positions(c, handled, now)
        rows: list[tuple[Any, ...]] = []
        ids = iter(self._ids.several(sum(len(done.events) for done in handled)))
        for done in handled:
            origin = done.envelope
            for event, version in done.events:
                place = places[partition_of(event.sku, self._partitions)]
                place.seq += 1
                row = (place.partition, place.seq, event.sku, version, next(ids), type(event).__name__, 1, place.at)
                rows.append((*row, origin.correlation_id, origin.id, origin.traceparent, encode(event)))
                done.position = LogPosition(place.partition, place.seq)
        if rows:
            self._dialect.insert(c, event_log, rows)
        at = moment_text(now)
        self._dialect.insert(c, inbox, [_inbox_row(done, at) for done in handled])
        return (LogPosition(rows[0][0], rows[0][1]), rows[0][4]) if rows else None

    def lock_head(self, c: Connection, partition: int) -> None:
        """Wait for whoever is committing to this partition."""
        c.exec_driver_sql(self._lock_head, (partition,))

    def _positions(self, c: Connection, handled: Sequence[Handled], now: datetime) -> dict[int, _Place]:
        counts = Counter(partition_of(e.sku, self._partitions) for done in handled for e, _ in done.events)
        places = {}
        for partition in sorted(counts):
            parameters = (counts[partition], moment_text(now), partition)
            seq, at = c.exec_driver_sql(self._take, parameters).one()
            places[partition] = _Place(partition, seq - counts[partition], at)
        return places


class _Place:
    """The place of the last event written in a partition."""

    __slots__ = ("at", "partition", "seq")

    def __init__(self, partition: int, seq: int, at: datetime | str) -> None:
        self.partition, self.seq = partition, seq
        self.at = at if isinstance(at, str) else moment_text(at)


def _inbox_row(done: Handled, at: str) -> tuple[Any, ...]:
    envelope, position = done.envelope, done.position
    return (
        envelope.id,
        envelope.source,
        envelope.client,
        type(envelope.command).__name__,
        encode(envelope.command),
        encode_outcome(done.result, done.error),
        position.partition if position else None,
        position.seq if position else None,
        at,
        envelope.correlation_id,
        envelope.causation_id,
        envelope.traceparent,
    )


def _day(day: date | None) -> str | None:
    return None if day is None else day.isoformat()


def _expect(wanted: int, found: int) -> None:
    if found != wanted:
        raise Conflict(f"{wanted - found} of {wanted} rows are not as they were loaded")
