"""Hot products: the first page of open batches of the products sold last stays in this process's memory.

What is kept is what the database would answer if it were asked again. This is true as long as the product's version is
the same: a unit of work that uses a page has the product locked, and compares. Nothing else of a product is kept: order
lines are named by the commands and read with them, and a kept product with its lines would grow with each sale.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from threading import Lock
from typing import NamedTuple

from allocation.domain.model import Batch
from allocation.domain.preferences import preference
from allocation.service_layer.envelope import Clock

Horizon = tuple[date, str]
LONGEST = timedelta(seconds=5)
"""How long a page may be used after it was read. `rebuild` corrects rows and leaves the version as it is: a page that
was read from damaged rows is no longer used this long after they were corrected."""


class Page(NamedTuple):
    """The open batches of a product at `version`: all of them up to `horizon`, in order of preference (None: to the
    end). `read_at`: when they were last read from the database."""

    version: int
    batches: list[Batch]
    horizon: Horizon | None
    read_at: datetime

    @classmethod
    def known(cls, version: int, batches: Iterable[Batch], horizon: Horizon | None, size: int, at: datetime) -> Page:
        """At most a page of this size, from all open batches up to a horizon and some beyond it."""
        found = [batch for batch in batches if horizon is None or preference(batch) <= horizon]
        return cls(version, found[:size], horizon if len(found) <= size else preference(found[size - 1]), at)


def horizon_of(batches: Sequence[Batch], size: int) -> Horizon | None:
    """How far the open batches are known after these came as the next page of this size; None: to the end."""
    return max(map(preference, batches)) if len(batches) == size else None


class HotProducts:
    """The pages of at most `most` products, those sold last; with 0 it keeps nothing. Shared by all threads.

    A page belongs to one unit of work at a time: the unit of work takes it out, and puts it back after its commit.
    After anything else, the page is no longer here, and is read again.
    """

    def __init__(self, most: int, clock: Clock) -> None:
        self.most, self._clock = most, clock
        self._pages: OrderedDict[str, Page] = OrderedDict()
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._pages)

    def take(self, skus: Collection[str]) -> dict[str, Page]:
        """Remove and return the pages that are here and young enough."""
        if not self._pages:
            return {}
        now = self.now()
        with self._lock:
            taken = {sku: self._pages.pop(sku) for sku in skus if sku in self._pages}
        return {sku: page for sku, page in taken.items() if timedelta() <= now - page.read_at <= LONGEST}

    def put(self, pages: Mapping[str, Page]) -> None:
        """Keep these, and drop those that were put in longest ago."""
        with self._lock:
            for sku, page in pages.items():
                self._pages[sku] = page
                self._pages.move_to_end(sku)
            while len(self._pages) > self.most:
                self._pages.popitem(last=False)

    def now(self) -> datetime:
        return self._clock.now()
