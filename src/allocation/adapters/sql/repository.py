"""Products from the tables: loaded as far as a decision needs them, and further when it asks for more."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import datetime
from heapq import merge
from itertools import chain
from typing import Any

from sqlalchemy import Connection

from allocation.adapters.sql.dialects import Outcome, Step
from allocation.adapters.sql.errors import translated
from allocation.adapters.sql.hot_products import HotProducts, Page, horizon_of
from allocation.adapters.sql.statements import Statements, batch_from, line_and_batch_from, line_from
from allocation.domain.events import BatchCreated, Event
from allocation.domain.model import Batch, Batches, Lines, OrderLine, Product
from allocation.domain.preferences import preference
from allocation.service_layer.needs import Needs
from allocation.service_layer.unit_of_work import Repository

END_OF_TIME = 2**63 - 1
_NONE: Set[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Pages:
    """How much is read at once. The decisions are the same for any size."""

    batches: int = 16
    lines: int = 100
    waiting: int = 16
    """Waiting lines of each product whose stock may become free. Few products have more of them."""


class Session:
    """One connection in one transaction, which begins with the first steps that are run."""

    def __init__(self, connection: Connection, statements: Statements, pages: Pages) -> None:
        self.statements, self.pages = statements, pages
        self._connection, self._dialect = connection, statements.dialect
        self.begun = False
        self.absent: set[tuple[str, str]] = set()
        """(orderid, sku) of the order lines that are known not to be in the tables, or not any more."""

    def run(self, steps: Iterable[Step]) -> list[Outcome]:
        """Each step is taken from `steps` only when its turn comes. Raises `Conflict`, `ConnectionLost`."""
        begin = () if self.begun else (Step(self._dialect.begin),)
        self.begun = True
        with translated():
            return self._dialect.run(self._connection, chain(begin, steps))[len(begin) :]

    def rows(self, step: Step) -> Sequence[Any]:
        return self.run((step,))[0].rows


class PagedBatches(Batches):
    """The open batches read so far, complete in order of preference up to `_horizon` (None: all), and the named
    ones."""

    __slots__ = ("_absent", "_horizon", "_named", "_read_at", "_session", "_sku")

    def __init__(self, sku: str, session: Session, named: Set[str], first: Page) -> None:
        """`named`: references that were looked up for the whole group; those not found here are of other products, or
        of none."""
        super().__init__(first.batches)
        self._sku, self._session, self._named = sku, session, named
        self._absent: Set[str] = _NONE
        self._horizon, self._read_at = first.horizon, first.read_at

    def get(self, ref: str) -> Batch | None:
        batch = self._by_reference.get(ref)
        if batch is None and ref not in self._named and ref not in self._absent:
            self._absent |= {ref}
            for batch in map(batch_from, self._session.rows(self._session.statements.named_batches([ref]))):
                if batch.sku == self._sku:
                    self.add(batch)
            return self._by_reference.get(ref)
        return batch

    def take(self, batch: Batch) -> None:
        """Add a batch that was read by its reference, unless it is here already: the one here may have changed
        since."""
        if batch.reference not in self._by_reference:
            self.add(batch)

    def best_for(self, line: OrderLine) -> Batch | None:
        while True:
            best = super().best_for(line)
            if self._horizon is None or (best is not None and preference(best) <= self._horizon):
                return best
            self._read_on()

    def largest_free(self) -> int:
        self._read_all()
        return super().largest_free()

    def open(self) -> Iterable[Batch]:
        self._read_all()
        return super().open()

    def _read_all(self) -> None:
        while self._horizon is not None:
            self._read_on()

    def _read_on(self) -> None:
        assert self._horizon is not None
        session = self._session
        step = session.statements.next_open_batches(self._sku, self._horizon, session.pages.batches)
        page = [batch_from(row) for row in session.rows(step)]
        for batch in page:
            self.take(batch)
        self._horizon = horizon_of(page, session.pages.batches)

    def first_page(self, version: int) -> Page:
        """What the database would answer now, as far as it is known; never more than a page, however much was read."""
        return Page.known(version, super().open(), self._horizon, self._session.pages.batches, self._read_at)


class PagedLines(Lines):
    """The lines read or changed so far. What a page from the database says about those is out of date and ignored."""

    __slots__ = ("_all_waiting_are_here", "_session", "_sku", "least_waiting")

    def __init__(self, sku: str, session: Session) -> None:
        self._sku, self._session = sku, session
        self.least_waiting = 0
        """No waiting line that is still unread needs fewer pieces than this."""
        self._all_waiting_are_here = False

    def get(self, orderid: str, default: OrderLine | None = None) -> OrderLine | None:  # type: ignore[override]  # one default, never another type
        if orderid in self:
            return self[orderid]
        key = (orderid, self._sku)
        if key in self._session.absent:
            return default
        found = self._session.rows(self._session.statements.lines([key]))
        if not found:
            self._session.absent.add(key)
            return default
        line = self[orderid] = line_and_batch_from(found[0])[0]
        return line

    def __delitem__(self, orderid: str) -> None:
        super().__delitem__(orderid)
        self._session.absent.add((orderid, self._sku))

    def take(self, line: OrderLine) -> None:
        """Add a line that was read, unless it is known already."""
        if (line.orderid, self._sku) not in self._session.absent:
            self.setdefault(line.orderid, line)

    def take_first_waiting(self, page: list[OrderLine]) -> None:
        """Add the first page of waiting lines, which has the smallest of all."""
        if len(page) == self._session.pages.waiting:
            self.least_waiting = min(line.qty for line in page)
            return
        self._all_waiting_are_here = True
        for line in page:
            self.take(line)

    def newest_on(self, ref: str) -> Iterator[OrderLine]:
        session = self._session

        def read(before: int) -> list[OrderLine]:
            step = session.statements.newest_on(ref, before, session.pages.lines)
            return [line_from(row) for row in session.rows(step)]

        known = sorted((x for x in self.values() if x.batchref == ref), key=lambda x: -x.since)
        return merge(known, self._unknown(read, END_OF_TIME), key=lambda x: -x.since)

    def oldest_waiting(self, at_most: Callable[[], int]) -> Iterator[OrderLine]:
        session = self._session

        def read(after: int) -> list[OrderLine]:
            if (most := at_most()) <= 0 or most < self.least_waiting:
                return []
            step = session.statements.oldest_waiting(self._sku, most, after, session.pages.lines)
            return [line_from(row) for row in session.rows(step)]

        most = at_most()
        known = sorted((x for x in self.values() if x.batchref is None and x.qty <= most), key=lambda x: x.since)
        waiting: Iterable[OrderLine] = known
        if not self._all_waiting_are_here:
            waiting = merge(known, self._unknown(read, 0), key=lambda x: x.since)
        for line in waiting:
            if line.qty <= most:
                yield line
                most = at_most()

    def _unknown(self, read: Callable[[int], list[OrderLine]], start: int) -> Iterator[OrderLine]:
        """Page after page, the lines that were neither read nor changed before; each is kept from now on."""
        place = start
        while True:
            page = read(place)
            for line in page:
                place = line.since
                if line.orderid not in self and (line.orderid, self._sku) not in self._session.absent:
                    self[line.orderid] = line
                    yield line
            if len(page) < self._session.pages.lines:
                return


class SqlRepository(Repository):
    """The products of one unit of work, one object for each sku. `versions` holds the version at which each locked
    product was loaded."""

    def __init__(self, session: Session, hot: HotProducts) -> None:
        super().__init__()
        self._session, self._hot = session, hot
        self._products: dict[str, Product] = {}
        self._skus: dict[str, str | None] = {}
        self._named: set[str] = set()
        self.versions: dict[str, int] = {}
        self.inserted: set[str] = set()

    def load(self, needs: Needs, behind: Sequence[Step] = ()) -> list[Outcome]:
        """Lock and read what a group names: in one trip, or in two if it names a batch without its sku. The steps in
        `behind` are sent along after the locks; returns their outcomes."""
        skus = set(needs.skus)
        if needs.homeless:
            found = dict(self._session.rows(self._session.statements.skus_of(needs.homeless)))
            self._skus.update({ref: found.get(ref) for ref in needs.homeless})
            skus.update(found.values())
            needs.freed.update(found.values())
        return self._read(skus, needs, behind)

    def _read(self, skus: set[str], needs: Needs, behind: Sequence[Step] = ()) -> list[Outcome]:
        s, pages = self._session.statements, self._session.pages
        if not skus:
            return self._session.run(behind) if behind else []
        hot, read_at = self._hot.take(skus), self._hot.now()
        cold = skus - hot.keys() if hot else skus
        of_batches = [s.first_open_batches(cold, pages.batches)] if cold else []
        of_batches += [s.changed_open_batches({sku: hot[sku].version for sku in hot}, pages.batches)] if hot else []
        steps = [s.insert_products(needs.new_skus)] if needs.new_skus else []
        steps += [s.lock(skus), *of_batches]
        steps += [s.first_waiting(needs.freed, pages.waiting)] if needs.freed else []
        steps += [s.lines(needs.lines)] if needs.lines else []
        steps += [s.named_batches(needs.refs)] if needs.refs else []
        outcomes = iter(self._session.run([*steps, *behind]))
        if needs.new_skus:
            next(outcomes)
            self.inserted |= needs.new_skus
        locked: dict[str, int] = dict(next(outcomes).rows)
        self.versions.update(dict.fromkeys(skus, 0) | locked)
        read = [batch_from(row) for _ in of_batches for row in next(outcomes).rows]
        self._take_products(locked, read, hot, read_at)
        if needs.freed:
            self._take_waiting(needs.freed, map(line_from, next(outcomes).rows))
        if needs.lines:
            self._take_lines(needs.lines, map(line_and_batch_from, next(outcomes).rows))
        if needs.refs:
            self._take_named(needs.refs, map(batch_from, next(outcomes).rows))
        return list(outcomes)

    def _take_products(
        self, locked: dict[str, int], read: Iterable[Batch], hot: dict[str, Page], read_at: datetime
    ) -> None:
        session = self._session
        by_sku: dict[str, list[Batch]] = {sku: [] for sku, version in locked.items() if version}
        for batch in read:
            if batch.sku in by_sku:  # otherwise its product was made after the locking statement looked for it
                by_sku[batch.sku].append(batch)
        for sku, found in by_sku.items():
            page = hot.get(sku)
            if page is None or page.version != locked[sku]:
                page = Page(locked[sku], found, horizon_of(found, session.pages.batches), read_at)
            batches = PagedBatches(sku, session, self._named, page)
            self._products[sku] = Product(sku, batches, locked[sku], PagedLines(sku, session))

    def stored(self, keys: Set[tuple[str, str]]) -> set[tuple[str, str]]:
        """Which of these order lines (orderid, sku) of this unit of work are in the tables, after the lines that ended
        have been deleted."""
        return {key for key in keys - self._session.absent if self.versions[key[1]]}

    def keep_hot(self, written: Mapping[str, int]) -> None:
        """Pass on what is known of the products, now that it is committed; `written` has the versions they got."""
        versions = {**self.versions, **written}
        pages = {
            sku: product.batches.first_page(product.version_number)
            for sku, product in (self._products.items() if self._hot.most else ())
            # A product with another version decided something that was not written, or the other way round.
            if isinstance(product.batches, PagedBatches) and product.version_number == versions[sku]
        }
        self._hot.put(pages)

    def _take_waiting(self, skus: set[str], found: Iterable[OrderLine]) -> None:
        by_sku: dict[str, list[OrderLine]] = {sku: [] for sku in skus}
        for line in found:
            by_sku[line.sku].append(line)
        for sku, page in by_sku.items():
            product = self._products.get(sku)
            if product is not None and isinstance(product.lines, PagedLines):
                product.lines.take_first_waiting(page)

    def _take_lines(self, keys: set[tuple[str, str]], found: Iterable[tuple[OrderLine, Batch | None]]) -> None:
        absent = self._session.absent
        absent |= keys
        for line, batch in found:
            absent.remove((line.orderid, line.sku))
            product = self._products.get(line.sku)
            if product is None:
                continue
            if isinstance(product.lines, PagedLines):
                product.lines.take(line)
            if batch is not None and isinstance(product.batches, PagedBatches):
                product.batches.take(batch)

    def _take_named(self, refs: set[str], found: Iterable[Batch]) -> None:
        self._named |= refs
        self._skus |= dict.fromkeys(refs - self._skus.keys())
        for batch in found:
            self._skus[batch.reference] = batch.sku
            product = self._products.get(batch.sku)
            if product is not None and isinstance(product.batches, PagedBatches):
                product.batches.take(batch)

    def _get(self, sku: str) -> Product | None:
        if sku not in self.versions:
            self._read({sku}, Needs())
        return self._products.get(sku)

    def sku_of(self, batchref: str) -> str | None:
        if batchref not in self._skus:
            found = dict(self._session.rows(self._session.statements.skus_of([batchref])))
            self._skus[batchref] = found.get(batchref)
        return self._skus[batchref]

    def _add(self, product: Product) -> None:
        if product.sku not in self.inserted:
            self._read({product.sku}, Needs(new_skus={product.sku}))
        self._products[product.sku] = product

    def collect_new_events(self) -> list[tuple[Event, int]]:
        events = super().collect_new_events()
        for event, _ in events:
            if type(event) is BatchCreated:
                self._skus[event.ref] = event.sku
        return events
