"""The read models that projections write, and the present state that they are made from."""

from __future__ import annotations

from collections.abc import Mapping
from operator import attrgetter

import msgspec
from sqlalchemy import Connection, Engine

from allocation.adapters.serialization import encode_snapshot
from allocation.adapters.sql.dialects import Dialect, Step
from allocation.adapters.sql.errors import translated
from allocation.adapters.sql.statements import Statements, batch_from
from allocation.adapters.sql.tables import movements, snapshots, stock_levels
from allocation.domain.errors import Available
from allocation.domain.model import Batch, Product
from allocation.service_layer.envelope import LogPosition
from allocation.service_layer.read_models import ReadModels, Stock, StockLevel

_NEWER_WINS = (
    "ON CONFLICT (sku) DO UPDATE SET version = excluded.version, log_partition = excluded.log_partition, "
    "position = excluded.position, available = excluded.available "
    "WHERE (stock_levels.version, stock_levels.position) < (excluded.version, excluded.position)"
)
_COUNTED = ("received", "allocated", "deallocated", "backordered", "cancelled")
_counts = attrgetter(*_COUNTED)
_ADD = "ON CONFLICT (sku, day) DO UPDATE SET " + ", ".join(f"{c} = movements.{c} + excluded.{c}" for c in _COUNTED)

_available = msgspec.json.Decoder(tuple[Available, ...])


class SqlStock(Stock):
    def __init__(self, engine: Engine, statements: Statements) -> None:
        self._engine, self._statements = engine, statements

    def levels(self, positions: Mapping[str, LogPosition]) -> list[StockLevel]:
        if not positions:
            return []
        step = self._statements.levels(positions.keys())
        with translated(), self._engine.connect() as connection:
            [outcome] = self._statements.dialect.run(connection, [step])
        versions: dict[str, int] = {}
        batches: dict[str, list[Batch]] = {}
        for sku, version, *batch in outcome.rows:
            versions[sku] = version
            if batch[0] is not None:
                batches.setdefault(sku, []).append(batch_from(batch))
        return [
            StockLevel(sku, version, positions[sku], Product(sku, batches.get(sku, ()), version).availability())
            for sku, version in versions.items()
        ]


def write(read_models: ReadModels, dialect: Dialect, connection: Connection) -> None:
    """Write what projections recorded, in the open transaction of `connection`."""
    steps: list[Step] = []
    if read_models.stock_levels:
        levels = [
            (x.sku, x.version, x.position.partition, x.position.seq, msgspec.json.encode(x.available).decode())
            for x in read_models.stock_levels.values()
        ]
        steps.append(dialect.inserting(stock_levels, levels, _NEWER_WINS))
    if read_models.movements:
        days = [(sku, day.isoformat(), *_counts(moved)) for (sku, day), moved in read_models.movements.items()]
        steps.append(dialect.inserting(movements, days, _ADD))
    if read_models.snapshots:
        kept = [(x.sku, x.position.seq, x.version, encode_snapshot(x)) for x in read_models.snapshots.values()]
        steps.append(dialect.inserting(snapshots, kept, "ON CONFLICT DO NOTHING"))
    if steps:
        dialect.run(connection, steps)


def level_from(sku: str, version: int, partition: int, position: int, available: str) -> StockLevel:
    """A row of `stock_levels`. Raises one of `UNREADABLE`."""
    return StockLevel(sku, version, LogPosition(partition, position), _available.decode(available))
