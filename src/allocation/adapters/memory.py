"""The ports in plain memory: the tests' fake that behaves like the real ones, the engine of what-if, and the memory
image of a log, all in one.

Products are kept whole. What a unit of work did to them is undone by folding them from the log again, which keeps the
happy path free of copies and tests that the log is complete.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from datetime import date, datetime
from itertools import islice
from threading import Lock
from types import TracebackType
from typing import Self

from allocation.adapters.serialization import event_version
from allocation.domain.events import BatchCreated, Event
from allocation.domain.model import Batch, Lines, OrderLine, Product
from allocation.service_layer.answers import BatchState, Promise, promise_of, state_of
from allocation.service_layer.cache import Places
from allocation.service_layer.envelope import (
    Clock,
    CommandEnvelope,
    EventEnvelope,
    Ids,
    LogPosition,
    partition_of,
)
from allocation.service_layer.errors import Conflict
from allocation.service_layer.history.ports import Cut
from allocation.service_layer.read_models import Movements, ReadModels, Stock, StockLevel
from allocation.service_layer.unit_of_work import Handled, Repository, UnitOfWork
from allocation.views import STOCK_LEVELS, Answer, EventPage, ProductView, StockPage, Views, product_view


class MemoryStore:
    """Products, log, inbox and read models. One unit of work at a time holds `lock`; readers take it while they read.
    `projected` says how far each projection has come in each partition, including its lanes."""

    def __init__(self, ids: Ids, clock: Clock, partitions: int = 1, lock_timeout_seconds: float = 5.0) -> None:
        self.ids, self.clock, self.partitions = ids, clock, partitions
        self.lock_timeout_seconds = lock_timeout_seconds
        self.lock = Lock()
        self.products: dict[str, Product] = {}
        self.sku_of_batch: dict[str, str] = {}
        self.log: list[list[EventEnvelope]] = [[] for _ in range(partitions)]
        self.inbox: dict[tuple[str, str], Handled] = {}
        self.read_models = ReadModels()
        self.projected: dict[tuple[str, int], int] = {}
        self._taken_in: dict[str, Product] = {}
        self._history: defaultdict[str, list[EventEnvelope]] = defaultdict(list)

    def take_in(self, product: Product) -> None:
        """Add a product from elsewhere, as it is. Its recorded past begins here."""
        self.products[product.sku] = product
        self.sku_of_batch.update((batch.reference, product.sku) for batch in product.batches)
        self._taken_in[product.sku] = copy_of(product)

    def history_of(self, sku: str) -> Sequence[EventEnvelope]:
        """What the log has of a product, from its first event or from when it was added by `take_in`."""
        return self._history.get(sku, ())

    def _version_of(self, sku: str) -> int:
        first = self._taken_in.get(sku)
        return (first.version_number if first else 0) + len(self.history_of(sku))

    def write(self, logged: Sequence[EventEnvelope], handled: Sequence[Handled]) -> None:
        """Store events and commands, all or none. Raises `Conflict` for an event out of turn (a repeated or missing
        position or version), for a batch reference that belongs to another sku, and for an id that is already known."""
        sizes = [len(log) for log in self.log]
        versions: dict[str, int] = {}
        owners: dict[str, str] = {}
        for envelope in logged:
            event, place = envelope.event, envelope.position
            sizes[place.partition] += 1
            version = versions[event.sku] = versions.get(event.sku, self._version_of(event.sku)) + 1
            if (place.seq, envelope.version) != (sizes[place.partition], version):
                raise Conflict(f"{event} is out of order at {place}, version {envelope.version}")
            if isinstance(event, BatchCreated):
                owner = self.sku_of_batch.get(event.ref) or owners.setdefault(event.ref, event.sku)
                if owner != event.sku:
                    raise Conflict(f"batch {event.ref} belongs to {owner}")
        inbox = {done.envelope.key: done for done in handled}
        if len(inbox) < len(handled) or not inbox.keys().isdisjoint(self.inbox):
            raise Conflict("another command has one of these ids")
        for envelope in logged:
            self.log[envelope.position.partition].append(envelope)
            self._history[envelope.event.sku].append(envelope)
        self.sku_of_batch |= owners
        self.inbox |= inbox

    def history(self, sku: str, version: int) -> list[EventEnvelope]:
        """A product's events up to a version."""
        with self.lock:
            return self._history[sku][:version] if sku in self._history else []

    def forget_changes(self, product: Product) -> None:
        """Fold the product from the log again, if it is ahead of it: what was not logged has not happened."""
        if product.version_number == self._version_of(product.sku):
            return
        self.products.pop(product.sku, None)
        first = self._taken_in.get(product.sku)
        folded = copy_of(first) if first else Product(product.sku)
        for logged in self.history_of(product.sku):
            folded.apply(logged.event)
        if folded.version_number:
            self.products[product.sku] = folded


