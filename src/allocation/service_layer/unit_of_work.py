"""The transaction boundary, as ports: products in, events out, all or nothing."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from types import TracebackType
from typing import Self

from allocation.domain.events import Event
from allocation.domain.model import Product
from allocation.service_layer.answers import Answer, Result
from allocation.service_layer.envelope import CommandEnvelope, LogPosition
from allocation.service_layer.errors import IdReused


class Repository(ABC):
    """The products of one unit of work, each locked from the moment it is asked for until the unit of work ends.

    Callers may not assume that a product's batches and lines are all in memory (ask its collections, do not walk
    through them), nor use a product after its unit of work has ended.
    """

    def __init__(self) -> None:
        self._touched: list[Product] = []

    def get(self, sku: str) -> Product | None:
        """The product, the same object each time; None if no batch of this sku was ever bought."""
        product = self._get(sku)
        if product is not None:
            self._touched.append(product)
        return product

    def get_by_batchref(self, batchref: str) -> Product | None:
        """The product that a batch belongs to, including a batch that was added in this unit of work."""
        sku = self.sku_of(batchref)
        return None if sku is None else self.get(sku)

    @abstractmethod
    def sku_of(self, batchref: str) -> str | None:
        """The sku that a batch belongs to. Locks no product: a batch never moves to another product."""

    def add(self, product: Product) -> None:
        """Add a new product (one that `get` did not find)."""
        self._add(product)
        self._touched.append(product)

    def collect_new_events(self) -> list[tuple[Event, int]]:
        """The events that the products recorded since the last call, with the versions that the events made."""
        found: list[tuple[Event, int]] = []
        for product in self._touched:
            if events := product.events:
                found += zip(events, count(product.version_number - len(events) + 1))
                events.clear()
        self._touched.clear()
        return found

    @abstractmethod
    def _get(self, sku: str) -> Product | None: ...

    @abstractmethod
    def _add(self, product: Product) -> None: ...


@dataclass(slots=True)
class Handled:
    """One command that was handled: its result or its error, and the events it led to, with the versions they made.

    `position` is the log position of its last event, once committed.
    """

    envelope: CommandEnvelope
    result: Result = None
    error: Exception | None = None
    events: Sequence[tuple[Event, int]] = ()
    changed: bool = False
    position: LogPosition | None = None

    @property
    def is_kept(self) -> bool:
        """Whether the inbox keeps it: it changed something, or its sender may send the same id again."""
        return self.changed or self.envelope.brought_id

    def answer_to(self, envelope: CommandEnvelope) -> Answer:
        """The answer to the command itself, or to another one that came under the same id."""
        if envelope is self.envelope:
            return Answer(self.result, self.error, self.changed, self.position)
        if envelope.command != self.envelope.command:
            return Answer(error=IdReused(envelope.id))
        return Answer(self.result, self.error, self.changed, self.position, repeated=True)


class UnitOfWork(ABC):
    """One transaction. Used by one thread, once: enter, `begin`, decide, `commit`; leaving without commit rolls back.

    State tables, log and inbox are written together or not at all. Two units of work that name the same product run
    one after the other. Callers may not assume that `begin` returns soon: it waits for locks (bounded, then
    `Conflict`). Raises `Unavailable` when the store cannot be reached.
    """

    products: Repository

    @abstractmethod
    def __enter__(self) -> Self: ...

    @abstractmethod
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the transaction; what was not committed is gone, and so are the loaded products."""

    @abstractmethod
    def begin(self, envelopes: Sequence[CommandEnvelope]) -> dict[tuple[str, str], Handled]:
        """Lock and read what the commands name. Returns what the inbox knows of the ids brought, by (source, id)."""

    def collect_new_events(self) -> list[tuple[Event, int]]:
        """The events recorded since the last call, with the versions they made, in order."""
        return self.products.collect_new_events()

    @abstractmethod
    def commit(self, handled: Sequence[Handled]) -> None:
        """Write what was handled, durably, and set the position of each command that led to events.

        When this returns, everything is written; when it raises `Conflict` or `Unavailable`, nothing is;
        `OutcomeUnknown`: that cannot be known. After a connection lost at COMMIT, the outcome is looked up.
        """
