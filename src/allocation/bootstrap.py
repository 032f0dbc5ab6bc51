"""The one room that knows all others: builds the application from its settings."""

from __future__ import annotations

import random
import secrets
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache as once
from functools import partial
from typing import Any

from sqlalchemy import Engine

from allocation.adapters.addresses import Reachable
from allocation.adapters.brokers import registry
from allocation.adapters.cache import MemoryCache
from allocation.adapters.cached_views import CacheCounters, CachedViews
from allocation.adapters.clock import SystemClock, SystemTimer, TimeOrderedIds
from allocation.adapters.memory_image import MemoryImage, imagining
from allocation.adapters.notifications import SmtpNotifications
from allocation.adapters.sql.engine import make_engine
from allocation.adapters.sql.migrate import migrate as migrate_database
from allocation.adapters.stores import Store, memory_store, sql_store
from allocation.config import Settings, load_settings
from allocation.service_layer.books import Books
from allocation.service_layer.broker import Publisher, Receiver
from allocation.service_layer.cache import Cache
from allocation.service_layer.definitions import Definition, RuleBook, Subscribers
from allocation.service_layer.envelope import Clock, Ids
from allocation.service_layer.errors import SetupError
from allocation.service_layer.handlers import COMMAND_HANDLERS, EVENT_HANDLERS
from allocation.service_layer.history.ports import History
from allocation.service_layer.history.what_if import WhatIf
from allocation.service_layer.injection import Destinations, inject, reactions
from allocation.service_layer.messagebus import MessageBus
from allocation.service_layer.observing import Meter, Telemetry, Tracer
from allocation.service_layer.ports import Channel, DeadLetters, Notifications
from allocation.service_layer.provisioning import Provisioner
from allocation.service_layer.pulling import Pulling
from allocation.service_layer.pushing import Push, event_grid_schedule
from allocation.service_layer.pushing_definitions import Pushers, sink_of
from allocation.service_layer.rules.rule import RuleParser
from allocation.service_layer.self_audit import SMALL_STEPS, AuditStore, SelfAudit
from allocation.service_layer.subscriptions import Backoff, SubscriptionStore
from allocation.service_layer.verify import Walk
from allocation.service_layer.waiting import Timer
from allocation.service_layer.worker import Bell, WakeUp, Worker
from allocation.views import Views


@dataclass(frozen=True, slots=True)
class Application:
    """What an entry point needs: commands go to `bus`, questions to `views`, what cannot be handled to `dead_letters`.

    `books` are what `verify` and `rebuild` walk over; `audits` reports what the self-audit found. `history` answers
    questions about the past, `what_if` those about what is only imagined. `worker` runs the subscriptions and
    `self_audit` walks, once they are started. `close` stops them and closes connections. `cache_counters` stay at zero
    if there is no cache; `forget_cache` makes everything cached be read anew, for use after the tables were changed
    without an event. It raises `Unavailable`. `subscribers` defines subscriptions, `pulling` is what consumers receive
    from; `pushers`, once started, has the worker deliver to the subscriptions that are pushed. A caller that brings
    masses of commands does best with `at_once` concurrent transactions (see `fork_join`).
    """

    settings: Settings
    bus: MessageBus
    views: Views
    clock: Clock
    ids: Ids
    subscriptions: SubscriptionStore
    dead_letters: DeadLetters
    books: Books
    audits: AuditStore
    history: History
    what_if: WhatIf
    worker: Worker
    self_audit: SelfAudit
    close: Callable[[], None]
    timer: Timer
    cache_counters: CacheCounters
    forget_cache: Callable[[], None]
    telemetry: Telemetry
    subscribers: Subscribers
    pulling: Pulling
    pushers: Pushers
    at_once: int


