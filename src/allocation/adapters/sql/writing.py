"""Everything that writes: state rows, then positions, then the log and the inbox. One statement a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from allocation.adapters.serialization import encode, encode_outcome, event_version
from allocation.adapters.sql.dialects import Dialect, Step
from allocation.adapters.sql.projector import Rows
from allocation.adapters.sql.tables import batches, moment_text, order_lines
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
_EVENT = (
    "INSERT INTO event_log (log_partition, position, sku, version, id, type, schema_version, at, correlation_id, "
    "causation_id, traceparent, data) SELECT {0}, h.seq - {1}, {2}, {3}, {4}, {5}, {6}, h.last_at, {7}, {8}, {9}, {10} "
    "FROM /*rows*/ LEFT JOIN log_head h ON h.log_partition = {0}"
)
_EVENT_TYPES = ("int", "bigint", "text", "bigint", "text", "text", "int", "text", "text", "text", "text")
_COMMAND = (
    "INSERT INTO inbox (log_partition, position, id, source, client, type, body, outcome, at, correlation_id, "
    "causation_id, traceparent) SELECT {0}, h.seq - {1}, {2}, {3}, {4}, {5}, {6}, {7}, {8}, {9}, {10}, {11} "
    "FROM /*rows*/ LEFT JOIN log_head h ON h.log_partition = {0}"
)
_COMMAND_TYPES = ("int", "bigint", *("text",) * 6, "timestamptz", *("text",) * 3)


class Writer:
    """Makes the steps that write; bound to a dialect, stateless, shared by all units of work."""

    def __init__(self, dialect: Dialect, ids: Ids, partitions: int) -> None:
        self._dialect, self._ids, self._partitions = dialect, ids, partitions
        self._take = dialect.sql(
            f"UPDATE log_head SET seq = seq + ?, last_at = {dialect.greatest}(last_at, ?) "
            "WHERE log_partition = ? RETURNING seq"
        )
        self._wait = dialect.sql("UPDATE log_head SET seq = seq WHERE log_partition = ?")

    def state(self, rows: Rows, loaded: dict[str, int]) -> list[Step]:
        """Write the final rows of what changed, if everything is as it was loaded."""
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
        steps = []
        if created:
            steps.append(d.inserting(batches, created))
        if changed:
            steps.append(d.updating(_CHANGE_BATCH, ("text", "int", "int", "int", "date"), changed, meets_all=True))
        if rows.gone:
            steps.append(d.updating(_DELETE_LINE, ("text", "text"), list(rows.gone)))
        if lines:
            steps.append(d.inserting(order_lines, lines, _KEEP_SINCE))
        if versions:
            steps.append(d.updating(_RAISE_VERSION, ("text", "bigint", "bigint"), versions, meets_all=True))
        return steps

    def delete_unused(self, skus: Collection[str]) -> list[Step]:
        """Products that were made to be locked, and then got no event."""
        return [self._dialect.updating(_DELETE_UNUSED, ("text",), [(sku,) for sku in skus])] if skus else []

    def log(self, handled: Sequence[Handled], now: datetime) -> Logging:
        """Take positions, last of all locks and in ascending order of partitions, and write under them."""
        counts = Counter(partition_of(e.sku, self._partitions) for done in handled for e, _ in done.events)
        behind = dict(counts)
        ids = iter(self._ids.several(counts.total()))
        events: list[tuple[Any, ...]] = []
        commands: list[tuple[Any, ...]] = []
        at, last = moment_text(now), []
        for done in handled:
            origin, place = done.envelope, None
            for event, version in done.events:
                partition = partition_of(event.sku, self._partitions)
                behind[partition] -= 1
                place = (partition, behind[partition])
                name, schema = type(event).__name__, event_version(event)
                row = (*place, event.sku, version, next(ids), name, schema, origin.correlation_id, origin.id)
                events.append((*row, origin.traceparent, encode(event)))
            last.append(place)
            commands.append(_inbox_row(done, at, *(place or (None, None))))
        takes = {n: Step(self._take, (counts[n], at, n)) for n in sorted(counts)}
        steps = [self._dialect.writing(_EVENT, _EVENT_TYPES, events)] if events else []
        steps.append(self._dialect.writing(_COMMAND, _COMMAND_TYPES, commands))
        firsts = {row[0]: Sample(*row[1:5]) for row in reversed(events)}
        return Logging(takes, steps, last, firsts)

    def wait_for(self, partition: int) -> Step:
        """Wait for whoever is committing to this partition."""
        return Step(self._wait, (partition,))


@dataclass(frozen=True, slots=True)
class Sample:
    """An event of a transaction, by which one can tell later whether and where it was committed."""

    behind: int
    sku: str
    version: int
    id: str


@dataclass(frozen=True, slots=True)
class Logging:
    """The steps that take positions, by partition, and those that write the log under them.

    `last` tells of each command the partition of its last event, and how far behind the partition's new head that
    stands; `samples` holds one event of each partition.
    """

    takes: dict[int, Step]
    steps: list[Step]
    last: list[tuple[int, int] | None]
    samples: dict[int, Sample]

    def place(self, handled: Sequence[Handled], heads: Mapping[int, int]) -> None:
        """Tell each command the position of its last event, now that the new head of each partition is known."""
        for done, place in zip(handled, self.last, strict=True):
            if place is not None:
                done.position = LogPosition(place[0], heads[place[0]] - place[1])


def _inbox_row(done: Handled, at: str, partition: int | None, behind: int | None) -> tuple[Any, ...]:
    envelope = done.envelope
    return (
        partition,
        behind,
        envelope.id,
        envelope.source,
        envelope.client,
        type(envelope.command).__name__,
        encode(envelope.command),
        encode_outcome(done.result, done.error),
        at,
        envelope.correlation_id,
        envelope.causation_id,
        envelope.traceparent,
    )


def _day(day: date | None) -> str | None:
    return None if day is None else day.isoformat()
