"""Corrects the rows of one product, under its lock."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, and_, delete, select
from sqlalchemy.dialects import postgresql, sqlite

from allocation.adapters.sql.asking import BATCH, LINE, Ask, batches_from, history_of
from allocation.adapters.sql.tables import batches, order_lines, products
from allocation.service_layer.books import Correction, LineFields, Locked, Stored

PAGE = 20_000
_KEYS_AT_ONCE = 500


class LockedProduct(Locked):
    """A product that is locked and read when this is made."""

    def __init__(
        self, connection: Connection, ask: Ask, sku: str, after_version: int, orderids: Collection[str]
    ) -> None:
        self._connection, self._sku = connection, sku
        # A row that is absent cannot be locked.
        self._write(products, [{"sku": sku, "version_number": 0}], ())
        connection.execute(select(products.c.sku).where(products.c.sku == sku).with_for_update())
        # Only a statement that begins after the lock was obtained sees what its last holder wrote.
        ((version,),) = ask("SELECT version_number FROM products WHERE sku = ?", sku)
        kept = batches_from(ask(f"SELECT {BATCH} FROM batches WHERE sku = ?", sku))
        lines = {(row[0], row[1]): row for row in self._lines(ask, orderids)}
        self.stored = Stored(sku, version, history_of(ask, sku, after_version, PAGE), kept, list(lines.values()))

    def _lines(self, ask: Ask, orderids: Collection[str]) -> Iterator[LineFields]:
        on_batches = "batches b JOIN order_lines l ON l.batchref = b.reference WHERE b.sku = ?"
        waiting = "order_lines l WHERE l.batchref IS NULL AND l.sku = ?"
        for rows in (on_batches, waiting):
            yield from map(tuple, ask(f"SELECT {LINE} FROM {rows}", self._sku))
        keys = sorted(orderids)
        for n in range(0, len(keys), _KEYS_AT_ONCE):
            named = order_lines.c.orderid.in_(keys[n : n + _KEYS_AT_ONCE]) & (order_lines.c.sku == self._sku)
            yield from map(tuple, self._connection.execute(select(order_lines).where(named)))

    def correct(self, correction: Correction) -> None:
        for n in range(0, len(correction.batches_gone), _KEYS_AT_ONCE):
            gone = correction.batches_gone[n : n + _KEYS_AT_ONCE]
            self._connection.execute(delete(batches).where(batches.c.reference.in_(gone), batches.c.sku == self._sku))
        for orderid, sku in correction.lines_gone:
            here = and_(order_lines.c.orderid == orderid, order_lines.c.sku == sku)
            self._connection.execute(delete(order_lines).where(here))
        names = ("reference", "sku", "purchased_quantity", "allocated_quantity", "eta")
        rows = [
            {name: getattr(batch, name) for name in names}
            | {"created_quantity": batch.created_as[0], "created_eta": batch.created_as[1]}
            for batch in correction.batches
        ]
        self._write(batches, rows, (*names[1:], "created_quantity", "created_eta"))
        fields = ("orderid", "sku", "qty", "batchref", "since")
        self._write(order_lines, [{f: getattr(x, f) for f in fields} for x in correction.lines], fields[2:])
        self._write(products, [{"sku": self._sku, "version_number": correction.version}], ("version_number",))

    def end(self) -> None:
        """Delete a row that was made only to be locked and was then not needed."""
        unused = and_(products.c.sku == self._sku, products.c.version_number == 0)
        self._connection.execute(delete(products).where(unused))

    def _write(self, table: Any, rows: Sequence[dict[str, Any]], changed: Sequence[str]) -> None:
        """Insert rows, or update those that exist."""
        if not rows:
            return
        make: Any = sqlite.insert if self._connection.dialect.name == "sqlite" else postgresql.insert
        statement = make(table)
        key = [column.name for column in table.primary_key]
        if changed:
            new = {name: statement.excluded[name] for name in changed}
            statement = statement.on_conflict_do_update(index_elements=key, set_=new)
        else:
            statement = statement.on_conflict_do_nothing()
        self._connection.execute(statement, list(rows))
