"""All the ports that one database implements, put together: in plain memory, or in SQL."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from sqlalchemy import Engine

from allocation.adapters.memory import MemoryStock, MemoryStore, MemoryUnitOfWork, MemoryViews
from allocation.adapters.memory_definitions import MemoryDefinitions
from allocation.adapters.memory_history import MemoryHistory
from allocation.adapters.memory_subscriptions import MemoryDeadLetters, MemorySubscriptionStore
from allocation.adapters.memory_verification import MemoryAuditStore, MemoryBooks
from allocation.adapters.sql.audits import SqlAuditStore
from allocation.adapters.sql.definitions import SqlDefinitions
from allocation.adapters.sql.engine import transactions_at_once
from allocation.adapters.sql.history import SqlHistory
from allocation.adapters.sql.read_models import SqlStock
from allocation.adapters.sql.subscriptions import SqlDeadLetters, SqlSubscriptionStore
from allocation.adapters.sql.unit_of_work import Database, SqlUnitOfWork
from allocation.adapters.sql.verification import SqlBooks
from allocation.adapters.sql.views import SqlViews
from allocation.service_layer.books import Books
from allocation.service_layer.definitions import Definitions
from allocation.service_layer.envelope import Clock, Ids
from allocation.service_layer.history.ports import History
from allocation.service_layer.ports import DeadLetters
from allocation.service_layer.read_models import Stock
from allocation.service_layer.self_audit import AuditStore
from allocation.service_layer.subscriptions import SubscriptionStore
from allocation.service_layer.unit_of_work import UnitOfWork
from allocation.views import Views


@dataclass(frozen=True, slots=True)
class Store:
    """The ports see each other's rows. `close` closes connections. One process should best run `at_once` writing
    transactions at a time."""

    unit_of_work: Callable[[], UnitOfWork]
    views: Views
    stock: Stock
    subscriptions: SubscriptionStore
    dead_letters: DeadLetters
    books: Books
    audits: AuditStore
    history: History
    definitions: Definitions
    close: Callable[[], None] = lambda: None
    at_once: int = 1


def memory_store(ids: Ids, clock: Clock, partitions: int) -> Store:
    """A new one, empty; it ends with its last user."""
    store = MemoryStore(ids, clock, partitions)
    subscriptions = MemorySubscriptionStore(store)
    return Store(
        partial(MemoryUnitOfWork, store),
        MemoryViews(store),
        MemoryStock(store),
        subscriptions,
        MemoryDeadLetters(clock),
        MemoryBooks(store),
        MemoryAuditStore(),
        MemoryHistory(store),
        MemoryDefinitions(subscriptions),
    )


def sql_store(
    engine: Engine, ids: Ids, clock: Clock, partitions: int, patience_seconds: float, hot_products: int
) -> Store:
    """A database whose tables are there. `patience_seconds`: how long to retry a database that becomes unreachable
    during a commit; `hot_products`: how many products are kept in memory between transactions."""
    database = Database.of(engine, ids, clock, partitions, patience_seconds=patience_seconds, hot_products=hot_products)
    return Store(
        lambda: SqlUnitOfWork(database),
        SqlViews(engine, partitions),
        SqlStock(engine, database.statements),
        SqlSubscriptionStore(engine, clock),
        SqlDeadLetters(engine, ids, clock),
        SqlBooks(engine, partitions),
        SqlAuditStore(engine, clock),
        SqlHistory(engine, partitions),
        SqlDefinitions(engine, clock),
        engine.dispose,
        transactions_at_once(engine),
    )
