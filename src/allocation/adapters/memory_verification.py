"""The books of a `MemoryStore`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

from allocation.adapters.memory import MemoryStore
from allocation.domain.model import Product
from allocation.service_layer.books import (
    BatchFields,
    Books,
    Correction,
    Found,
    LineFields,
    Locked,
    Logged,
    LogPage,
    LogRow,
    Projecting,
    Stored,
    led_elsewhere,
)
from allocation.service_layer.envelope import EventEnvelope, LogPosition
from allocation.service_layer.errors import Conflict
from allocation.service_layer.self_audit import Audit, AuditStore


class MemoryBooks(Books):
    """Read models end with the process that keeps them, so they are not checked."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    def heads(self) -> dict[int, int]:
        with self._store.lock:
            return {partition: len(log) for partition, log in enumerate(self._store.log)}

    def holes(self) -> set[int]:
        with self._store.lock:
            return {
                partition
                for partition, log in enumerate(self._store.log)
                if [e.position for e in log] != [LogPosition(partition, n + 1) for n in range(len(log))]
            }

    def log(self, partition: int, after: int, limit: int) -> LogPage:
        with self._store.lock:
            log = self._store.log[partition]
            kept = {(done.envelope.id, done.position) for done in self._store.inbox.values()}
            rows: list[LogRow] = [
                (e.position.seq, e.key, e.time, e.causation_id, (e.causation_id, e.position) in kept)
                for e in log[after : after + limit]
            ]
            return LogPage(rows, None if len(rows) == limit else (len(log), log[-1].time if log else None))

    @contextmanager
    def products(self, after: str, most: int, most_events: int) -> Iterator[Sequence[Stored]]:
        with self._store.lock:
            histories: dict[str, list[EventEnvelope]] = {}
            for log in self._store.log:
                for logged in log:
                    histories.setdefault(logged.key, []).append(logged)
            skus = sorted(sku for sku in histories.keys() | self._store.products.keys() if sku > after)[:most]
            yield [stored_of(sku, self._store.products.get(sku), histories.get(sku, ())) for sku in skus]

    def false_commands(self, after: str, limit: int) -> Found:
        with self._store.lock:
            led = {(e.causation_id, e.correlation_id, e.position) for log in self._store.log for e in log}
            false = [
                (done.envelope.id, done.envelope.source, led_elsewhere(done.position))
                for done in self._store.inbox.values()
                if done.position is not None
                and (done.envelope.id, done.envelope.correlation_id, done.position) not in led
            ]
            return Found(None, len(self._store.inbox), false)

    def strays(self, after: str, limit: int) -> Found:
        with self._store.lock:
            batches = self._store.sku_of_batch
            lines = [x for product in self._store.products.values() for x in product.lines.values()]
            strays = [(x.orderid, x.sku, x.batchref) for x in lines if x.batchref and x.batchref not in batches]
            return Found(None, len(lines), strays)

    def doubled_ids(self) -> list[str]:
        with self._store.lock:
            return [x for x, times in Counter(e.id for log in self._store.log for e in log).items() if times > 1]

    @contextmanager
    def locked(self, sku: str, after_version: int, orderids: Collection[str]) -> Iterator[Locked]:
        if not self._store.lock.acquire(timeout=self._store.lock_timeout_seconds):
            raise Conflict("another unit of work takes too long")
        try:
            yield _LockedProduct(self._store, sku, after_version)
        finally:
            self._store.lock.release()

    def projecting(self, sku: str) -> AbstractContextManager[Projecting]:
        raise NotImplementedError("the read models of a memory store are not verified")


class _LockedProduct(Locked):
    def __init__(self, store: MemoryStore, sku: str, after_version: int) -> None:
        self._store, self._sku = store, sku
        self._history = [logged for log in store.log for logged in log if logged.key == sku]
        self.stored = stored_of(sku, store.products.get(sku), self._history[after_version:])

    def correct(self, correction: Correction) -> None:
        """By folding the log again, as after a roll-back."""
        self._store.products.pop(self._sku, None)
        if self._history:
            product = self._store.products[self._sku] = Product(self._sku)
            for logged in self._history:
                product.apply(logged.event)


def stored_of(sku: str, product: Product | None, history: Iterable[EventEnvelope]) -> Stored:
    """A product as rows."""
    events: list[Logged] = [(x.version, x.event, x.position.seq, x.time.date().isoformat()) for x in history]
    if product is None:
        return Stored(sku, None, events)
    batches: list[BatchFields] = [
        (b.reference, b.sku, b.purchased_quantity, b.allocated_quantity, b.eta, *b.created_as) for b in product.batches
    ]
    lines: list[LineFields] = [(x.orderid, x.sku, x.qty, x.batchref, x.since) for x in product.lines.values()]
    return Stored(sku, product.version_number, events, batches, lines)


class MemoryAuditStore(AuditStore):
    """There is only one process, hence only one owner."""

    def __init__(self) -> None:
        self._audit = Audit()

    def read(self) -> Audit:
        return self._audit

    def take(self, owner: str, seconds: float) -> Audit | None:
        return self._audit

    def write(self, audit: Audit, owner: str) -> bool:
        self._audit = audit
        return True