def bootstrap(
    settings: Settings | None = None,
    clock: Clock | None = None,
    ids: Ids | None = None,
    handlers: Mapping[type, Callable[..., Any]] = COMMAND_HANDLERS,
    notifications: Notifications | None = None,
    channel: Channel | None = None,
    publishers: Mapping[str, Publisher] | None = None,
    owner: str = "",
    timer: Timer | None = None,
    telemetry: Telemetry | None = None,
    push: Push | None = None,
) -> Application:
    """Build an application; several may live in one process. Migrates the database if it has to.

    `handlers` are the command handlers to use, for a caller that wraps them or tests with others; `notifications`,
    `channel` and `publishers` (by name) replace what the settings name; `owner` is the worker's name, minted if empty;
    `telemetry` counts and traces (nothing does, if absent); `push` replaces HTTP to subscribers' addresses.

    Raises `SetupError` if a setting is wrong or contradicts the database, or if a handler names a dependency that
    nothing provides; `Unavailable` if the database cannot be reached.
    """
    settings = settings or load_settings()
    telemetry = telemetry or Telemetry()
    clock, ids, timer = clock or SystemClock(), ids or TimeOrderedIds(), timer or SystemTimer()
    cache = _cache(settings, ids, timer)
    store = _store(settings, clock, ids)
    views, cache_counters = _views(store, cache, settings.log_partitions, telemetry.meter)
    if publishers is None:
        publishers = registry.publishers(settings.publish_to, settings.namespace, _connections(settings))
    there = _destinations(settings, store, cache, notifications, channel)
    reacting = list(reactions(there, publishers, timer, settings.lease_seconds))
    bell = Bell()
    owner = owner or ids.new()
    walk = Walk(store.books, settings.log_partitions, SMALL_STEPS)
    self_audit = SelfAudit(walk, store.audits, clock, owner, settings.audit_pause_seconds)
    bus = MessageBus(
        store.unit_of_work,
        inject(handlers, {}),
        ids=ids,
        clock=clock,
        partitions=settings.log_partitions,
        committed=bell.ring,
        reactions={reaction.name: reaction.deliver for reaction in reacting},
        telemetry=telemetry,
    )
    # Each delivery goes through the bus, as each command does.
    subscriptions = [replace(reaction, deliver=partial(bus.react, reaction.name)) for reaction in reacting]
    backoff = Backoff(random.random)
    wake_up = _wake_up(settings)
    worker = Worker(
        subscriptions,
        store.subscriptions,
        clock,
        backoff,
        owner,
        settings.log_partitions,
        settings.lease_seconds,
        wake_up,
    )
    bell.heard_by(worker.wake)
    rules = RuleBook(rule_parser(ids))
    pushing = once(lambda: push or push_of(settings, clock, timer))
    pushers = Pushers(worker, store.definitions, rules, pushing, event_grid_schedule(random.random), bus.through)

    def check(definition: Definition) -> None:
        if definition.sink is not None:
            pushing().check(sink_of(definition))

    subscribers = Subscribers(
        store.definitions,
        rules,
        _reserved(worker),
        secrets.token_bytes,
        changed=pushers.wake,
        check=check,
    )
    pulling = Pulling(
        store.definitions,
        store.subscriptions,
        rules,
        clock,
        ids,
        timer,
        settings.log_partitions,
        most_waiting=min(max(1, settings.threads // 4), settings.threads - 1),  # the other threads go on serving
    )
    bell.heard_by(pulling.wake)
    if wake_up is not None:
        bell.heard_by(wake_up.ring)

    def close() -> None:
        self_audit.stop()
        pushers.stop()
        if pushing.cache_info().currsize:
            pushing().finish()
        worker.stop()
        if pushing.cache_info().currsize:
            pushing().close()
        for closing in (*publishers.values(), *([wake_up] if wake_up else ()), *([cache] if cache else ())):
            closing.close()
        store.close()
        telemetry.tracer.close()

    def forget_cache() -> None:
        if cache is not None:
            cache.forget(range(settings.log_partitions))

    return Application(
        settings=settings,
        bus=bus,
        views=views,
        clock=clock,
        ids=ids,
        subscriptions=store.subscriptions,
        dead_letters=store.dead_letters,
        books=store.books,
        audits=store.audits,
        history=store.history,
        what_if=WhatIf(imagining(clock, ids), inject(handlers, {}), clock, ids),
        worker=worker,
        self_audit=self_audit,
        close=close,
        timer=timer,
        cache_counters=cache_counters,
        forget_cache=forget_cache,
        telemetry=telemetry,
        subscribers=subscribers,
        pulling=pulling,
        pushers=pushers,
        at_once=store.at_once,
    )


def memory_image(application: Application) -> MemoryImage:
    """The log of an application, loaded into memory: it answers without the database. Raises `Unavailable`."""
    return MemoryImage(application.history, application.clock, application.ids)


def _reserved(worker: Worker) -> set[str]:
    """The names of built-in subscriptions, including those that these settings do not run."""
    return {*worker.names(), *(handler.__name__ for named in EVENT_HANDLERS.values() for handler in named)}


def _destinations(
    settings: Settings,
    store: Store,
    cache: Cache | None,
    notifications: Notifications | None,
    channel: Channel | None,
) -> Destinations:
    """What reactions may name among their parameters, as far as the settings provide it."""
    there: Destinations = {"stock_mail": settings.stock_mail, "stock": store.stock, "history": store.history}
    if cache is not None:
        there["cache"] = cache
    if notifications or settings.smtp_url:
        there["notifications"] = notifications or SmtpNotifications(settings.smtp_url, settings.mail_sender)
    if channel or settings.redis_url:
        there["channel"] = channel or _redis_channel(settings)
    return there


def _cache(settings: Settings, ids: Ids, timer: Timer) -> Cache | None:
    if settings.cache == "none":
        return None
    if settings.cache == "memory":
        if settings.database_url.startswith("postgresql") or settings.workers > 1:
            raise SetupError(
                "ALLOCATION_CACHE is memory, which works only if one process does everything; several would not see "
                "each other's changes. Set it to redis, or to none"
            )
        return MemoryCache(timer)
    if not settings.redis_url:
        raise SetupError("ALLOCATION_CACHE is redis, but no Redis is named: set ALLOCATION_REDIS_URL")
    with _redis_is_installed():
        from allocation.adapters.redis_cache import RedisCache, connect
    return RedisCache(connect(settings.redis_url), settings.namespace, ids, timer)


def _views(store: Store, cache: Cache | None, partitions: int, meter: Meter) -> tuple[Views, CacheCounters]:
    if cache is None:
        return store.views, CacheCounters()
    cached = CachedViews(store.views, cache, partitions, meter)
    return cached, cached.counters


def _redis_channel(settings: Settings) -> Channel:
    with _redis_is_installed():
        from allocation.adapters.brokers.redis_pubsub import RedisChannel, connect
    return RedisChannel(connect(settings.redis_url))


def _wake_up(settings: Settings) -> WakeUp | None:
    """For several processes only: within one, the bell is enough."""
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
            "ALLOCATION_REDIS_URL is set, but Redis needs a client: pip install 'allocation[redis]'"
        ) from missing


def receivers_of(application: Application) -> dict[str, Receiver]:
    """What `ALLOCATION_RECEIVE_FROM` names, by scheme; nothing connects before it is used. Raises `SetupError`."""
    settings = application.settings
    owner = application.ids.new()
    return registry.receivers(settings.receive_from, settings.namespace, owner, _connections(settings))


def provisioners(settings: Settings) -> list[Provisioner]:
    """One for each broker in the settings at which something has to be created first. Raises `SetupError`."""
    named = {url.partition(":")[0]: url for url in f"{settings.receive_from} {settings.publish_to}".split()}
    return registry.provisioners(" ".join(named.values()), settings.namespace, _connections(settings))


def _connections(settings: Settings) -> dict[str, str]:
    """The connection strings of brokers whose URL does not say where they are, by scheme."""
    return {"servicebus": settings.service_bus}


def push_of(settings: Settings, clock: Clock, timer: Timer) -> Push:
    """What pushes to subscribers' addresses; the caller closes it. Nothing connects before it is used."""
    from allocation.adapters.guarded import Guarded
    from allocation.adapters.webhooks import Webhooks

    reachable = Reachable.of(settings.push_to_private)
    http = Guarded(reachable.securely, reachable.plainly, timer)
    return Webhooks(http, clock, timer, settings.push_origin, has_plain_http=bool(reachable.networks))


def telemetry_for(settings: Settings) -> Telemetry:
    """Counts and traces of this process. Raises `SetupError` if traces are wanted and cannot be exported."""
    from allocation.adapters.telemetry.metrics import PrometheusMeter

    return Telemetry(PrometheusMeter(), tracer_for(settings))


def tracer_for(settings: Settings) -> Tracer:
    """A tracer that exports to where the settings say; else one for the provider that is set for the process; else one
    that is not on. Raises `SetupError` if traces are to be exported and the exporter is not installed."""
    if settings.traces_to:
        try:
            from allocation.adapters.telemetry.tracing import ExportingTracer

            return ExportingTracer(settings.traces_to, settings.namespace)
        except ModuleNotFoundError as missing:
            raise SetupError(
                "ALLOCATION_TRACES_TO is set, but no exporter is installed: pip install 'allocation[otel]'"
            ) from missing
    if "opentelemetry.sdk.trace" in sys.modules:  # else no provider can have been set
        from allocation.adapters.telemetry.tracing import tracer_of_the_process

        return tracer_of_the_process()
    return Tracer()


def rule_parser(ids: Ids | None = None) -> RuleParser:
    """What reads the text of rules; it needs neither an application nor settings. `ids` are what newid() returns."""
    from allocation.adapters.rule_parser import LarkRuleParser

    return LarkRuleParser(ids or TimeOrderedIds())


def migrate(settings: Settings) -> tuple[str | None, str]:
    """Bring the database to the current tables. Returns the revision before (None: it was empty) and after."""
    engine = _engine(settings)
    try:
        return migrate_database(engine, settings.log_partitions)
    finally:
        engine.dispose()


def _store(settings: Settings, clock: Clock, ids: Ids) -> Store:
    if settings.database_url.startswith("memory:"):
        return memory_store(ids, clock, settings.log_partitions)
    engine = _engine(settings)
    migrate_database(engine, settings.log_partitions)
    return sql_store(
        engine, ids, clock, settings.log_partitions, settings.commit_patience_seconds, settings.hot_products
    )


def _engine(settings: Settings) -> Engine:
    return make_engine(settings.database_url, settings.database_pool_size, settings.lock_timeout_seconds)
