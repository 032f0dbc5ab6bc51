"""Products out of tables: loaded as far as a decision needs them, and read on when it asks for more."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Set
from dataclasses import dataclass
from datetime import date
from heapq import merge

from sqlalchemy import Connection

from allocation.adapters.sql.errors import translated
from allocation.adapters.sql.statements import Statements
from allocation.domain.events import BatchCreated, Event
from allocation.domain.model import Batch, Batches, Lines, OrderLine, Product
from allocation.domain.preferences import preference
from allocation.service_layer.needs import Needs
from allocation.service_layer.unit_of_work import Repository

END_OF_TIME = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Pages:
    """How much is read at once. Any size decides the same."""

    batches: int = 16
    lines: int = 100


@dataclass(frozen=True, slots=True)
class Reader:
    """What lazy collections read with: the unit of work's connection, and how."""

    connection: Connection
    statements: Statements
    pages: Pages


class PagedBatches(Batches):
    """The open batches read so far, in order of preference up to `_horizon` (None: all), and those named."""

    def __init__(self, sku: str, reader: Reader, named: Set[str], first_page: list[Batch]) -> None:
        """`named`: references that were looked up for the whole group; those not here are not of this product."""
        super().__init__(first_page)
        self._sku, self._reader, self._named = sku, reader, named
        self._absent: set[str] = set()
        self._horizon: tuple[date, str] | None = None
        self._turn(first_page)

    def get(self, ref: str) -> Batch | None:
        batch = self._by_reference.get(ref)
        if batch is None and ref not in self._named and ref not in self._absent:
            self._absent.add(ref)
            with translated():
                found = self._reader.statements.named_batches(self._reader.connection, [ref])
            for batch in found:
                if batch.sku == self._sku:
                    self.add(batch)
            return self._by_reference.get(ref)
        return batch

    def take(self, batch: Batch) -> None:
        """Have a batch that was read by its name, unless it is here already: that one may have changed since."""
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
        reader = self._reader
        with translated():
            page = reader.statements.next_open_batches(
                reader.connection, self._sku, self._horizon, reader.pages.batches
            )
        for batch in page:
            self.take(batch)
        self._turn(page)

    def _turn(self, page: list[Batch]) -> None:
        full = len(page) == self._reader.pages.batches
        self._horizon = max(map(preference, page)) if full else None


class PagedLines(Lines):
    """The lines read or changed so far; what a page of the database tells of those is out of date and passed over."""

    def __init__(self, sku: str, reader: Reader) -> None:
        super().__init__()
        self._sku, self._reader = sku, reader
        self._absent: set[str] = set()

    def get(self, orderid: str, default: OrderLine | None = None) -> OrderLine | None:  # type: ignore[override]  # one default, never another type
        line = super().get(orderid)
        if line is None and orderid not in self._absent:
            reader = self._reader
            with translated():
                found = reader.statements.lines(reader.connection, [(orderid, self._sku)])
            self.take(orderid, found[0][0] if found else None)
            line = super().get(orderid)
        return line if line is not None else default

    def __delitem__(self, orderid: str) -> None:
        super().__delitem__(orderid)
        self._absent.add(orderid)

    def take(self, orderid: str, line: OrderLine | None) -> None:
        """Have what was read of a line (None: it is not there), unless it is known already."""
        if line is None:
            self._absent.add(orderid)
        else:
            self.setdefault(orderid, line)

    def newest_on(self, ref: str) -> Iterator[OrderLine]:
        reader = self._reader

        def read(before: int) -> list[OrderLine]:
            return reader.statements.newest_on(reader.connection, ref, before, reader.pages.lines)

        known = sorted((x for x in self.values() if x.batchref == ref), key=lambda x: -x.since)
        return merge(known, self._unknown(read, END_OF_TIME), key=lambda x: -x.since)

    def oldest_waiting(self, at_most: Callable[[], int]) -> Iterator[OrderLine]:
        reader = self._reader

        def read(after: int) -> list[OrderLine]:
            most = at_most()
            return (
                reader.statements.oldest_waiting(reader.connection, self._sku, most, after, reader.pages.lines)
                if most > 0
                else []
            )

        known = sorted((x for x in self.values() if x.batchref is None), key=lambda x: x.since)
        for line in merge(known, self._unknown(read, 0), key=lambda x: x.since):
            if line.qty <= at_most():
                yield line

    def _unknown(self, read: Callable[[int], list[OrderLine]], start: int) -> Iterator[OrderLine]:
        """Page after page of lines that were neither read nor changed before, each kept from now on."""
        place = start
        while True:
            with translated():
                page = read(place)
            for line in page:
                place = line.since
                if line.orderid not in self and line.orderid not in self._absent:
                    self[line.orderid] = line
                    yield line
            if len(page) < self._reader.pages.lines:
                return


