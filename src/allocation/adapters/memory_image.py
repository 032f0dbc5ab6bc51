"""The memory image: every product of a log, whole, in plain memory. Once loaded, it answers without a database.

It is a `MemoryStore` that is fed from the log instead of by units of work; what-ifs run on copies of its products.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from threading import Event as Flag
from threading import Thread

from allocation.adapters.memory import MemoryStore, MemoryUnitOfWork, MemoryViews, copy_of
from allocation.domain.commands import Command
from allocation.domain.errors import CorruptLog
from allocation.domain.events import BatchCreated
from allocation.domain.model import Product
from allocation.service_layer.envelope import Clock, Ids, LogPosition
from allocation.service_layer.errors import Unavailable, UnknownPosition
from allocation.service_layer.history.ports import Fact, History
from allocation.service_layer.needs import needs_of
from allocation.service_layer.unit_of_work import UnitOfWork
from allocation.views import StateViews

LOOK_AGAIN_SECONDS = 0.5

_log = logging.getLogger(__name__)


class MemoryImage:
    """`views` answer from the image, and so does `products_named`; both are as current as the last `catch_up`, which
    reached `cut`."""

    def __init__(self, history: History, clock: Clock, ids: Ids) -> None:
        """Load the log as it is now. Raises `Unavailable`, `CorruptLog`.

        It is read product by product: a product that is folded completely before the next one stays in the processor's
        caches meanwhile, which makes folding a large shop nearly twice as fast.
        """
        self._history = history
        self._store = MemoryStore(ids, clock)
        self.views: StateViews = MemoryViews(self._store)
        with _no_collection():
            now = history.now()
            self._fold(history.facts_by_product("", now))
            self.cut = now

    def catch_up(self) -> int:
        """Apply what was committed since; returns how many events. Readers see all of it or nothing.

        Raises `Unavailable`; the image is then as it was, and continues to answer. Raises `UnknownPosition` if the log
        does not reach to where the image stands, as after a restore from a backup: the image holds what is gone, and
        another one has to be loaded. So it has after `CorruptLog`.
        """
        now = self._history.now()
        now.require(LogPosition(partition, seq) for partition, seq in enumerate(self.cut.heads))
        ahead = [
            list(self._history.facts(partition, after, until))
            for partition, (after, until) in enumerate(zip(self.cut.heads, now.heads, strict=True))
        ]
        with self._store.lock:
            for facts in ahead:
                self._fold(facts)
            self.cut = now
        return sum(map(len, ahead))

    def products_named(self, commands: Sequence[Command]) -> list[Product]:
        """Copies of the products that the commands name, by sku or by batch."""
        needs = needs_of(commands)
        with self._store.lock:
            skus = needs.skus | {self._store.sku_of_batch.get(ref, "") for ref in needs.refs}
            return [copy_of(self._store.products[sku]) for sku in sorted(skus) if sku in self._store.products]

    def _fold(self, facts: Iterable[Fact]) -> None:
        products = self._store.products
        for event, version, _ in facts:
            sku = event.sku
            product = products.get(sku)
            if product is None:
                product = products[sku] = Product(sku)
            product.apply(event)
            if product.version_number != version:
                raise CorruptLog(f"{sku} has no event for version {product.version_number}")
            if type(event) is BatchCreated:
                self._store.sku_of_batch[event.ref] = sku


class Follower(Thread):
    """Keeps an image current: reads the log every half second, or at once when it is woken. Ends, with a line in the
    log of the program, if the image cannot follow any more."""

    def __init__(self, image: MemoryImage) -> None:
        super().__init__(name="memory image", daemon=True)
        self._image, self._stopping, self._awake = image, Flag(), Flag()

    def run(self) -> None:
        while not self._stopping.is_set():
            self._awake.clear()
            try:
                self._image.catch_up()
            except Unavailable as away:
                _log.warning("the memory image could not be updated: %s", away)
            except (UnknownPosition, CorruptLog) as other:
                _log.error("the memory image can no longer follow this log and must be loaded again: %s", other)
                return
            self._awake.wait(LOOK_AGAIN_SECONDS)

    def wake(self) -> None:
        """Say that there may be something to read. May be called from any thread."""
        self._awake.set()

    def stop(self) -> None:
        """Stop the thread; returns when it has ended."""
        self._stopping.set()
        self.wake()
        self.join()


def imagining(clock: Clock, ids: Ids) -> Callable[[Iterable[Product]], Callable[[], UnitOfWork]]:
    """A function that makes a store of the given products and nothing else, for what is only imagined."""

    def imagine(products: Iterable[Product]) -> Callable[[], UnitOfWork]:
        store = MemoryStore(ids, clock)
        for product in products:
            store.take_in(product)
        return lambda: MemoryUnitOfWork(store)

    return imagine


@contextmanager
def _no_collection() -> Iterator[None]:
    """Loading makes millions of objects that stay, and no garbage that would have to be searched for: the garbage
    collector would go through all of them again and again. At the end they are frozen, so that it does not look at
    them."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_on:
            gc.enable()