def copy_of(product: Product) -> Product:
    """A copy of the product, to be changed independently."""
    batches = [
        Batch(b.reference, b.sku, b.purchased_quantity, b.eta, b.allocated_quantity, b.created_as)
        for b in product.batches
    ]
    lines = Lines({x.orderid: OrderLine(x.orderid, x.sku, x.qty, x.batchref, x.since) for x in product.lines.values()})
    return Product(product.sku, batches, product.version_number, lines)


class MemoryRepository(Repository):
    """`seen` holds every product that was handed out or added."""

    def __init__(self, store: MemoryStore) -> None:
        super().__init__()
        self._store = store
        self.seen: dict[str, Product] = {}

    def _get(self, sku: str) -> Product | None:
        product = self.seen.get(sku) or self._store.products.get(sku)
        if product is not None:
            self.seen[sku] = product
        return product

    def sku_of(self, batchref: str) -> str | None:
        if sku := self._store.sku_of_batch.get(batchref):
            return sku
        return next((p.sku for p in self.seen.values() if p.batches.get(batchref) is not None), None)

    def _add(self, product: Product) -> None:
        self.seen[product.sku] = product


class MemoryUnitOfWork(UnitOfWork):
    products: MemoryRepository

    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    def __enter__(self) -> Self:
        if not self._store.lock.acquire(timeout=self._store.lock_timeout_seconds):
            raise Conflict("another unit of work takes too long")
        self.products = MemoryRepository(self._store)
        self._committed = False
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if not self._committed:
                for product in self.products.seen.values():
                    self._store.forget_changes(product)
        finally:
            self._store.lock.release()

    def begin(self, envelopes: Sequence[CommandEnvelope]) -> dict[tuple[str, str], Handled]:
        inbox = self._store.inbox
        return {e.key: inbox[e.key] for e in envelopes if e.brought_id and e.key in inbox}

    def commit(self, handled: Sequence[Handled]) -> None:
        store, ids = self._store, iter(self._store.ids.several(sum(len(done.events) for done in handled)))
        now = store.clock.now()
        heads = [_Head(partition, log, now) for partition, log in enumerate(store.log)]
        logged = [
            heads[partition_of(event.sku, store.partitions)].envelope(event, version, next(ids), done)
            for done in handled
            for event, version in done.events
        ]
        store.write(logged, handled)
        store.products.update((sku, p) for sku, p in self.products.seen.items() if p.version_number)
        self._committed = True


class _Head:
    """The place of the last event of a partition; from event to event, time does not go back."""

    def __init__(self, partition: int, log: Sequence[EventEnvelope], now: datetime) -> None:
        self.position = LogPosition(partition, len(log))
        self.at = max(now, log[-1].time) if log else now

    def envelope(self, event: Event, version: int, event_id: str, done: Handled) -> EventEnvelope:
        """The event at the next place, which becomes the position of the command."""
        origin = done.envelope
        done.position = self.position = LogPosition(self.position.partition, self.position.seq + 1)
        return EventEnvelope(
            event,
            event_id,
            self.at,
            self.position,
            version,
            origin.correlation_id,
            origin.id,
            origin.traceparent,
            event_version(event),
        )


