"""Every reading statement, written once for both databases (`dialects` has what differs)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import date
from typing import Any

from allocation.adapters.serialization import to_date
from allocation.adapters.sql.dialects import Dialect, Step
from allocation.adapters.sql.tables import products
from allocation.domain.model import Batch, OrderLine

_BATCH = "b.reference, b.sku, b.purchased_quantity, b.allocated_quantity, b.eta, b.created_quantity, b.created_eta"
_LINE = "l.orderid, l.sku, l.qty, l.batchref, l.since"
_INBOX = (
    "i.source, i.id, i.client, i.type, i.body, i.outcome, i.log_partition, i.position, i.at, i.correlation_id, "
    "i.causation_id, i.traceparent"
)


class Statements:
    """Reads, bound to a dialect; stateless, shared by all units of work."""

    def __init__(self, dialect: Dialect) -> None:
        self.dialect = dialect
        sql, d = dialect.sql, dialect
        self._skus_of = sql(
            f"SELECT b.reference, b.sku FROM {d.rows('v', 'ref')} {d.one_of('batches', 'b', 'b.reference = v.ref')}"
        )
        self._lock = sql(
            f"SELECT p.sku, p.version_number FROM {d.rows('v', 'sku')} JOIN products p ON p.sku = v.sku "
            f"ORDER BY p.sku {d.for_update('p')}"
        )
        self._first_open = sql(d.first_open_batches(d.rows("v", "sku"), _BATCH))
        moved = (
            f"(SELECT p.sku FROM {d.rows('k', 'sku', 'version')} "
            f"{d.one_of('products', 'p', 'p.sku = k.sku AND CAST(p.version_number AS text) <> k.version')}) v"
        )
        self._changed_open = sql(d.first_open_batches(moved, _BATCH))
        self._next_open = sql(
            f"SELECT {_BATCH} FROM batches b WHERE b.sku = ? AND b.is_open AND (coalesce(b.eta, '0001-01-01'), "
            "b.reference) > (?, ?) ORDER BY coalesce(b.eta, '0001-01-01'), b.reference LIMIT ?"
        )
        self._named = sql(
            f"SELECT {_BATCH} FROM {d.rows('v', 'ref')} {d.one_of('batches', 'b', 'b.reference = v.ref')}"
        )
        self._lines = sql(
            f"SELECT {_LINE}, {_BATCH} FROM {d.rows('v', 'orderid', 'sku')} "
            f"{d.one_of('order_lines', 'l', 'l.orderid = v.orderid AND l.sku = v.sku')} "
            f"{d.one_of('batches', 'b', 'b.reference = l.batchref', outer=True)}"
        )
        self._newest_on = sql(
            f"SELECT {_LINE} FROM order_lines l WHERE l.batchref = ? AND l.since < ? ORDER BY l.since DESC LIMIT ?"
        )
        self._oldest_waiting, self._waiting_order = _numbered(
            "WITH RECURSIVE sizes(qty) AS ("
            "SELECT (SELECT min(w.qty) FROM order_lines w WHERE w.sku = :sku AND w.batchref IS NULL) UNION ALL "
            "SELECT (SELECT min(w.qty) FROM order_lines w WHERE w.sku = :sku AND w.batchref IS NULL "
            "AND w.qty > sizes.qty) FROM sizes WHERE sizes.qty < :most) "
            f"{d.waiting_of_each_size(_LINE)} WHERE sizes.qty <= :most ORDER BY l.since LIMIT :page",
            sql,
        )
        self._logged = sql("SELECT position FROM event_log WHERE sku = ? AND version = ? AND id = ?")
        self._first_waiting = sql(d.first_waiting(d.rows("v", "sku"), _LINE))
        self._levels = sql(
            f"SELECT p.sku, p.version_number, {_BATCH} FROM {d.rows('v', 'sku')} "
            f"{d.one_of('products', 'p', 'p.sku = v.sku')} {d.open_batches_of('p.sku')} WHERE p.version_number > 0"
        )
        self._inbox = sql(
            f"SELECT {_INBOX} FROM {d.rows('v', 'source', 'id')} "
            f"{d.one_of('inbox', 'i', 'i.source = v.source AND i.id = v.id')}"
        )

    def skus_of(self, refs: Collection[str]) -> Step:
        """(reference, sku) of each batch that exists."""
        return self.dialect.reading(self._skus_of, _column(sorted(refs)))

    def insert_products(self, skus: Collection[str]) -> Step:
        """Make the products that are absent, at version 0: an absent row cannot be locked."""
        return self.dialect.inserting(products, [(sku, 0) for sku in sorted(skus)], "ON CONFLICT DO NOTHING")

    def lock(self, skus: Collection[str]) -> Step:
        """Lock the products that exist, in sku order: (sku, version)."""
        return self.dialect.reading(self._lock, _column(sorted(skus)))

    def first_open_batches(self, skus: Collection[str], page: int) -> Step:
        """For each sku, the first page of open batches, in order of preference."""
        return self.dialect.reading(self._first_open, _column(sorted(skus)), page)

    def changed_open_batches(self, versions: Mapping[str, int], page: int) -> Step:
        """The same, but only of those that are not at the version given."""
        known = [(sku, str(version)) for sku, version in versions.items()]
        return self.dialect.reading(self._changed_open, known, page)

    def next_open_batches(self, sku: str, after: tuple[date, str], page: int) -> Step:
        return Step(self._next_open, (sku, after[0].isoformat(), after[1], page))

    def named_batches(self, refs: Collection[str]) -> Step:
        return self.dialect.reading(self._named, _column(sorted(refs)))

    def lines(self, keys: Collection[tuple[str, str]]) -> Step:
        """The lines that exist for these (orderid, sku), each with the batch it is on."""
        return self.dialect.reading(self._lines, sorted(keys))

    def newest_on(self, ref: str, before: int, page: int) -> Step:
        return Step(self._newest_on, (ref, before, page))

    def oldest_waiting(self, sku: str, at_most: int, after: int, page: int) -> Step:
        """The first page, by age, of the lines that wait for at most so many pieces.

        Hops from one quantity to the next in the index and takes the oldest of each: its cost depends on how many
        different quantities wait, not on how many lines.
        """
        values = {"sku": sku, "most": at_most, "after": after, "page": page}
        return Step(self._oldest_waiting, tuple(values[name] for name in self._waiting_order))

    def first_waiting(self, skus: Collection[str], page: int) -> Step:
        """For each sku, the first page of waiting lines, the smallest first."""
        return self.dialect.reading(self._first_waiting, _column(sorted(skus)), page)

    def logged(self, sku: str, version: int, event_id: str) -> Step:
        """The position of an event, if it is in the log."""
        return Step(self._logged, (sku, version, event_id))

    def levels(self, skus: Collection[str]) -> Step:
        """(sku, version, an open batch or NULLs) of each product that exists: in one statement, so all as of one
        moment."""
        return self.dialect.reading(self._levels, _column(skus))

    def inbox(self, keys: Collection[tuple[str, str]]) -> Step:
        """The rows of the inbox for (source, id)."""
        return self.dialect.reading(self._inbox, sorted(keys))


def batch_from(row: Sequence[Any]) -> Batch:
    ref, sku, purchased, allocated, eta, created_quantity, created_eta = row
    created_as = (created_quantity, created_eta and to_date(created_eta))
    return Batch(ref, sku, purchased, eta and to_date(eta), allocated, created_as)


def line_from(row: Sequence[Any]) -> OrderLine:
    return OrderLine(*row)


def line_and_batch_from(row: Sequence[Any]) -> tuple[OrderLine, Batch | None]:
    return OrderLine(*row[:5]), batch_from(row[5:]) if row[5] is not None else None


def _column(values: Iterable[str]) -> list[tuple[str]]:
    return [(value,) for value in values]


def _numbered(statement: str, sql: Any) -> tuple[str, list[str]]:
    """Turn `:name` into marks; also returns the names in their order."""
    names: list[str] = []
    words = statement.split(":")
    marked = words[0]
    for word in words[1:]:
        name = next(n for n in ("sku", "most", "after", "page") if word.startswith(n))
        names.append(name)
        marked += "?" + word[len(name) :]
    return sql(marked), names
