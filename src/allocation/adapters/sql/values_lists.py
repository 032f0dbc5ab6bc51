"""How rows to insert travel to SQLite: fifty in one VALUES list, and what a column says alike in each row once a list.

Half of what an insert by `executemany` costs is to start the statement and to bind its values, row by row. A list has
to be an INSERT OR FAIL, which leaves the rows before a bad one where they are (the transaction is at its end then): for
an INSERT that takes them back SQLite keeps a copy of each page it changes, which costs more than lists spare.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, count
from typing import Any

from sqlalchemy import Column, Table

from allocation.adapters.sql.columns import alike_in

ROWS = 50
"""In a list. More measured no faster."""


def rows_in_lists(table: Table, conflict: str, rows: int) -> int:
    """How many of so many rows go in lists; the others go one by one. None does if an index of the table holds an
    expression, or if a conflict leads to an update: either may fail, so SQLite keeps those copies all the same."""
    plain = all(isinstance(part, Column) for index in table.indexes for part in index.expressions)
    return rows - rows % ROWS if plain and "UPDATE" not in conflict else 0


class ValuesLists:
    """`alike` are the places of those columns that say the same in every row. `parameters`, a tuple for each list, has
    those first, then row after row what the others say."""

    __slots__ = ("_width", "alike", "parameters")

    def __init__(self, rows: Sequence[Sequence[Any]]) -> None:
        columns = list(zip(*rows, strict=True))
        self._width = len(columns)
        self.alike = alike_in(columns)
        once = [columns[n][0] for n in self.alike]
        apart = list(zip(*(column for n, column in enumerate(columns) if n not in self.alike), strict=True))
        self.parameters = [(*once, *chain.from_iterable(apart[at : at + ROWS])) for at in range(0, len(apart), ROWS)]

    def marks(self) -> str:
        """What stands behind VALUES."""
        apart = count(len(self.alike) + 1)
        return ", ".join(f"({', '.join(self._row(apart))})" for _ in range(ROWS))

    def _row(self, apart: Iterator[int]) -> Iterator[str]:
        for n in range(self._width):
            yield f"?{self.alike.index(n) + 1 if n in self.alike else next(apart)}"
