"""SQLite and PostgreSQL as the contract wants them: each store a copy of one that was migrated once a session."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Engine

from allocation.adapters.clock import TimeOrderedIds
from allocation.adapters.sql.engine import make_engine
from allocation.adapters.sql.repository import Pages
from allocation.adapters.sql.unit_of_work import Database, SqlUnitOfWork
from allocation.adapters.sql.views import SqlViews
from allocation.service_layer.unit_of_work import UnitOfWork
from allocation.views import Views
from tests.contracts.harness import Store
from tests.fakes import SetClock


class SqlStore(Store):
    def __init__(self, url: str, partitions: int, hot_products: int = 0) -> None:
        super().__init__(partitions)
        self.url, self._hot_products = url, hot_products
        self._engines: list[Engine] = []

    def ports(
        self, clock: SetClock, pages: tuple[int, int], lock_timeout_seconds: float
    ) -> tuple[Callable[[], UnitOfWork], Views]:
        engine = make_engine(self.url, lock_timeout_seconds=lock_timeout_seconds)
        self._engines.append(engine)
        hot = self._hot_products
        database = Database.of(
            engine, TimeOrderedIds(), clock, self.partitions, Pages(*pages, pages[0]), hot_products=hot
        )
        return lambda: SqlUnitOfWork(database), SqlViews(engine, self.partitions)

    def close(self) -> None:
        for engine in self._engines:
            engine.dispose()
