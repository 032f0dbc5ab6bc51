"""The one room that knows everyone: builds the application from its settings."""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import Engine

from allocation.adapters.clock import SystemClock, TimeOrderedIds
from allocation.adapters.memory import MemoryStore, MemoryUnitOfWork, MemoryViews
from allocation.adapters.memory_subscriptions import MemoryDeadLetters, MemorySubscriptionStore
from allocation.adapters.notifications import SmtpNotifications
from allocation.adapters.sql.engine import make_engine
from allocation.adapters.sql.migrate import migrate as migrate_database
from allocation.adapters.sql.subscriptions import SqlDeadLetters, SqlSubscriptionStore
from allocation.adapters.sql.unit_of_work import Database, SqlUnitOfWork
from allocation.adapters.sql.views import SqlViews
from allocation.config import Settings, load_settings
from allocation.service_layer.envelope import Clock, Ids
from allocation.service_layer.errors import SetupError
from allocation.service_layer.handlers import COMMAND_HANDLERS, EVENT_HANDLERS
from allocation.service_layer.messagebus import Handler, MessageBus
from allocation.service_layer.ports import Channel, DeadLetters, Notifications
from allocation.service_layer.subscriptions import Backoff, Subscription, SubscriptionStore, subscriptions_of
from allocation.service_layer.unit_of_work import UnitOfWork
from allocation.service_layer.worker import Worker
from allocation.views import Views


@dataclass(frozen=True, slots=True)
class Application:
    """What an entry point needs: commands go to `bus`, questions to `views`, what cannot be handled to `dead_letters`.

    `worker` runs the subscriptions once it is started. `close` stops it and lets go of connections.
    """

    settings: Settings
    bus: MessageBus
    views: Views
    clock: Clock
    ids: Ids
    subscriptions: SubscriptionStore
    dead_letters: DeadLetters
    worker: Worker
    close: Callable[[], None]


def bootstrap(
    settings: Settings | None = None,
    clock: Clock | None = None,
    ids: Ids | None = None,
    handlers: Mapping[type, Callable[..., Any]] = COMMAND_HANDLERS,
    notifications: Notifications | None = None,
    channel: Channel | None = None,
    owner: str = "",
) -> Application:
    """Build an application; several may live in one process. Migrates the database if it has to.

    `handlers` are the command handlers to use, for one who wraps them or tests with others; `notifications` and
    `channel` take the place of what the settings name; `owner` is the worker's name, minted if empty.

    Raises `SetupError` if a setting is wrong or contradicts the database, `Unavailable` if that cannot be reached.
    """
    settings = settings or load_settings()
    clock, ids = clock or SystemClock(), ids or TimeOrderedIds()
    store = _store(settings, clock, ids)
    reactions = _subscriptions(settings, notifications, channel)
    backoff = Backoff(random.random)
    worker = Worker(reactions, store.subscriptions, clock, backoff, owner or ids.new(), settings.log_partitions)
    bus = MessageBus(
        store.unit_of_work,
        inject(handlers, {}),
        ids=ids,
        clock=clock,
        partitions=settings.log_partitions,
        committed=worker.wake,
    )

    def close() -> None:
        worker.stop()
        store.close()

    return Application(settings, bus, store.views, clock, ids, store.subscriptions, store.dead_letters, worker, close)


def _subscriptions(
    settings: Settings, notifications: Notifications | None, channel: Channel | None
) -> list[Subscription]:
    """A subscription for each event handler whose dependencies the settings name."""
    there: dict[str, Any] = {"stock_mail": settings.stock_mail}
    if notifications or settings.smtp_url:
        there["notifications"] = notifications or SmtpNotifications(settings.smtp_url, settings.mail_sender)
    if channel or settings.redis_url:
        there["channel"] = channel or _redis_channel(settings)
    wanted = {
        event: [handler for handler in named if set(_dependencies(handler, 1)) <= there.keys()]
        for event, named in EVENT_HANDLERS.items()
    }
    return subscriptions_of(wanted, lambda handler: _bound(handler, there, 1))


def _redis_channel(settings: Settings) -> Channel:
    try:
        from allocation.adapters.brokers.redis_pubsub import RedisChannel, connect
    except ModuleNotFoundError as missing:
        raise SetupError(
            "ALLOCATION_REDIS_URL is set, but Redis needs a client: install allocation[redis]"
        ) from missing
    return RedisChannel(connect(settings.redis_url))


def migrate(settings: Settings) -> tuple[str | None, str]:
    """Bring the database to today's tables; answers the revision before (None: it was empty) and after."""
    engine = _engine(settings)
    try:
        return migrate_database(engine, settings.log_partitions)
    finally:
        engine.dispose()


@dataclass(frozen=True, slots=True)
class _Store:
    unit_of_work: Callable[[], UnitOfWork]
    views: Views
    subscriptions: SubscriptionStore
    dead_letters: DeadLetters
    close: Callable[[], None] = lambda: None


def _store(settings: Settings, clock: Clock, ids: Ids) -> _Store:
    partitions = settings.log_partitions
    if settings.database_url.startswith("memory:"):
        store = MemoryStore(ids, clock, partitions)
        subscriptions = MemorySubscriptionStore(store)
        return _Store(lambda: MemoryUnitOfWork(store), MemoryViews(store), subscriptions, MemoryDeadLetters())
    engine = _engine(settings)
    migrate_database(engine, partitions)
    database = Database.of(engine, ids, clock, partitions, patience_seconds=settings.commit_patience_seconds)
    return _Store(
        lambda: SqlUnitOfWork(database),
        SqlViews(engine, partitions),
        SqlSubscriptionStore(engine, clock),
        SqlDeadLetters(engine, ids, clock),
        engine.dispose,
    )


def _engine(settings: Settings) -> Engine:
    return make_engine(settings.database_url, settings.database_pool_size, settings.lock_timeout_seconds)


def inject(handlers: Mapping[type, Callable[..., Any]], dependencies: Mapping[str, Any]) -> dict[type, Handler]:
    """Give each handler the dependencies it names among its parameters (the unit of work comes with the message)."""
    return {message: _bound(handler, dependencies, 2) for message, handler in handlers.items()}


def _dependencies(handler: Callable[..., Any], given: int) -> list[str]:
    """The names of a handler's parameters, but for the first that come with each message."""
    return list(inspect.signature(handler).parameters)[given:]


def _bound(handler: Callable[..., Any], dependencies: Mapping[str, Any], given: int) -> Callable[..., Any]:
    chosen = {name: dependencies[name] for name in _dependencies(handler, given)}
    return partial(handler, **chosen) if chosen else handler
