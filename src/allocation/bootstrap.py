"""The one room that knows everyone: builds the application from its settings."""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from sqlalchemy import Engine

from allocation.adapters.brokers import registry
from allocation.adapters.clock import SystemClock, TimeOrderedIds
from allocation.adapters.memory import MemoryStock, MemoryStore, MemoryUnitOfWork, MemoryViews
from allocation.adapters.memory_history import MemoryHistory
from allocation.adapters.memory_image import MemoryImage, imagining
from allocation.adapters.memory_subscriptions import MemoryDeadLetters, MemorySubscriptionStore
from allocation.adapters.notifications import SmtpNotifications
from allocation.adapters.sql.engine import make_engine
from allocation.adapters.sql.history import SqlHistory
from allocation.adapters.sql.migrate import migrate as migrate_database
from allocation.adapters.sql.read_models import SqlStock
from allocation.adapters.sql.subscriptions import SqlDeadLetters, SqlSubscriptionStore
from allocation.adapters.sql.unit_of_work import Database, SqlUnitOfWork
from allocation.adapters.sql.views import SqlViews
from allocation.config import Settings, load_settings
from allocation.domain.events import Event
from allocation.service_layer.broker import Publisher
from allocation.service_layer.envelope import Clock, Ids
from allocation.service_layer.errors import SetupError
from allocation.service_layer.handlers import COMMAND_HANDLERS, EVENT_HANDLERS
from allocation.service_layer.history.ports import History
from allocation.service_layer.history.what_if import WhatIf
from allocation.service_layer.messagebus import Handler, MessageBus
from allocation.service_layer.ports import Channel, DeadLetters, Notifications
from allocation.service_layer.read_models import ReadModels, Stock
from allocation.service_layer.subscriptions import (
    Backoff,
    Deliver,
    Subscription,
    SubscriptionStore,
    all_together,
    one_by_one,
)
from allocation.service_layer.unit_of_work import UnitOfWork
from allocation.service_layer.worker import Bell, WakeUp, Worker
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
    history: History
    what_if: WhatIf
    worker: Worker
    close: Callable[[], None]


def bootstrap(
    settings: Settings | None = None,
    clock: Clock | None = None,
    ids: Ids | None = None,
    handlers: Mapping[type, Callable[..., Any]] = COMMAND_HANDLERS,
    notifications: Notifications | None = None,
    channel: Channel | None = None,
    publishers: Mapping[str, Publisher] | None = None,
    owner: str = "",
) -> Application:
    """Build an application; several may live in one process. Migrates the database if it has to.

    `handlers` are the command handlers to use, for one who wraps them or tests with others; `notifications`, `channel`
    and `publishers` (by name) take the place of what the settings name; `owner` is the worker's name, minted if empty.

    Raises `SetupError` if a setting is wrong or contradicts the database, `Unavailable` if that cannot be reached.
    """
    settings = settings or load_settings()
    clock, ids = clock or SystemClock(), ids or TimeOrderedIds()
    store = _store(settings, clock, ids)
    if publishers is None:
        publishers = registry.publishers(settings.publish_to, settings.namespace)
    reactions = list(_reactions(_destinations(settings, store, notifications, channel), publishers))
    bell = Bell()
    bus = MessageBus(
        store.unit_of_work,
        inject(handlers, {}),
        ids=ids,
        clock=clock,
        partitions=settings.log_partitions,
        committed=bell.ring,
        reactions={reaction.name: reaction.deliver for reaction in reactions},
    )
    # Each delivery goes through the bus, as each command does.
    subscriptions = [replace(reaction, deliver=partial(bus.react, reaction.name)) for reaction in reactions]
    backoff = Backoff(random.random)
    wake_up = _wake_up(settings)
    worker = Worker(
        subscriptions,
        store.subscriptions,
        clock,
        backoff,
        owner or ids.new(),
        settings.log_partitions,
        wake_up=wake_up,
    )
    bell.heard_by(worker.wake)
    if wake_up is not None:
        bell.heard_by(wake_up.ring)

    def close() -> None:
        worker.stop()
        for closing in (*publishers.values(), *([wake_up] if wake_up else ())):
            closing.close()
        store.close()

    return Application(
        settings,
        bus,
        store.views,
        clock,
        ids,
        store.subscriptions,
        store.dead_letters,
        store.history,
        WhatIf(imagining(clock, ids), inject(COMMAND_HANDLERS, {}), clock, ids),
        worker,
        close,
    )


