"""Rows of files for imports."""

from __future__ import annotations

import io

from allocation.domain.commands import Command, IfShort
from allocation.entrypoints.importing.from_csv import CsvRows
from allocation.entrypoints.importing.rows import BadRow, Rows, Shape, orders

ORDERS = orders(IfShort.WAIT)
REFUSING = orders(IfShort.REFUSE)


def csv_rows(content: str | bytes, shape: Shape = ORDERS, name: str = "orders.csv") -> CsvRows:
    return CsvRows(io.BytesIO(content if isinstance(content, bytes) else content.encode()), name, shape)


def read(rows: Rows, size: int = 1000) -> tuple[list[tuple[int, Command]], list[BadRow]]:
    groups = list(rows.groups(size))
    return [x for g in groups for x in zip(g.numbers, g.commands, strict=True)], [x for g in groups for x in g.bad]
