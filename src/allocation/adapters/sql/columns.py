"""How rows travel to PostgreSQL: each column as one string, which the server splits.

`unnest(string_to_array(...))` was measured to be faster than COPY, JSON, lists and executemany. If a column has the
same value in each of many rows, it travels once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

Columns = Sequence[Sequence[Any]]
"""Rows, column by column."""

MANY = 100
"""From this number of rows on, a column with the same value in each row travels once."""

_SEPARATOR, _NULL = "\x1f", "\x1e"


class ColumnsOfText:
    """Rows to write, column by column. `alike`: the places of the columns with the same value in every row."""

    __slots__ = ("_columns", "alike")

    def __init__(self, columns: Columns) -> None:
        self._columns = columns
        # Few rows are rarely alike in the same columns twice: each time there would be a new statement to plan.
        self.alike = alike_in(columns) if len(columns[0]) >= MANY else ()

    def source(self, names: Sequence[str], types: Sequence[str]) -> str:
        """The FROM item `v` that gives the rows back."""
        apart = [n for n in range(len(names)) if n not in self.alike]
        return unnest(
            "v",
            [names[n] for n in apart],
            [types[n] for n in apart],
            [f"?::{types[n]} AS {names[n]}" for n in self.alike],
        )

    def parameters(self) -> tuple[str | None, ...]:
        once = (None if x is None else str(x) for x in (self._columns[n][0] for n in self.alike))
        return (*once, *(joined(column) for n, column in enumerate(self._columns) if n not in self.alike))


def alike_in(columns: Columns) -> tuple[int, ...]:
    """The places of columns with the same value in every row; if that is all columns, of all but one, which shows how
    many rows there are."""
    alike = [
        n for n, column in enumerate(columns) if column[0] == column[-1] and column.count(column[0]) == len(column)
    ]
    return tuple(alike[1:] if len(alike) == len(columns) else alike)


def unnest(alias: str, columns: Iterable[str], types: Iterable[str], alike: Sequence[str] = ()) -> str:
    """A FROM item that gives the rows back, with the columns that are `alike` first.

    In a SELECT list the columns are split side by side; as functions in FROM, each would first be stored as a whole.
    Besides, the planner does not look into such a list: if it knew that a column has only one value, it would first
    search the whole table for that value, and then compare each row found with each of ours.
    """
    # A single row whose text is empty would be split into no row at all.
    apart = (
        f"unnest(coalesce(nullif(string_to_array(?, E'\\x1f', E'\\x1e'), '{{}}'), array[''])::{kind}[]) AS {name}"
        for name, kind in zip(columns, types, strict=True)
    )
    return f"(SELECT {', '.join((*alike, *apart))}) AS {alias}"


def joined(column: Sequence[Any]) -> str:
    """A column as one string. Raises `ValueError` if a field contains one of our marks, which would change the
    meaning."""
    nulls = column.count(None)
    if nulls:
        column = [_NULL if x is None else str(x) for x in column]
    text = _SEPARATOR.join(column if isinstance(column[0], str) else map(str, column))
    if text.count(_SEPARATOR) != len(column) - 1 or text.count(_NULL) != nulls:
        raise ValueError("a text holds a control character that separates rows or stands for NULL")
    return text
