"""Everything that writes: state rows, then positions, then the log and the inbox. One statement a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from datetime import date, datetime
from typing import Any

from allocation.adapters.serialization import encode, encode_outcome
from allocation.adapters.sql.dialects import Dialect, Step
from allocation.adapters.sql.projector import Rows
from allocation.adapters.sql.tables import batches, event_log, inbox, moment_text, order_lines
from allocation.service_layer.envelope import Ids, LogPosition, partition_of
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
_KEEP_SINCE = "ON CONFLICT (orderid, sku) DO UPDATE SET batchref = excluded.batchref"
_DELETE_UNUSED = "DELETE FROM products /*using*/ WHERE products.sku = {0} AND products.version_number = 0"


class Writer:
    """Makes the steps that write; bound to a dialect, stateless, shared by all units of work."""

    def __init__(self, dialect: Dialect, ids: Ids, partitions: int) -> None:
        self._dialect, self._ids, self._partitions = dialect, ids, partitions
        self._take = dialect.sql(
            f"UPDATE log_head SET seq = seq + ?, last_at = {dialect.greatest}(last_at, ?) "
            "WHERE log_partition = ? RETURNING seq, last_at"
        )
        self._wait = dialect.sql("UPDATE log_head SET seq = seq WHERE log_partition = ?")

    def state(self, rows: Rows, loaded: dict[str, int]) -> list[tuple[Step, int | None]]:
        """Write the final rows of what changed; with each step how many rows it has to meet (None: any number)."""
        d = self._dialect
        created = [
            (ref, b.created.sku, b.qty, b.allocated, _day(b.eta), b.created.qty, _day(b.created.eta))
            for ref, b in rows.batches.items()
            if b.created is not None
        ]
        changed = [
            (ref, b.allocated, b.qty, int(b.moved), _day(b.eta)) for ref, b in rows.batches.items() if b.created is None
        ]
        lines = [(orderid, sku, *line) for (orderid, sku), line in rows.lines.items()]
        versions = [(sku, loaded[sku], version) for sku, version in rows.versions.items()]
        steps: list[tuple[Step, int | None]] = []
        if created:
            steps.append((d.inserting(batches, created), None))
        if changed:
            steps.append((d.updating(_CHANGE_BATCH, ("text", "int", "int", "int", "date"), changed), len(changed)))
        if rows.gone:
            steps.append((d.updating(_DELETE_LINE, ("text", "text"), list(rows.gone)), None))
        if lines:
            steps.append((d.inserting(order_lines, lines, _KEEP_SINCE), None))
        steps.append((d.updating(_RAISE_VERSION, ("text", "bigint", "bigint"), versions), len(versions)))
        return steps

    def delete_unused(self, skus: Collection[str]) -> Step:
        """Products that were made to be locked, and then got no event."""
        return self._dialect.updating(_DELETE_UNUSED, ("text",), [(sku,) for sku in skus])

    def positions(self, handled: Sequence[Handled], now: datetime) -> dict[int, tuple[int, Step]]:
        """Take as many positions in each partition, in ascending order, as there are events: (how many, step)."""
        counts = Counter(partition_of(e.sku, self._partitions) for done in handled for e, _ in done.events)
        return {
            partition: (counts[partition], Step(self._take, (counts[partition], moment_text(now), partition)))
            for partition in sorted(counts)
        }

    def log(
        self, handled: Sequence[Handled], places: dict[int, Place], now: datetime
    ) -> tuple[list[Step], tuple[LogPosition, str] | None]:
        """Write events and inbox under the positions taken. Answers where the first event stands, and its id."""
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
        at = moment_text(now)
        steps = [self._dialect.inserting(event_log, rows)] if rows else []
        steps.append(self._dialect.inserting(inbox, [_inbox_row(done, at) for done in handled]))
        return steps, ((LogPosition(rows[0][0], rows[0][1]), rows[0][4]) if rows else None)

    def wait_for(self, partition: int) -> Step:
        """Wait for whoever is committing to this partition."""
        return Step(self._wait, (partition,))


class Place:
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
