"""How rows to insert travel to SQLite: fifty in one VALUES list, and a value that is the same in each row once for each
list.

Half of the cost of an insert by `executemany` is starting the statement and binding its values, row by row. A list has
to be an INSERT OR FAIL, which leaves the rows before a bad one where they are (the transaction is over then): for an
INSERT that undoes them, SQLite keeps a copy of each page it changes, which costs more than lists save.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, count
from typing import Any

from sqlalchemy import Column, Table

from allocation.adapters.sql.columns import alike_in

ROWS = 50
"""Rows in a list. More were measured to be no faster."""


def rows_in_lists(table: Table, conflict: str, rows: int) -> int:
    """How many of these rows go in lists; the others go one by one. None go in lists if an index of the table contains
    an expression, or if a conflict leads to an update: either may fail, so SQLite keeps those copies all the same."""
    plain = all(isinstance(part, Column) for index in table.indexes for part in index.expressions)
    return rows - rows % ROWS if plain and "UPDATE" not in conflict else 0


class ValuesLists:
    """`alike` are the places of the columns with the same value in every row. `parameters`, a tuple for each list, has
    those values first, then row after row the values of the other columns."""

    __slots__ = ("_width", "alike", "parameters")

    def __init__(self, rows: Sequence[Sequence[Any]]) -> None:
        columns = list(zip(*rows, strict=True))
        self._width = len(columns)
        self.alike = alike_in(columns)
        once = [columns[n][0] for n in self.alike]
        apart = list(zip(*(column for n, column in enumerate(columns) if n not in self.alike), strict=True))
        self.parameters = [(*once, *chain.from_iterable(apart[at : at + ROWS])) for at in range(0, len(apart), ROWS)]

    def marks(self) -> str:
        """What follows VALUES."""
        apart = count(len(self.alike) + 1)
        return ", ".join(f"({', '.join(self._row(apart))})" for _ in range(ROWS))

    def _row(self, apart: Iterator[int]) -> Iterator[str]:
        for n in range(self._width):
            yield f"?{self.alike.index(n) + 1 if n in self.alike else next(apart)}"
