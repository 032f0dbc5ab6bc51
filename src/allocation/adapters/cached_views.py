"""Orders and products from a cache, everything else from the views behind it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache as once
from hashlib import blake2b
from threading import Lock
from typing import Any, Generic

import msgspec

from allocation.adapters.serialization import UNREADABLE
from allocation.service_layer.answers import BatchState, Promise
from allocation.service_layer.cache import Cache, Entry, Found, Places, batch_thing, order_thing, product_thing
from allocation.service_layer.envelope import LogPosition, partition_of
from allocation.service_layer.errors import Unavailable
from allocation.service_layer.observing import Meter
from allocation.service_layer.read_models import Movements
from allocation.views import Answer, EventPage, ProductView, StockPage, Views

WAITING_LIMIT = 100
"""Products are cached with as many waiting lines as a caller gets by default."""

_log = logging.getLogger(__name__)
_encode = msgspec.json.encode
_order = msgspec.json.Decoder(list[Promise]).decode
_product = msgspec.json.Decoder(ProductView).decode


@once
def form_of(answer: Any) -> str:
    """Stands for the fields of a class of answers, so that programs with other fields, running side by side, keep
    separate entries."""
    schema = msgspec.json.schema(answer)
    return blake2b(_encode(schema, order="deterministic"), digest_size=4).hexdigest()


def order_key(orderid: str) -> str:
    """The key under which an order is cached."""
    return f"{form_of(list[Promise])}:{order_thing(orderid)}"


def product_key(sku: str) -> str:
    """The key under which a product is cached."""
    return f"{form_of(ProductView)}:{product_thing(sku)}"


@dataclass(slots=True)
class CacheCounters:
    """What became of the questions to a cache in this process: answered from it, read from the database because there
    was no valid answer, read from the database because the cache was lost or unreachable; and the writes that it
    rejected."""

    hits: int = 0
    misses: int = 0
    bypassed: int = 0
    refused_fills: int = 0


@dataclass(frozen=True, slots=True)
class _Question(Generic[Answer]):
    """What is asked, under which key it is cached, and what the answer depends on."""

    key: str
    partitions: Collection[int]
    ask: Callable[[Views], Answer]
    decode: Callable[[bytes], Answer]
    rests_on: Callable[[Answer], Mapping[int, Collection[str]]]


class CachedViews(Views):
    """An answer from the cache may be older than the log's head, by as much as its keeper lags behind.

    Once this process has said that a position is reached, no answer is older than that: a cache that returns in an
    earlier state is not used until it has caught up. A cache that is lost or unreachable costs time, but no answers.
    """

    def __init__(self, views: Views, cache: Cache, partitions: int, meter: Meter | None = None) -> None:
        self._views, self._cache, self._partitions = views, cache, partitions
        self._meter = meter or Meter()
        self._lock = Lock()
        self._least = dict.fromkeys(range(partitions), 0)
        self._is_used = True
        self.counters = CacheCounters()

    def order(self, orderid: str) -> list[Promise]:
        question = _Question(
            order_key(orderid),
            range(self._partitions),
            lambda views: views.order(orderid),
            _order,
            lambda promises: self._order_rests_on(orderid, promises),
        )
        return self._answer(question)

    def line(self, orderid: str, sku: str) -> Promise | None:
        return next((line for line in self.order(orderid) if line.sku == sku), None)

    def product(self, sku: str, waiting_limit: int = WAITING_LIMIT) -> ProductView | None:
        if waiting_limit != WAITING_LIMIT:
            return self._views.product(sku, waiting_limit)
        partition, thing = partition_of(sku, self._partitions), product_thing(sku)
        question: _Question[ProductView | None] = _Question(
            product_key(sku),
            [partition],
            lambda views: views.product(sku, WAITING_LIMIT),
            _product,
            lambda _: {partition: [thing]},
        )
        return self._answer(question)

    def reached(self, position: LogPosition) -> bool:
        partition = position.partition
        least = self._least[partition]
        try:
            come_to = self._cache.places([partition]).get(partition, -1)
        except Unavailable:
            come_to = -1
        reached = come_to >= position.seq if come_to >= least else self._views.log_reached(position)
        if reached:
            self._not_before({partition: position.seq})
        return reached

    def _answer(self, question: _Question[Answer]) -> Answer:
        found = self._look(question)
        if found is None:
            self._count(bypassed=1)
            return question.ask(self._views)
        kept = _read(question, found)
        if kept is not None:
            self._count(hits=1)
            return kept
        answer, heads = self._views.with_heads(question.ask)
        refused = bool(answer) and not self._fill(question, answer, heads, found.lives)
        self._count(misses=1, refused_fills=refused)
        return answer

    def _look(self, question: _Question[Any]) -> Found | None:
        """None if the cache cannot be relied on now."""
        least = {partition: self._least[partition] for partition in question.partitions}
        try:
            found = self._cache.look(question.key, question.partitions)
        except Unavailable as away:
            self._tell(False, f"the cache cannot be reached: {away}")
            return None
        if len(found.places) < len(least):
            self._tell(False, "the cache has lost its place, or no worker keeps it")
            return None
        if any(found.places[partition] < seq for partition, seq in least.items()):
            self._tell(False, "the cache came back in an older state")
            return None
        self._tell(True, "the cache is used")
        return found

    def _fill(self, question: _Question[Answer], answer: Answer, heads: Places, lives: Mapping[int, str]) -> bool:
        as_of = {partition: heads[partition] for partition in question.partitions}
        try:
            return self._cache.fill(question.key, Entry(_encode(answer), as_of, question.rests_on(answer), lives))
        except Unavailable:
            return False

    def _order_rests_on(self, orderid: str, promises: Sequence[Promise]) -> Mapping[int, Collection[str]]:
        """The order, wherever a sku may live; and the batches that its lines are on, because of the day they arrive."""
        rests_on: dict[int, list[str]] = {p: [order_thing(orderid)] for p in range(self._partitions)}
        for line in promises:
            if line.batchref is not None:
                rests_on[partition_of(line.sku, self._partitions)].append(batch_thing(line.batchref))
        return rests_on

    def _not_before(self, places: Places) -> None:
        with self._lock:
            for partition, seq in places.items():
                self._least[partition] = max(self._least[partition], seq)

    def _count(self, hits: int = 0, misses: int = 0, bypassed: int = 0, refused_fills: int = 0) -> None:
        with self._lock:
            self.counters.hits += hits
            self.counters.misses += misses
            self.counters.bypassed += bypassed
            self.counters.refused_fills += refused_fills
        self._meter.cache(hits, misses, bypassed, refused_fills)

    def _tell(self, is_used: bool, why: str) -> None:
        """Log it, once for each change."""
        if is_used != self._is_used:
            self._is_used = is_used
            _log.log(logging.INFO if is_used else logging.WARNING, "%s", why if is_used else f"{why}; reads bypass it")

    # What is not cached.

    def batch(self, ref: str) -> BatchState | None:
        return self._views.batch(ref)

    def events(self, after: Sequence[LogPosition], limit: int, sku: str | None = None) -> EventPage:
        return self._views.events(after, limit, sku)

    def stock(self, after: Sequence[LogPosition], limit: int) -> StockPage:
        return self._views.stock(after, limit)

    def movements(self, sku: str, limit: int = 100) -> list[tuple[date, Movements]]:
        return self._views.movements(sku, limit)

    def log_reached(self, position: LogPosition) -> bool:
        return self._views.log_reached(position)

    def position_at(self, sku: str, version: int) -> LogPosition | None:
        return self._views.position_at(sku, version)

    def stock_reached(self, position: LogPosition) -> bool:
        return self._views.stock_reached(position)

    def with_heads(self, ask: Callable[[Views], Answer]) -> tuple[Answer, Places]:
        return self._views.with_heads(ask)

    def ready(self) -> None:
        self._views.ready()


def _read(question: _Question[Answer], found: Found) -> Answer | None:
    """The cached answer; None: there is none, or none that this program can read. An answer is never None itself."""
    try:
        return None if found.data is None else question.decode(found.data)
    except UNREADABLE:
        return None