class MemoryViews(Views):
    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    def order(self, orderid: str) -> list[Promise]:
        with self._reading():
            products = sorted(self._store.products.items())
            return [promise_of(product, orderid) for _, product in products if orderid in product.lines]

    def line(self, orderid: str, sku: str) -> Promise | None:
        with self._reading():
            product = self._store.products.get(sku)
            return promise_of(product, orderid) if product and orderid in product.lines else None

    def batch(self, ref: str) -> BatchState | None:
        with self._reading():
            product = self._store.products.get(self._store.sku_of_batch.get(ref, ""))
            batch = product.batches.get(ref) if product else None
            return state_of(product, batch) if product and batch else None

    def product(self, sku: str, waiting_limit: int = 100) -> ProductView | None:
        with self._reading():
            product = self._store.products.get(sku)
            if product is None:
                return None
            return product_view(product, waiting_limit)

    def events(self, after: Sequence[LogPosition], limit: int, sku: str | None = None) -> EventPage:
        cursor = {p.partition: p.seq for p in after}
        found: list[EventEnvelope] = []
        with self._reading():
            self._heads().require(after)
            for partition, log in enumerate(self._store.log):
                for logged in islice(log, cursor.get(partition, 0), None):
                    if len(found) == limit:
                        break
                    cursor[partition] = logged.position.seq
                    if sku is None or logged.event.sku == sku:
                        found.append(logged)
        return EventPage(found, [LogPosition(p, seq) for p, seq in sorted(cursor.items())])

    def position_at(self, sku: str, version: int) -> LogPosition | None:
        history = self._store.history(sku, version)
        return history[-1].position if history else None

    def stock(self, after: Sequence[LogPosition], limit: int) -> StockPage:
        cursor = {p.partition: p.seq for p in after}
        with self._reading():
            self._heads().require(after)
            levels = sorted(self._store.read_models.stock_levels.values(), key=lambda x: _place(x.position))
            there = [x for x in levels if self.stock_reached(x.position)]
            known = [self._store.projected.get((STOCK_LEVELS, p), 0) for p in range(self._store.partitions)]
            waiting = [log[seq].time for log, seq in zip(self._store.log, known, strict=True) if seq < len(log)]
        found = [x for x in there if x.position.seq > cursor.get(x.position.partition, 0)][:limit]
        cursor.update((x.position.partition, x.position.seq) for x in found)
        following = [LogPosition(p, seq) for p, seq in sorted(cursor.items())]
        return StockPage(found, following, min(waiting, default=None))

    def movements(self, sku: str, limit: int = 100) -> list[tuple[date, Movements]]:
        with self._reading():
            days = [(day, replace(m)) for (of, day), m in self._store.read_models.movements.items() if of == sku]
        return sorted(days, key=lambda x: x[0], reverse=True)[:limit]

    def reached(self, position: LogPosition) -> bool:
        return self.log_reached(position)

    def log_reached(self, position: LogPosition) -> bool:
        return len(self._store.log[position.partition]) >= position.seq

    def stock_reached(self, position: LogPosition) -> bool:
        return self._store.projected.get((STOCK_LEVELS, position.partition), 0) >= position.seq

    def with_heads(self, ask: Callable[[Views], Answer]) -> tuple[Answer, Places]:
        with self._reading():
            return ask(_Inside(self._store)), dict(enumerate(self._heads().heads))

    def ready(self) -> None:
        """Memory is always available."""

    def _heads(self) -> Cut:
        return Cut(tuple(map(len, self._store.log)))

    def _reading(self) -> AbstractContextManager[object]:
        """One snapshot for everything that is read inside."""
        return self._store.lock


class _Inside(MemoryViews):
    """The same questions, asked inside an open snapshot."""

    def _reading(self) -> AbstractContextManager[object]:
        return nullcontext()


class MemoryStock(Stock):
    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    def levels(self, positions: Mapping[str, LogPosition]) -> list[StockLevel]:
        with self._store.lock:
            there = [(self._store.products[sku], at) for sku, at in positions.items() if sku in self._store.products]
            return [StockLevel(p.sku, p.version_number, at, p.availability()) for p, at in there]


def _place(position: LogPosition) -> tuple[int, int]:
    return (position.partition, position.seq)
