"""What an import would do: the same commands, decided in memory, on the products that the store has now."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from allocation.adapters.memory import MemoryStore, MemoryUnitOfWork
from allocation.domain.commands import Allocate, Command, CreateBatch
from allocation.domain.model import Product
from allocation.service_layer.answers import Answer
from allocation.service_layer.envelope import Clock, CommandEnvelope, Ids, LogPosition
from allocation.service_layer.injection import inject
from allocation.service_layer.messagebus import MessageBus
from allocation.views import Views

_PAGE = 1000


class DryRun:
    """A bus in memory. A product is folded from its log when a command first names it; later decisions build on it.

    So decisions take into account what earlier rows would have done, and each product as it was when it was first
    named, but not what others change in the meantime. The store is read, but never written or locked. All products
    that were named are kept in memory, with their whole history.
    """

    def __init__(self, views: Views, handlers: Mapping[type, Callable[..., Any]], ids: Ids, clock: Clock) -> None:
        self._views = views
        self._store = MemoryStore(ids, clock)
        self._bus = MessageBus(lambda: MemoryUnitOfWork(self._store), inject(handlers, {}), ids, clock)
        self._met: set[str] = set()

    def handle_many(self, envelopes: Sequence[CommandEnvelope]) -> list[Answer]:
        """As `MessageBus.handle_many`, except that nothing is stored."""
        for envelope in envelopes:
            self._meet(envelope.command)
        return self._bus.handle_many(envelopes)

    def _meet(self, command: Command) -> None:
        if isinstance(command, CreateBatch | Allocate):
            self._fold(command.sku)
        if (
            isinstance(command, CreateBatch)
            and command.ref not in self._store.sku_of_batch
            and (known := self._views.batch(command.ref))
        ):
            self._fold(known.sku)

    def _fold(self, sku: str) -> None:
        if sku in self._met:
            return
        self._met.add(sku)
        after: Sequence[LogPosition] = ()
        while True:
            page = self._views.events(after, _PAGE, sku)
            first = len(self._store.log[0]) + 1
            moved = [x._replace(position=LogPosition(0, first + n)) for n, x in enumerate(page.events)]
            self._store.write(moved, [])
            if len(moved) < _PAGE:
                break
            after = page.next
        self._store.forget_changes(Product(sku))
