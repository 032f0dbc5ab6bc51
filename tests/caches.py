"""A shop with a cache before it and its keeper, all moved by hand; and caches whose time a test can turn back."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar, get_args

import redis

from allocation.adapters.cache import MemoryCache
from allocation.adapters.cached_views import CachedViews
from allocation.adapters.memory import MemoryStore, MemoryUnitOfWork, MemoryViews
from allocation.adapters.memory_subscriptions import MemorySubscriptionStore
from allocation.adapters.redis_cache import RedisCache
from allocation.domain.commands import Command
from allocation.domain.events import Event
from allocation.service_layer.cache import Cache, Entry, Found, Places
from allocation.service_layer.delivering import Line, all_together
from allocation.service_layer.envelope import LogPosition
from allocation.service_layer.errors import Unavailable
from allocation.service_layer.handlers import COMMAND_HANDLERS, confirm_cache, keep_cache
from allocation.service_layer.messagebus import MessageBus
from allocation.service_layer.subscriptions import Backoff, Subscription
from allocation.views import Views
from tests.fakes import CountingIds, SetClock, SetTimer

KEEP = "keep_cache"
Answer = TypeVar("Answer")


class Interrupted(MemoryViews):
    """The database; `meanwhile` happens after a snapshot was read, before the reader goes on."""

    meanwhile: Callable[[], None] | None = None

    def with_heads(self, ask: Callable[[Views], Answer]) -> tuple[Answer, Places]:
        read = super().with_heads(ask)
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            meanwhile()
        return read


class Watched(Cache):
    """A cache, with what the keeper told it, in order; `told_something` is called after each mark. `is_away` makes it
    unreachable; with `holds_fills` they wait in `held` until the test lets them go."""

    def __init__(self, cache: Cache) -> None:
        self.cache = cache
        self.told: list[Callable[[], None]] = []
        self.held: list[tuple[str, Entry]] = []
        self.is_away = self.holds_fills = False
        self.told_something: Callable[[], None] = lambda: None

    def look(self, key: str, partitions: Collection[int]) -> Found:
        self._reach()
        return self.cache.look(key, partitions)

    def fill(self, key: str, entry: Entry) -> bool:
        self._reach()
        if self.holds_fills:
            self.held.append((key, entry))
            return False
        return self.cache.fill(key, entry)

    def places(self, partitions: Collection[int]) -> Places:
        self._reach()
        return self.cache.places(partitions)

    def mark(self, partition: int, after: int, until: int, touched: Mapping[str, int]) -> None:
        self._reach()
        self.told.append(lambda: self.cache.mark(partition, after, until, touched))
        self.cache.mark(partition, after, until, touched)
        self.told_something()

    def confirm(self, position: LogPosition) -> None:
        self._reach()
        self.told.append(lambda: self.cache.confirm(position))
        self.cache.confirm(position)

    def forget(self, partitions: Collection[int]) -> None:
        self._reach()
        self.cache.forget(partitions)

    def close(self) -> None:
        self.cache.close()

    def _reach(self) -> None:
        if self.is_away:
            raise Unavailable("nobody there")


class CachedShop:
    """A shop in memory behind a cache. Nothing is told to the cache before `keep`."""

    def __init__(self, cache: Cache, partitions: int = 1, page: int = 200) -> None:
        self.clock, self.partitions = SetClock(), partitions
        self.store = MemoryStore(CountingIds(), self.clock, partitions)
        self.database = Interrupted(self.store)
        self.cache = Watched(cache)
        self.bus = MessageBus(
            lambda: MemoryUnitOfWork(self.store), COMMAND_HANDLERS, CountingIds(), self.clock, partitions
        )
        self.views = self.another_process()
        self.subscriptions = MemorySubscriptionStore(self.store)
        self.subscriptions.join(KEEP, from_the_beginning=False)
        subscription = Subscription(
            KEEP,
            frozenset(get_args(Event)),
            all_together(lambda events, _read_models: keep_cache(events, self.cache)),
            idle=lambda position: confirm_cache(position, self.cache),
            page=page,
        )
        backoff = Backoff(lambda: 0.0)
        self._lines = [Line(subscription, self.subscriptions, self.clock, backoff) for _ in range(partitions)]

    def another_process(self) -> CachedViews:
        return CachedViews(self.database, self.cache, self.partitions)

    def do(self, *commands: Command) -> LogPosition | None:
        """The position of the last one."""
        return [self.bus.ask(self.bus.envelope(command)).position for command in commands][-1]

    def keep_a_page(self, partition: int = 0) -> bool:
        """One round of the keeper; whether it moved."""
        lease = self.subscriptions.lease(KEEP, partition, "keeper", 15)
        assert lease is not None
        return self._lines[partition].round(lease)[1]

    def keep(self) -> None:
        """Until the keeper finds nothing more, and has said so."""
        for partition in range(self.partitions):
            while self.keep_a_page(partition):
                """Go on."""


class TurnBack:
    """A cache whose whole content can be saved and put back."""

    cache: Cache

    def save(self) -> Any:
        raise NotImplementedError

    def put_back(self, saved: Any) -> None:
        raise NotImplementedError


class MemoryTurnBack(TurnBack):
    def __init__(self, most_marks: int = 100) -> None:
        self._made = MemoryCache(SetTimer(), most_marks=most_marks)
        self.cache = self._made

    def save(self) -> Any:
        return copy.deepcopy((self._made._marks, self._made._entries))

    def put_back(self, saved: Any) -> None:
        self._made._marks, self._made._entries = copy.deepcopy(saved)


class RedisTurnBack(TurnBack):
    def __init__(self, client: redis.Redis, namespace: str, most_marks: int) -> None:
        self._client, self._prefix = client, f"{{{namespace}:cache}}:"
        self.cache = RedisCache(client, namespace, CountingIds(), SetTimer(), most_marks=most_marks)

    def save(self) -> Any:
        return {key: self._client.dump(key) for key in self._keys()}

    def put_back(self, saved: Any) -> None:
        if there := self._keys():
            self._client.delete(*there)
        for key, dumped in saved.items():
            self._client.restore(key, 60_000, dumped)

    def _keys(self) -> list[bytes]:
        return list(self._client.scan_iter(self._prefix.replace("[", "\\[") + "*"))