class SqlRepository(Repository):
    """The products of one unit of work, by identity. `versions` holds what was locked, as it was loaded."""

    def __init__(self, reader: Reader) -> None:
        super().__init__()
        self._reader = reader
        self._products: dict[str, Product] = {}
        self._skus: dict[str, str | None] = {}
        self._named: set[str] = set()
        self.versions: dict[str, int] = {}
        self.inserted: set[str] = set()

    def load(self, needs: Needs) -> None:
        """Lock and read what a group names, in a fixed number of statements."""
        connection, statements = self._reader.connection, self._reader.statements
        skus = set(needs.skus)
        if needs.new_skus:
            self._insert(needs.new_skus)
        if needs.refs:
            found = statements.skus_of(connection, needs.refs)
            self._skus.update({ref: found.get(ref) for ref in needs.refs})
            skus.update(found.values())
        if not skus:
            return
        self._lock(skus)
        self._named.update(needs.refs)
        if needs.refs and self._products:
            for batch in statements.named_batches(connection, needs.refs):
                if product := self._products.get(batch.sku):
                    _paged(product).take(batch)
        if needs.lines and self._products:
            self._load_lines(needs.lines)

    def _load_lines(self, keys: Collection[tuple[str, str]]) -> None:
        read = {(line.orderid, line.sku): (line, batch) for line, batch in self._lines_of(keys)}
        for orderid, sku in keys:
            if (product := self._products.get(sku)) is None:
                continue
            line, batch = read.get((orderid, sku), (None, None))
            if isinstance(product.lines, PagedLines):
                product.lines.take(orderid, line)
            if batch is not None:
                _paged(product).take(batch)

    def _lines_of(self, keys: Collection[tuple[str, str]]) -> list[tuple[OrderLine, Batch | None]]:
        return self._reader.statements.lines(self._reader.connection, keys)

    def _lock(self, skus: set[str]) -> None:
        connection, statements = self._reader.connection, self._reader.statements
        locked = statements.lock(connection, skus)
        self.versions.update(dict.fromkeys(skus, 0) | locked)
        there = [sku for sku, version in locked.items() if version]
        if not there:
            return
        pages: dict[str, list[Batch]] = {sku: [] for sku in there}
        for batch in statements.first_open_batches(connection, there, self._reader.pages.batches):
            pages[batch.sku].append(batch)
        for sku, page in pages.items():
            self._products[sku] = self._product(sku, page, locked[sku])

    def _product(self, sku: str, page: list[Batch], version: int) -> Product:
        lines = PagedLines(sku, self._reader)
        return Product(sku, PagedBatches(sku, self._reader, self._named, page), version, lines)

    def _insert(self, skus: Collection[str]) -> None:
        self.inserted.update(skus)
        self._reader.statements.insert_products(self._reader.connection, sorted(skus))

    def _get(self, sku: str) -> Product | None:
        if sku not in self.versions:
            with translated():
                self._lock({sku})
        return self._products.get(sku)

    def _sku_of(self, batchref: str) -> str | None:
        if batchref not in self._skus:
            with translated():
                self._skus |= self._reader.statements.skus_of(self._reader.connection, [batchref])
        return self._skus.get(batchref)

    def _add(self, product: Product) -> None:
        if product.sku not in self.inserted:
            with translated():
                self._insert([product.sku])
                self._lock({product.sku})
        self._products[product.sku] = product

    def collect_new_events(self) -> list[tuple[Event, int]]:
        events = super().collect_new_events()
        for event, _ in events:
            if type(event) is BatchCreated:
                self._skus[event.ref] = event.sku
        return events


def _paged(product: Product) -> PagedBatches:
    assert isinstance(product.batches, PagedBatches)
    return product.batches
