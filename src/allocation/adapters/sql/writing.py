"""Everything that writes state: the final rows of what a group changed, in bulk: one statement for each
table and kind of change.

Steps are made when they are requested: the server writes one table while the rows of the next are made.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Set
from datetime import date
from typing import Any

from allocation.adapters.sql.dialects import Dialect, Step
from allocation.adapters.sql.projector import BatchRow, Rows
from allocation.adapters.sql.tables import batches, order_lines
from allocation.domain.events import BatchCreated

_CHANGE_BATCH = (
    "UPDATE batches SET allocated_quantity = allocated_quantity + {1}, "
    "purchased_quantity = coalesce({2}, purchased_quantity), eta = CASE WHEN {3} = 1 THEN {4} ELSE eta END "
    "/*from*/ WHERE batches.reference = {0}"
)
_DELETE_LINE = "DELETE FROM order_lines /*using*/ WHERE order_lines.orderid = {0} AND order_lines.sku = {1}"
_RAISE_VERSION = (
    "UPDATE products SET version_number = {2} /*from*/ WHERE products.sku = {0} AND products.version_number = {1}"
)
_TAKE_FROM_BATCH = (
    "UPDATE batches SET allocated_quantity = allocated_quantity + {1} /*from*/ WHERE batches.reference = {0}"
)
_MOVE_LINE = "UPDATE order_lines SET batchref = {2} /*from*/ WHERE order_lines.orderid = {0} AND order_lines.sku = {1}"
_DELETE_UNUSED = "DELETE FROM products /*using*/ WHERE products.sku = {0} AND products.version_number = 0"


class Writer:
    """Makes the steps that write; bound to a dialect, stateless, shared by all units of work."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect

    def versions(self, loaded: Mapping[str, int], reached: Mapping[str, int]) -> Iterator[Step]:
        """Raise the products' versions, if each is still as it was loaded."""
        if reached:
            rows = [(sku, loaded[sku], version) for sku, version in sorted(reached.items())]
            yield self._dialect.updating(_RAISE_VERSION, ("text", "bigint", "bigint"), rows, meets_all=True)

    def state(self, rows: Rows, stored: Set[tuple[str, str]]) -> Iterator[Step]:
        """Write the final rows of what changed. `stored` are those of its order lines, by order and sku, that are in
        the tables."""
        yield from self._batches(rows)
        yield from self._lines(rows, stored)

    def _batches(self, rows: Rows) -> Iterator[Step]:
        created: list[tuple[Any, ...]] = []
        taken: list[tuple[Any, ...]] = []
        changed: list[tuple[Any, ...]] = []
        for ref in sorted(rows.batches):
            batch = rows.batches[ref]
            if batch.created is not None:
                created.append(_created_row(ref, batch, batch.created))
            elif batch.qty is None and not batch.moved:
                taken.append((ref, batch.allocated))
            else:
                changed.append((ref, batch.allocated, batch.qty, int(batch.moved), _day(batch.eta)))
        if created:
            yield self._dialect.inserting(batches, created)
        if taken:
            yield self._dialect.updating(_TAKE_FROM_BATCH, ("text", "int"), taken, meets_all=True)
        if changed:
            types = ("text", "int", "int", "int", "date")
            yield self._dialect.updating(_CHANGE_BATCH, types, changed, meets_all=True)

    def _lines(self, rows: Rows, stored: Set[tuple[str, str]]) -> Iterator[Step]:
        if rows.gone:
            yield self._dialect.updating(_DELETE_LINE, ("text", "text"), sorted(rows.gone))
        if new := [(*key, *line) for key, line in rows.lines.items() if key not in stored]:
            yield self._dialect.inserting(order_lines, new)
        if moved := [(*key, rows.lines[key][1]) for key in sorted(stored)]:
            yield self._dialect.updating(_MOVE_LINE, ("text", "text", "text"), moved, meets_all=True)

    def delete_unused(self, skus: Collection[str]) -> Iterator[Step]:
        """Delete products that were made only to be locked and then got no event."""
        if skus:
            yield self._dialect.updating(_DELETE_UNUSED, ("text",), [(sku,) for sku in sorted(skus)])


def _created_row(ref: str, batch: BatchRow, created: BatchCreated) -> tuple[Any, ...]:
    return (ref, created.sku, batch.qty, batch.allocated, _day(batch.eta), created.qty, _day(created.eta))


def _day(day: date | None) -> str | None:
    return None if day is None else day.isoformat()
