"""Appending to the log and the inbox: positions are the last locks taken, and everything is written under them.

Rows are made column by column: they travel to PostgreSQL like this, and it is faster than row by row.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import accumulate
from typing import Any

from sqlalchemy import Table

from allocation.adapters.serialization import encode_all, outcome_of, written_as
from allocation.adapters.sql.columns import Columns
from allocation.adapters.sql.dialects import Dialect, Step
from allocation.adapters.sql.tables import event_log, inbox, moment_text
from allocation.service_layer.envelope import Ids, LogPosition, partition_of
from allocation.service_layer.unit_of_work import Handled

# LIMIT causes all heads (64 at most) to be read once, instead of one lookup for each row.
_HEADS = "(SELECT * FROM log_head LIMIT 64) h"
# Both have the columns of their tables, in that order, but instead of the position how far it is behind the new head.
_EVENTS_BELOW_HEAD = (
    "INSERT INTO event_log (log_partition, position, sku, version, id, type, schema_version, at, correlation_id, "
    "causation_id, traceparent, data) "
    "SELECT {0}, h.seq - {1}, {2}, {3}, {4}, {5}, {6}, h.last_at, {8}, {9}, {10}, {11} "
    f"FROM /*rows*/ LEFT JOIN {_HEADS} ON h.log_partition = {{0}}"
)
_EVENT_TYPES = ("int", "bigint", "text", "bigint", "text", "text", "int", "timestamptz", *("text",) * 4)
_COMMANDS_BELOW_HEAD = (
    "INSERT INTO inbox (id, source, client, type, body, outcome, log_partition, position, at, correlation_id, "
    "causation_id, traceparent) SELECT {0}, {1}, {2}, {3}, {4}, {5}, {6}, h.seq - {7}, {8}, {9}, {10}, {11} "
    f"FROM /*rows*/ LEFT JOIN {_HEADS} ON h.log_partition = {{6}}"
)
_COMMAND_TYPES = (*("text",) * 6, "int", "bigint", "timestamptz", *("text",) * 3)


class Appender:
    """Makes the steps; bound to a dialect, stateless, shared by all units of work."""

    def __init__(self, dialect: Dialect, ids: Ids, partitions: int) -> None:
        self.dialect, self.ids, self.partitions = dialect, ids, partitions
        self.take = dialect.sql(
            f"UPDATE log_head SET seq = seq + ?, last_at = {dialect.greatest}(last_at, ?) "
            "WHERE log_partition = ? RETURNING seq, last_at"
        )
        self._wait = dialect.sql("UPDATE log_head SET seq = seq WHERE log_partition = ?")

    def append(self, handled: Sequence[Handled], now: datetime) -> Appending:
        """Everything that was handled, in order."""
        return Appending(self, handled, moment_text(now))

    def wait_for(self, partition: int) -> Step:
        """Wait for a transaction that is committing to this partition."""
        return Step(self._wait, (partition,))


@dataclass(frozen=True, slots=True)
class Sample:
    """An event of a transaction, which shows later whether and where the transaction was committed. `behind`: how far
    the event is behind the new head of its partition."""

    behind: int
    sku: str
    version: int
    id: str


class Heads:
    """The new heads of the partitions that a transaction took positions in, as far as they are known, and the times
    that their events get. An object of its own: steps hold it, and must not hold the rows that are made after them."""

    def __init__(self) -> None:
        self.seqs: dict[int, int] = {}
        self.moments: dict[int, str] = {}

    def took(self, partition: int, rows: Sequence[Any]) -> None:
        ((self.seqs[partition], self.moments[partition]),) = rows


class Appending:
    """One transaction's share of the log.

    `takes` are the steps that take positions, by partition, in the order in which everybody locks partitions. As they
    are answered, `heads` is filled: on SQLite before the next step is made, on PostgreSQL at the end of the trip.
    """

    def __init__(self, appender: Appender, handled: Sequence[Handled], at: str) -> None:
        self._dialect, self._handled, self._at = appender.dialect, handled, at
        happened = [pair for done in handled for pair in done.events]
        self._events = [event for event, _ in happened]
        self._versions = [version for _, version in happened]
        self._origins = [done.envelope for done in handled for _ in done.events]
        self._ids = appender.ids.several(len(happened))
        self._partitions = [partition_of(event.sku, appender.partitions) for event in self._events]
        ends = accumulate(len(done.events) for done in handled)
        self._last = [end - 1 if done.events else None for done, end in zip(handled, ends, strict=True)]
        """For each command, which of the events is its last."""
        self._numbers, totals = _numbered(self._partitions)
        self._totals = totals
        self.heads = Heads()
        self.takes = {
            partition: Step(appender.take, (total, at, partition), told=partial(self.heads.took, partition))
            for partition, total in sorted(totals.items())
        }

    def samples(self) -> dict[int, Sample]:
        """The first event of each partition, in the order of `takes`, which is also the order in which to wait for
        their locks."""
        found: dict[int, Sample] = {}
        for partition, event, version, event_id in zip(
            self._partitions, self._events, self._versions, self._ids, strict=True
        ):
            if partition not in found:
                found[partition] = Sample(self._totals[partition] - 1, event.sku, version, event_id)
        return {partition: found[partition] for partition in self.takes}

    def steps(self) -> Iterator[Step]:
        """Take positions, and write under them. Where this is one trip, all rows are made before it: once the first
        position is taken, nobody else can commit, and no timeout of the server runs until the trip ends."""
        written = self._written()
        rows: Iterable[Step] = list(written) if self._dialect.answers_at_the_end else written
        yield from self.takes.values()
        yield from rows

    def _written(self) -> Iterator[Step]:
        if self._events:
            yield self._into_log()
        yield self._into_inbox()

    def tell(self) -> None:
        """Give each command the position of its last event, now that all heads are known."""
        partitions, positions = self._partitions, self._positions()
        for done, last in zip(self._handled, self._last, strict=True):
            if last is not None:
                done.position = LogPosition(partitions[last], positions[last])

    def _into_log(self) -> Step:
        events = self._events
        _, causes, _, correlations, *_, traces = zip(*self._origins, strict=True)
        names, schema_versions = zip(*map(written_as, events), strict=True)
        columns: Columns = (
            self._partitions,
            self._positions(),
            [event.sku for event in events],
            self._versions,
            self._ids,
            names,
            schema_versions,
            [self.heads.moments.get(partition, self._at) for partition in self._partitions],
            correlations,
            causes,
            traces,
            encode_all(events),
        )
        return self._step(event_log, _EVENTS_BELOW_HEAD, _EVENT_TYPES, columns)

    def _into_inbox(self) -> Step:
        handled = self._handled
        envelopes = [done.envelope for done in handled]
        partitions, positions = self._partitions, self._positions()
        commands, ids, _, correlations, sources, clients, _, causes, traces = zip(*envelopes, strict=True)
        columns: Columns = (
            ids,
            sources,
            clients,
            [type(command).__name__ for command in commands],
            encode_all(commands),
            encode_all([outcome_of(done.result, done.error) for done in handled]),
            [None if last is None else partitions[last] for last in self._last],
            [None if last is None else positions[last] for last in self._last],
            [self._at] * len(handled),
            correlations,
            causes,
            traces,
        )
        return self._step(inbox, _COMMANDS_BELOW_HEAD, _COMMAND_TYPES, columns)

    def _step(self, table: Table, below_head: str, types: Sequence[str], columns: Columns) -> Step:
        if self.heads.seqs:
            return self._dialect.inserting(table, list(zip(*columns, strict=True)))
        return self._dialect.writing(below_head, types, columns)

    def _positions(self) -> list[int]:
        """The positions of the events; as long as no head is known, how far they are behind the new head of their
        partition."""
        totals, places = self._totals, zip(self._partitions, self._numbers, strict=True)
        if not self.heads.seqs:
            return [totals[partition] - number for partition, number in places]
        before = {partition: head - totals[partition] for partition, head in self.heads.seqs.items()}
        return [before[partition] + number for partition, number in places]


def _numbered(partitions: Sequence[int]) -> tuple[list[int], dict[int, int]]:
    """Count on in each partition: the number of each event, and how many there are."""
    totals = dict.fromkeys(partitions, 0)
    numbers = []
    for partition in partitions:
        totals[partition] += 1
        numbers.append(totals[partition])
    return numbers, totals
