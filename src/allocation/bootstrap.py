"""The one room that knows everyone: builds the application from its settings."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Engine

from allocation.adapters.clock import SystemClock, TimeOrderedIds
from allocation.adapters.memory import MemoryStore, MemoryUnitOfWork, MemoryViews
from allocation.adapters.sql.engine import make_engine
from allocation.adapters.sql.migrate import migrate as migrate_database
from allocation.adapters.sql.unit_of_work import Database, SqlUnitOfWork
from allocation.adapters.sql.views import SqlViews
from allocation.config import Settings, load_settings
from allocation.service_layer.envelope import Clock, Ids
from allocation.service_layer.handlers import COMMAND_HANDLERS
from allocation.service_layer.messagebus import Handler, MessageBus
from allocation.service_layer.unit_of_work import UnitOfWork
from allocation.views import Views


@dataclass(frozen=True, slots=True)
class Application:
    """What an entry point needs: commands go to `bus`, questions to `views`. `close` lets go of connections."""

    settings: Settings
    bus: MessageBus
    views: Views
    clock: Clock
    ids: Ids
    close: Callable[[], None] = field(default=lambda: None)


def bootstrap(
    settings: Settings | None = None,
    clock: Clock | None = None,
    ids: Ids | None = None,
    handlers: Mapping[type, Callable[..., Any]] = COMMAND_HANDLERS,
) -> Application:
    """Build an application; several may live in one process. Migrates the database if it has to.

    `handlers` are the command handlers to use, for one who wraps them or tests with others.

    Raises `SetupError` if a setting is wrong or contradicts the database, `Unavailable` if that cannot be reached.
    """
    settings = settings or load_settings()
    clock, ids = clock or SystemClock(), ids or TimeOrderedIds()
    unit_of_work, views, close = _store(settings, clock, ids)
    bus = MessageBus(unit_of_work, inject(handlers, {}), ids=ids, clock=clock, partitions=settings.log_partitions)
    return Application(settings, bus, views, clock, ids, close)


def migrate(settings: Settings) -> tuple[str | None, str]:
    """Bring the database to today's tables; answers the revision before (None: it was empty) and after."""
    engine = _engine(settings)
    try:
        return migrate_database(engine, settings.log_partitions)
    finally:
        engine.dispose()


def _store(settings: Settings, clock: Clock, ids: Ids) -> tuple[Callable[[], UnitOfWork], Views, Callable[[], None]]:
    partitions = settings.log_partitions
    if settings.database_url.startswith("memory:"):
        store = MemoryStore(ids, clock, partitions)
        return lambda: MemoryUnitOfWork(store), MemoryViews(store), lambda: None
    engine = _engine(settings)
    migrate_database(engine, partitions)
    database = Database.of(engine, ids, clock, partitions, patience_seconds=settings.commit_patience_seconds)
    return lambda: SqlUnitOfWork(database), SqlViews(engine, partitions), engine.dispose


def _engine(settings: Settings) -> Engine:
    return make_engine(settings.database_url, settings.database_pool_size, settings.lock_timeout_seconds)


def inject(handlers: Mapping[type, Callable[..., Any]], dependencies: Mapping[str, Any]) -> dict[type, Handler]:
    """Give each handler the dependencies it names among its parameters (the unit of work comes with the message)."""
    return {message: _bound(handler, dependencies) for message, handler in handlers.items()}


def _bound(handler: Callable[..., Any], dependencies: Mapping[str, Any]) -> Handler:
    wanted = list(inspect.signature(handler).parameters)[2:]
    chosen = {name: dependencies[name] for name in wanted}
    return (lambda message, uow: handler(message, uow, **chosen)) if chosen else handler
