"""The ports in plain memory: honest fake of the tests, engine of what-if, memory image of a log, all in one.

Products are kept whole. What a unit of work did to them is undone by folding them from the log again, which keeps the
happy path free of copies and holds the log to its word.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from threading import Lock
from types import TracebackType
from typing import Self

from allocation.domain.events import BatchCreated
from allocation.domain.model import Product
from allocation.service_layer.answers import BatchState, Promise, promise_of, state_of
from allocation.service_layer.envelope import (
    Clock,
    CommandEnvelope,
    EventEnvelope,
    Ids,
    LogPosition,
    partition_of,
)
from allocation.service_layer.unit_of_work import Handled, Repository, UnitOfWork
from allocation.views import EventPage, ProductView, Views


class MemoryStore:
    """Products, log and inbox. One unit of work at a time holds `lock`; readers take it for as long as they read."""

    def __init__(self, ids: Ids, clock: Clock, partitions: int = 1) -> None:
        self.ids, self.clock, self.partitions = ids, clock, partitions
        self.lock = Lock()
        self.products: dict[str, Product] = {}
        self.sku_of_batch: dict[str, str] = {}
        self.log: list[list[EventEnvelope]] = [[] for _ in range(partitions)]
        self.inbox: dict[tuple[str, str], Handled] = {}
        self._history: defaultdict[str, list[EventEnvelope]] = defaultdict(list)

    def append(self, logged: EventEnvelope) -> None:
        """Raises `ValueError` for an event out of turn: a doubled or missing position or version."""
        event, log = logged.event, self.log[logged.position.partition]
        if logged.position.seq != len(log) + 1 or logged.version != len(self._history[event.sku]) + 1:
            raise ValueError(f"{event} is out of turn at {logged.position}, version {logged.version}")
        if isinstance(event, BatchCreated) and self.sku_of_batch.setdefault(event.ref, event.sku) != event.sku:
            raise ValueError(f"batch {event.ref} stands twice")
        log.append(logged)
        self._history[event.sku].append(logged)

    def forget_changes(self, sku: str) -> None:
        """Fold the product from the log again: what was not logged has not happened."""
        product = Product(sku)
        for logged in self._history[sku]:
            product.apply(logged.event)
        if product.version_number:
            self.products[sku] = product
        else:
            self.products.pop(sku, None)


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

    def _sku_of(self, batchref: str) -> str | None:
        for product in self.seen.values():
            if product.batches.get(batchref) is not None:
                return product.sku
        return self._store.sku_of_batch.get(batchref)

    def _add(self, product: Product) -> None:
        self.seen[product.sku] = product


class MemoryUnitOfWork(UnitOfWork):
    products: MemoryRepository

    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    def __enter__(self) -> Self:
        self._store.lock.acquire()
        self.products = MemoryRepository(self._store)
        self._committed = False
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if not self._committed:
                for sku in self.products.seen:
                    self._store.forget_changes(sku)
        finally:
            self._store.lock.release()

    def begin(self, envelopes: Sequence[CommandEnvelope]) -> dict[tuple[str, str], Handled]:
        inbox = self._store.inbox
        return {e.key: inbox[e.key] for e in envelopes if e.brought_id and e.key in inbox}

    def commit(self, handled: Sequence[Handled]) -> None:
        store = self._store
        for done in handled:
            for (event, version), event_id in zip(done.events, store.ids.several(len(done.events)), strict=True):
                partition = partition_of(event.sku, store.partitions)
                log = store.log[partition]
                now = max(store.clock.now(), log[-1].time) if log else store.clock.now()
                done.position = LogPosition(partition, len(log) + 1)
                origin = done.envelope
                store.append(
                    EventEnvelope(
                        event,
                        event_id,
                        now,
                        done.position,
                        version,
                        origin.correlation_id,
                        origin.id,
                        origin.traceparent,
                    )
                )
            store.inbox[done.envelope.key] = done
        store.products.update((sku, p) for sku, p in self.products.seen.items() if p.version_number)
        self._committed = True


class MemoryViews(Views):
    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    def order(self, orderid: str) -> list[Promise]:
        with self._store.lock:
            products = sorted(self._store.products.items())
            return [promise_of(product, orderid) for _, product in products if orderid in product.lines]

    def line(self, orderid: str, sku: str) -> Promise | None:
        with self._store.lock:
            product = self._store.products.get(sku)
            return promise_of(product, orderid) if product and orderid in product.lines else None

    def batch(self, ref: str) -> BatchState | None:
        with self._store.lock:
            product = self._store.products.get(self._store.sku_of_batch.get(ref, ""))
            batch = product.batches.get(ref) if product else None
            return state_of(product, batch) if product and batch else None

    def product(self, sku: str, waiting_limit: int = 100) -> ProductView | None:
        with self._store.lock:
            product = self._store.products.get(sku)
            if product is None:
                return None
            waiting = sorted((x for x in product.lines.values() if x.batchref is None), key=lambda x: x.since)
            return ProductView(
                sku,
                product.version_number,
                [state_of(product, batch) for batch in product.batches],
                product.availability(),
                [promise_of(product, x.orderid) for x in waiting[:waiting_limit]],
                len(waiting),
                sum(x.qty for x in waiting),
            )

    def events(self, after: Sequence[LogPosition], limit: int, sku: str | None = None) -> EventPage:
        cursor = {p.partition: p.seq for p in after}
        found: list[EventEnvelope] = []
        with self._store.lock:
            for partition, log in enumerate(self._store.log):
                for logged in log[cursor.get(partition, 0) :]:
                    if len(found) == limit:
                        break
                    cursor[partition] = logged.position.seq
                    if sku is None or logged.event.sku == sku:
                        found.append(logged)
        return EventPage(found, [LogPosition(p, seq) for p, seq in sorted(cursor.items())])

    def ready(self) -> None:
        """Memory is always there."""