def memory_image(application: Application) -> MemoryImage:
    """The log of an application, loaded into memory: it answers without the database. Raises `Unavailable`."""
    return MemoryImage(application.history, application.clock, application.ids)


PAUSES_SECONDS = {"project_stock_levels": 0.05, "publish_stock_levels": 0.05}
"""How long those who tell only the last word on a sku let events gather."""


def _destinations(
    settings: Settings, store: _Store, notifications: Notifications | None, channel: Channel | None
) -> dict[str, Any]:
    """What reactions may name among their parameters, as far as the settings name it."""
    there: dict[str, Any] = {"stock_mail": settings.stock_mail, "stock": store.stock, "history": store.history}
    if notifications or settings.smtp_url:
        there["notifications"] = notifications or SmtpNotifications(settings.smtp_url, settings.mail_sender)
    if channel or settings.redis_url:
        there["channel"] = channel or _redis_channel(settings)
    return there


def _reactions(there: Mapping[str, Any], publishers: Mapping[str, Publisher]) -> Iterator[Subscription]:
    """A subscription for each event handler whose dependencies are there; for one that publishes, one a publisher."""
    wants: dict[Callable[..., Any], set[type[Event]]] = {}
    for event, named in EVENT_HANDLERS.items():
        for handler in named:
            wants.setdefault(handler, set()).add(event)
    for handler, wanted in wants.items():
        needed = _dependencies(handler, 1)
        destinations: Mapping[str, Mapping[str, Any]] = {handler.__name__: {}}
        if "publisher" in needed:
            destinations = {f"{handler.__name__}:{name}": {"publisher": p} for name, p in publishers.items()}
        for name, destination in destinations.items():
            chosen = {**there, "read_models": None, **destination}
            if set(needed) <= chosen.keys():
                yield Subscription(
                    name,
                    frozenset(wanted),
                    _delivering(handler, chosen),
                    from_the_beginning="read_models" in needed,
                    pause_seconds=PAUSES_SECONDS.get(handler.__name__, 0.0),
                )


def _delivering(handler: Callable[..., Any], dependencies: Mapping[str, Any]) -> Deliver:
    """The handler with its dependencies, but for the events and the read models that come with each round."""
    first, *named = inspect.signature(handler).parameters
    chosen = {name: dependencies[name] for name in named if name != "read_models"}
    projects = "read_models" in named

    def handle(events: Any, read_models: ReadModels) -> Any:
        return handler(events, **chosen, **({"read_models": read_models} if projects else {}))

    return one_by_one(handle) if first == "logged" else all_together(handle)


def _redis_channel(settings: Settings) -> Channel:
    with _redis_is_installed():
        from allocation.adapters.brokers.redis_pubsub import RedisChannel, connect
    return RedisChannel(connect(settings.redis_url))


def _wake_up(settings: Settings) -> WakeUp | None:
    """Between processes only: within one the bell is enough."""
    if not settings.redis_url or not settings.database_url.startswith("postgresql"):
        return None
    with _redis_is_installed():
        from allocation.adapters.brokers.redis_wake_up import RedisWakeUp
    return RedisWakeUp(settings.redis_url, settings.namespace)


@contextmanager
def _redis_is_installed() -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as missing:
        raise SetupError(
            "ALLOCATION_REDIS_URL is set, but Redis needs a client: install allocation[redis]"
        ) from missing


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
    stock: Stock
    subscriptions: SubscriptionStore
    dead_letters: DeadLetters
    history: History
    close: Callable[[], None] = lambda: None


def _store(settings: Settings, clock: Clock, ids: Ids) -> _Store:
    partitions = settings.log_partitions
    if settings.database_url.startswith("memory:"):
        store = MemoryStore(ids, clock, partitions)
        subscriptions = MemorySubscriptionStore(store)
        views, stock = MemoryViews(store), MemoryStock(store)
        unit_of_work, history = lambda: MemoryUnitOfWork(store), MemoryHistory(store)
        return _Store(unit_of_work, views, stock, subscriptions, MemoryDeadLetters(), history)
    engine = _engine(settings)
    migrate_database(engine, partitions)
    database = Database.of(engine, ids, clock, partitions, patience_seconds=settings.commit_patience_seconds)
    return _Store(
        lambda: SqlUnitOfWork(database),
        SqlViews(engine, partitions),
        SqlStock(engine, database.statements),
        SqlSubscriptionStore(engine, clock),
        SqlDeadLetters(engine, ids, clock),
        SqlHistory(engine, partitions),
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
