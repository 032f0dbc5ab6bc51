"""The read side: the questions that can be asked, and their answers. Nothing here changes anything."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import TypeVar

from allocation.domain.errors import Available
from allocation.domain.model import Product
from allocation.service_layer.answers import BatchState, Promise, promise_of, state_of
from allocation.service_layer.cache import Places
from allocation.service_layer.envelope import EventEnvelope, LogPosition
from allocation.service_layer.history.as_of import line_at, order_at, shop_at, stock_at
from allocation.service_layer.history.ports import At, History
from allocation.service_layer.read_models import Movements, StockLevel

Answer = TypeVar("Answer")

STOCK_LEVELS = "project_stock_levels"
"""The subscription that keeps the read model for `Views.stock`."""

READ_MODELS: Mapping[str, str] = {
    "orders": "keep_cache",
    "products": "keep_cache",
    "availability": "keep_cache",
    "waiting_lines": "keep_cache",
    "batches": "",
    "events": "",
    "stock": STOCK_LEVELS,
    "movements": "count_movements",
    "snapshots": "keep_snapshots",
}
"""What can be asked of the read side, and the subscription that keeps it. If there is none (empty, or no cache is set),
it is written in the transaction of the command, and has no lag."""


@dataclass(frozen=True, slots=True)
class ProductView:
    """A product at one version. `waiting` lists the oldest waiting lines; the two figures count all of them."""

    sku: str
    version: int
    batches: Sequence[BatchState]
    available: tuple[Available, ...]
    waiting: Sequence[Promise]
    waiting_lines: int
    waiting_qty: int

    @property
    def available_now(self) -> int:
        return sum(a.qty for a in self.available if a.eta is None)


@dataclass(frozen=True, slots=True)
class EventPage:
    """Events in order, and the cursor to continue from: a position in each log partition."""

    events: Sequence[EventEnvelope]
    next: Sequence[LogPosition]


@dataclass(frozen=True, slots=True)
class StockPage:
    """Stock levels in the order in which they last changed, and the cursor to continue from.

    `waiting_since`: when the first event happened that no level includes yet; None: there is no such event.
    """

    levels: Sequence[StockLevel]
    next: Sequence[LogPosition]
    waiting_since: datetime | None = None


class StateViews(ABC):
    """How things stand, or stood. Each answer is one consistent snapshot. Raises `Unavailable` when the store cannot be
    reached."""

    @abstractmethod
    def order(self, orderid: str) -> list[Promise]:
        """The lines of an order, by sku; empty if there is no such order."""

    @abstractmethod
    def line(self, orderid: str, sku: str) -> Promise | None:
        """One order line."""

    @abstractmethod
    def batch(self, ref: str) -> BatchState | None:
        """One batch, with its product's version."""

    @abstractmethod
    def product(self, sku: str, waiting_limit: int = 100) -> ProductView | None:
        """A product: batches in order of preference, what is free by date, the waiting lines (the first
        `waiting_limit`)."""


class Views(StateViews):
    """Answers about the present: each is a snapshot that holds all that was committed before the call.

    Callers may not assume that two answers are from the same moment.
    """

    @abstractmethod
    def events(self, after: Sequence[LogPosition], limit: int, sku: str | None = None) -> EventPage:
        """The event feed: up to `limit` events after `after` (a position for each partition; missing: from the start),
        partition by partition, each in order and without a gap. With `sku`, only that product's.

        Raises `UnknownPosition` if the log, in the same snapshot, does not reach `after`: a client that has seen that
        place has seen another log. After `BEYOND` there is nothing, in any log."""

    @abstractmethod
    def position_at(self, sku: str, version: int) -> LogPosition | None:
        """The position of a product's last event up to this version; None: there is none."""

    @abstractmethod
    def stock(self, after: Sequence[LogPosition], limit: int) -> StockPage:
        """Up to `limit` stock levels that changed after `after` (as in `events`): each sku once, at its last change.
        From the start, these are all levels. A read model: it lags a moment behind the log. Nothing is shown after a
        product whose level could not be written (it has a lane), so that no cursor passes it. Raises `UnknownPosition`
        as `events` does."""

    @abstractmethod
    def movements(self, sku: str, limit: int = 100) -> list[tuple[date, Movements]]:
        """What moved of a sku, by day, the latest days first. A read model: it lags a moment behind the log."""

    @abstractmethod
    def reached(self, position: LogPosition) -> bool:
        """Whether every answer from now on, except those of `stock` and `movements`, includes the log up to
        `position`."""

    @abstractmethod
    def log_reached(self, position: LogPosition) -> bool:
        """Whether the log has reached `position`. Every answer of `batch` and `events` includes the whole log."""

    @abstractmethod
    def stock_reached(self, position: LogPosition) -> bool:
        """Whether every answer of `stock` from now on includes the log up to `position`."""

    @abstractmethod
    def with_heads(self, ask: Callable[[Views], Answer]) -> tuple[Answer, Places]:
        """The answer to questions asked of these views in one snapshot, and the heads of the log in the same snapshot:
        the answer includes everything up to there, and nothing after it."""

    @abstractmethod
    def ready(self) -> None:
        """Raises `Unavailable` unless the store answers."""


def allocations(orderid: str, views: Views) -> list[dict[str, str]]:
    """The book's view: where the lines of an order were allocated; waiting ones are left out."""
    return [{"sku": x.sku, "batchref": x.batchref} for x in views.order(orderid) if x.batchref is not None]


def product_view(product: Product, waiting_limit: int = 100) -> ProductView:
    """A product in memory, as the views show it."""
    waiting = sorted((x for x in product.lines.values() if x.batchref is None), key=lambda x: x.since)
    return ProductView(
        product.sku,
        product.version_number,
        [state_of(product, batch) for batch in product.batches],
        product.availability(),
        [promise_of(product, x.orderid) for x in waiting[:waiting_limit]],
        len(waiting),
        sum(x.qty for x in waiting),
    )


class PastViews(StateViews):
    """How things stood at one cut through the log, folded from it. Callers may not assume that an answer costs the same
    for any cut, except that of `product`."""

    def __init__(self, history: History, at: At) -> None:
        """Raises `UnknownPosition`, `Unavailable`."""
        self._history, self._cut = history, history.cut(at)

    def order(self, orderid: str) -> list[Promise]:
        return order_at(self._history, orderid, self._cut)

    def line(self, orderid: str, sku: str) -> Promise | None:
        return line_at(self._history, orderid, sku, self._cut)

    def batch(self, ref: str) -> BatchState | None:
        sku = self._history.skus_of_batches([ref]).get(ref)
        product = stock_at(self._history, sku, self._cut) if sku is not None else None
        batch = product.batches.get(ref) if product else None
        return state_of(product, batch) if product and batch else None

    def product(self, sku: str, waiting_limit: int = 100) -> ProductView | None:
        product = stock_at(self._history, sku, self._cut)
        return product_view(product, waiting_limit) if product else None

    def shop(self, after: str = "", waiting_limit: int = 0) -> Iterator[ProductView]:
        """Every product after a sku that had stock then, in order of skus, one at a time in memory."""
        return (product_view(product, waiting_limit) for product in shop_at(self._history, self._cut, after))
