"""How rows travel to PostgreSQL: each column as one string, which the server cuts up itself.

`unnest(string_to_array(...))` measured faster than COPY, JSON, lists and executemany. What a column says alike in each
of many rows travels once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

Columns = Sequence[Sequence[Any]]
"""Rows, column by column."""

MANY = 100
"""From so many rows on, a column that says the same in each travels once."""

_SEPARATOR, _NULL = "\x1f", "\x1e"


class ColumnsOfText:
    """Rows to write, column by column. `alike`: the places of those that say the same in every row."""

    __slots__ = ("_columns", "alike")

    def __init__(self, columns: Columns) -> None:
        self._columns = columns
        # Few rows are rarely alike twice in the same places: each time would be a statement to plan anew.
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
    """The places of columns that say the same in every row; of all but one if they all do: one tells how many rows."""
    alike = [
        n for n, column in enumerate(columns) if column[0] == column[-1] and column.count(column[0]) == len(column)
    ]
    return tuple(alike[1:] if len(alike) == len(columns) else alike)


def unnest(alias: str, columns: Iterable[str], types: Iterable[str], alike: Sequence[str] = ()) -> str:
    """A FROM item that gives rows back, what is `alike` in each first.

    In the list of a SELECT the columns are taken apart side by side; as functions in FROM each would be kept whole
    first. Nor does the planner look into such a list: of a column known to be one value it would look for that value in
    the table first, through all of it, and then compare each row found with each of ours.
    """
    # One row whose text is empty would be cut into no row at all.
    apart = (
        f"unnest(coalesce(nullif(string_to_array(?, E'\\x1f', E'\\x1e'), '{{}}'), array[''])::{kind}[]) AS {name}"
        for name, kind in zip(columns, types, strict=True)
    )
    return f"(SELECT {', '.join((*alike, *apart))}) AS {alias}"


def joined(column: Sequence[Any]) -> str:
    """A column as one string. Raises `ValueError` if a field holds a mark of ours: it would say something else."""
    nulls = column.count(None)
    if nulls:
        column = [_NULL if x is None else str(x) for x in column]
    text = _SEPARATOR.join(column if isinstance(column[0], str) else map(str, column))
    if text.count(_SEPARATOR) != len(column) - 1 or text.count(_NULL) != nulls:
        raise ValueError("a text holds a control character that separates rows or stands for NULL")
    return text
