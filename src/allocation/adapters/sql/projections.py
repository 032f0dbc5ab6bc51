"""What the read models hold, with the cursors of their projections; corrections while these cursors cannot move."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import astuple
from datetime import date
from typing import Any

import msgspec
from sqlalchemy import Connection, delete, insert, select, update

from allocation.adapters.serialization import UNREADABLE, decode_snapshot, encode_snapshot
from allocation.adapters.sql.asking import Ask, history_of
from allocation.adapters.sql.read_models import level_from
from allocation.adapters.sql.tables import movements, snapshots, stock_levels, subscriptions
from allocation.service_layer.books import KeptSnapshot, Projected, Projecting, Stored, Unreadable
from allocation.service_layer.envelope import LogPosition, partition_of
from allocation.service_layer.handlers import count_movements, project_stock_levels
from allocation.service_layer.history.snapshots import Snapshot
from allocation.service_layer.read_models import Movements, StockLevel

LEVELS, MOVEMENTS = project_stock_levels.__name__, count_movements.__name__
_PAGE, _FEW = 20_000, 20
_BEFORE_ALL = -(2**63)
_COUNTED = ("received", "allocated", "deallocated", "backordered", "cancelled")


class Projections:
    """The read models of the skus that satisfy a condition on `{0}`, the column with the sku."""

    def __init__(self, ask: Ask, partitions: int, condition: str, *bounds: str) -> None:
        chosen = condition.format("sku")
        self._partitions = partitions
        cursors = "SELECT name, log_partition, position FROM subscriptions WHERE name IN (?, ?)"
        self._cursors: dict[tuple[str, int], int] = {(name, n): seq for name, n, seq in ask(cursors, LEVELS, MOVEMENTS)}
        # After a refused event, a projection has seen nothing more of its key.
        lagging = "SELECT subscription, key, next_position FROM lanes WHERE subscription IN (?, ?) AND "
        lanes = ask(lagging + condition.format("key"), LEVELS, MOVEMENTS, *bounds)
        self._lanes: dict[tuple[str, str], int] = {(name, key): seq - 1 for name, key, seq in lanes}
        levels = f"SELECT sku, version, log_partition, position, available FROM stock_levels WHERE {chosen}"
        self._levels = {row[0]: self._level(*row) for row in ask(levels, *bounds)}
        days = f"SELECT sku, {ask.day('day')}, {', '.join(_COUNTED)} FROM movements WHERE {chosen}"
        self._movements: dict[str, dict[str, Movements]] = {}
        for sku, day, *counted in ask(days, *bounds):
            self._movements.setdefault(sku, {})[day] = Movements(*counted)

        self._ask = ask
        self._kept = {sku for (sku,) in ask(f"SELECT DISTINCT sku FROM snapshots WHERE {chosen}", *bounds)}

    def of(self, sku: str) -> Projected:
        return Projected(
            self._levels.get(sku),
            self._until(LEVELS, sku),
            self._movements.get(sku, {}),
            self._until(MOVEMENTS, sku),
            self._snapshots(sku) if sku in self._kept else (),
        )

    def _level(self, sku: str, *row: Any) -> StockLevel | Unreadable:
        try:
            level = level_from(sku, *row)
        except UNREADABLE as bad:
            return Unreadable(f"it cannot be read: {bad}")
        if level.position.partition != (own := partition_of(sku, self._partitions)):
            return Unreadable(f"its position is {level.position}, but its events are in partition {own}")
        return level

    def _snapshots(self, sku: str) -> Iterator[KeptSnapshot]:
        """A few at a time: a product may have many, and large ones. One that stands before the log is read, too: it
        would be used for moments before all others."""
        after, partition = _BEFORE_ALL, partition_of(sku, self._partitions)
        few = f"SELECT position, version, state FROM snapshots WHERE sku = ? AND position > ? ORDER BY 1 LIMIT {_FEW}"
        while rows := self._ask(few, sku, after):
            for after, version, state in rows:
                position = LogPosition(partition, after)
                try:
                    yield position, decode_snapshot(sku, version, position, state)
                except UNREADABLE as bad:
                    yield position, Unreadable(f"it cannot be read: {bad}")

    def _until(self, name: str, sku: str) -> int:
        cursor = self._cursors.get((name, partition_of(sku, self._partitions)), 0)
        return min(cursor, self._lanes.get((name, sku), cursor))


class HeldProjections(Projecting):
    """Their cursors are locked: a projection moves its cursor first, in the transaction in which it writes a read
    model."""

    def __init__(self, connection: Connection, ask: Ask, partitions: int, sku: str) -> None:
        self._connection, self._sku = connection, sku
        mine = subscriptions.c.log_partition == partition_of(sku, partitions)
        both = subscriptions.c.name.in_([LEVELS, MOVEMENTS])
        held = select(subscriptions.c.name).where(both, mine).order_by(subscriptions.c.name)
        connection.execute(held.with_for_update()).all()
        projected = Projections(ask, partitions, "{0} = ?", sku).of(sku)
        self.stored = Stored(sku, None, history_of(ask, sku, 0, _PAGE), projected=projected)

    def correct(
        self,
        level: StockLevel | None,
        moved: Mapping[str, Movements],
        wrong: Mapping[LogPosition, Snapshot | None],
    ) -> None:
        self._correct_snapshots(wrong)
        for table in (stock_levels, movements):
            self._connection.execute(delete(table).where(table.c.sku == self._sku))
        if level is not None:
            row = {
                "sku": level.sku,
                "version": level.version,
                "log_partition": level.position.partition,
                "position": level.position.seq,
                "available": msgspec.json.encode(level.available).decode(),
            }
            self._connection.execute(insert(stock_levels).values(row))
        if moved:
            rows = [
                {"sku": self._sku, "day": date.fromisoformat(day), **dict(zip(_COUNTED, astuple(m), strict=True))}
                for day, m in moved.items()
            ]
            self._connection.execute(insert(movements), rows)

    def _correct_snapshots(self, wrong: Mapping[LogPosition, Snapshot | None]) -> None:
        for position, due in wrong.items():
            here = (snapshots.c.sku == self._sku) & (snapshots.c.position == position.seq)
            if due is None:
                self._connection.execute(delete(snapshots).where(here))
            else:
                right = {"version": due.version, "state": encode_snapshot(due)}
                self._connection.execute(update(snapshots).where(here).values(right))
