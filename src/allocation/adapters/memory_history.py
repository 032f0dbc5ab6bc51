"""Questions about the past, answered from the log and the inbox of a `MemoryStore`."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterator, Mapping
from datetime import datetime

from allocation.adapters.memory import MemoryStore
from allocation.domain.events import Allocated, Backordered
from allocation.service_layer.envelope import EventEnvelope, LogPosition
from allocation.service_layer.history.ports import Cut, Fact, History
from allocation.service_layer.history.snapshots import Snapshot
from allocation.service_layer.unit_of_work import Handled


class MemoryHistory(History):
    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    def now(self) -> Cut:
        with self._store.lock:
            return Cut(tuple(len(log) for log in self._store.log))

    def moment_of(self, position: LogPosition) -> datetime:
        with self._store.lock:
            return self._store.log[position.partition][position.seq - 1].time

    def until(self, partition: int, head: int, moment: datetime) -> int:
        with self._store.lock:
            return bisect_right(self._store.log[partition], moment, hi=head, key=lambda logged: logged.time)

    # Events

    def facts(self, partition: int, after: int, until: int) -> Iterator[Fact]:
        with self._store.lock:
            found = self._store.log[partition][after:until]
        return map(_fact, found)

    def facts_by_product(self, after: str, cut: Cut) -> Iterator[Fact]:
        with self._store.lock:
            skus = sorted(sku for sku in self._store.products if sku > after)
        return (fact for sku in skus for fact in self.facts_of(sku, 0, cut.of(sku)))

    def facts_of(self, sku: str, after_version: int, until: int) -> Iterator[Fact]:
        with self._store.lock:
            found = [logged for logged in self._store.history_of(sku)[after_version:] if logged.position.seq <= until]
        return map(_fact, found)

    def events(self, sku: str, versions: Collection[int]) -> list[EventEnvelope]:
        with self._store.lock:
            history = self._store.history_of(sku)
            return [history[version - 1] for version in sorted(versions) if 0 < version <= len(history)]

    def events_up_to(self, position: LogPosition, limit: int) -> list[EventEnvelope]:
        with self._store.lock:
            return self._store.log[position.partition][max(0, position.seq - limit) : position.seq][::-1]

    # Commands

    def commands(self, ids: Collection[str]) -> list[Handled]:
        with self._store.lock:
            return [done for done in self._store.inbox.values() if done.envelope.id in ids]

    def commands_of(self, correlation_id: str, limit: int) -> list[Handled]:
        with self._store.lock:
            found = [done for done in self._store.inbox.values() if done.envelope.correlation_id == correlation_id]
        return sorted(found, key=lambda done: done.envelope.time)[:limit]

    # Names

    def skus_of_batches(self, refs: Collection[str]) -> Mapping[str, str]:
        with self._store.lock:
            return {ref: sku for ref in refs if (sku := self._store.sku_of_batch.get(ref))}

    def skus_of_order(self, orderid: str) -> list[str]:
        with self._store.lock:
            return sorted(
                {
                    logged.event.sku
                    for log in self._store.log
                    for logged in log
                    if isinstance(logged.event, Allocated | Backordered) and logged.event.orderid == orderid
                }
            )

    def since(self, sku: str, orderids: Collection[str]) -> Mapping[str, int]:
        with self._store.lock:
            product = self._store.products.get(sku)
            lines = product.lines if product else {}
            return {orderid: lines[orderid].since for orderid in orderids if orderid in lines}

    # Snapshots

    def snapshot(self, sku: str, until: int) -> Snapshot | None:
        with self._store.lock:
            kept = self._store.read_models.snapshots
            found = [x for (of, seq), x in kept.items() if of == sku and seq <= until]
        return max(found, key=lambda x: x.version, default=None)


def _fact(logged: EventEnvelope) -> Fact:
    return logged.event, logged.version, logged.position.seq
