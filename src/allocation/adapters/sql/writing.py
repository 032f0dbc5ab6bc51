"""Everything that writes: state rows, then positions, then the log and the inbox. One statement a table.

Steps are made when they are asked for: the server writes one table while the rows of the next are made.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

from allocation.adapters.serialization import encode, encode_outcome, written_as
from allocation.adapters.sql.dialects import Dialect, Outcome, Step
from allocation.adapters.sql.projector import BatchRow, Rows
from allocation.adapters.sql.tables import batches, moment_text, order_lines
from allocation.domain.events import BatchCreated
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
_TAKE_FROM_BATCH = (
    "UPDATE batches SET allocated_quantity = allocated_quantity + {1} /*from*/ WHERE batches.reference = {0}"
)
_MOVE_LINE = "UPDATE order_lines SET batchref = {2} /*from*/ WHERE order_lines.orderid = {0} AND order_lines.sku = {1}"
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
_NOWHERE = (None, None)
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

    def state(self, rows: Rows, loaded: Mapping[str, int], is_stored: Callable[[str, str], bool]) -> Iterator[Step]:
        """Write the final rows of what changed, if everything is as it was loaded. `is_stored` tells of an order and a
        sku whether their line is in the tables."""
        if rows.versions:
            versions = [(sku, loaded[sku], version) for sku, version in rows.versions.items()]
            yield self._dialect.updating(_RAISE_VERSION, ("text", "bigint", "bigint"), versions, meets_all=True)
        yield from self._batches(rows)
        yield from self._lines(rows, is_stored)

    def _batches(self, rows: Rows) -> Iterator[Step]:
        created: list[tuple[Any, ...]] = []
        taken: list[tuple[Any, ...]] = []
        changed: list[tuple[Any, ...]] = []
        for ref, batch in rows.batches.items():
            if batch.created is not None:
                created.append(_created_row(ref, batch, batch.created))
            elif batch.qty is None and not batch.moved:
                taken.append((ref, batch.allocated))
            else:
                changed.append((ref, batch.allocated, batch.qty, int(batch.moved), _day(batch.eta)))
        if created:
            yield self._dialect.inserting(batches, created)
        if taken:
            yield self._dialect.updating(_TAKE_FROM_BATCH, ("text", "int"), taken, meets_all=True)
        if changed:
            types = ("text", "int", "int", "int", "date")
            yield self._dialect.updating(_CHANGE_BATCH, types, changed, meets_all=True)

    def _lines(self, rows: Rows, is_stored: Callable[[str, str], bool]) -> Iterator[Step]:
        if rows.gone:
            yield self._dialect.updating(_DELETE_LINE, ("text", "text"), list(rows.gone))
        new: list[tuple[Any, ...]] = []
        moved: list[tuple[Any, ...]] = []
        for key, line in rows.lines.items():
            if is_stored(*key):
                moved.append((*key, line[1]))
            else:
                new.append((*key, *line))
        if new:
            yield self._dialect.inserting(order_lines, new)
        if moved:
            yield self._dialect.updating(_MOVE_LINE, ("text", "text", "text"), moved, meets_all=True)

    def delete_unused(self, skus: Collection[str]) -> Iterator[Step]:
        """Products that were made to be locked, and then got no event."""
        if skus:
            yield self._dialect.updating(_DELETE_UNUSED, ("text",), [(sku,) for sku in skus])

    def log(self, handled: Sequence[Handled], now: datetime) -> Logging:
        """Take positions, last of all locks and in ascending order of partitions, and write under them."""
        counts = Counter(partition_of(e.sku, self._partitions) for done in handled for e, _ in done.events)
        at = moment_text(now)
        logging = Logging({n: Step(self._take, (counts[n], at, n)) for n in sorted(counts)})
        logging.steps = self._log_steps(handled, at, dict(counts), logging)
        return logging

    def _log_steps(
        self, handled: Sequence[Handled], at: str, behind: dict[int, int], logging: Logging
    ) -> Iterator[Step]:
        ids = iter(self._ids.several(sum(behind.values())))
        events: list[tuple[Any, ...]] = []
        for done in handled:
            origin, place = done.envelope, None
            for event, version in done.events:
                partition = partition_of(event.sku, self._partitions)
                behind[partition] -= 1
                place = (partition, behind[partition])
                row = (*place, event.sku, version, next(ids), *written_as(event), origin.correlation_id, origin.id)
                events.append((*row, origin.traceparent, encode(event)))
                if partition not in logging.samples:
                    logging.samples[partition] = Sample(*row[1:5])
            logging.last.append(place)
        if events:
            yield self._dialect.writing(_EVENT, _EVENT_TYPES, events)
        commands = [
            _inbox_row(done, at, *(place or _NOWHERE)) for done, place in zip(handled, logging.last, strict=True)
        ]
        yield self._dialect.writing(_COMMAND, _COMMAND_TYPES, commands)

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


@dataclass(slots=True)
class Logging:
    """The steps that take positions, by partition, and those that write the log under them.

    While its steps are made it learns: `last` tells of each command the partition of its last event, and how far behind
    the partition's new head that stands; `samples` holds one event of each partition.
    """

    takes: dict[int, Step]
    steps: Iterator[Step] = field(init=False)
    last: list[tuple[int, int] | None] = field(default_factory=list)
    samples: dict[int, Sample] = field(default_factory=dict)

    def heads(self, outcomes: Sequence[Outcome]) -> dict[int, int]:
        """The new head of each partition: after the steps that took it, events, commands and COMMIT followed."""
        taken = outcomes[-3 - len(self.takes) : -3]
        return {partition: outcome.rows[0][0] for partition, outcome in zip(self.takes, taken, strict=True)}

    def place(self, handled: Sequence[Handled], heads: Mapping[int, int]) -> None:
        """Tell each command the position of its last event, now that the new head of each partition is known."""
        for done, place in zip(handled, self.last, strict=True):
            if place is not None:
                done.position = LogPosition(place[0], heads[place[0]] - place[1])


def _created_row(ref: str, batch: BatchRow, created: BatchCreated) -> tuple[Any, ...]:
    return (ref, created.sku, batch.qty, batch.allocated, _day(batch.eta), created.qty, _day(created.eta))


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
