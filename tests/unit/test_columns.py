"""How many rows travel to PostgreSQL in one statement: what is alike in all of them once, the rest as one string."""

import re
from collections.abc import Sequence

import pytest

from allocation.adapters.sql.columns import MANY
from allocation.adapters.sql.dialects import PostgresDialect, Step

UPDATE = "UPDATE batches SET qty = {1}, eta = {2} /*from*/ WHERE reference = {0}"
TYPES = ("text", "int", "date")


def updating(rows: Sequence[tuple[object, ...]]) -> Step:
    return PostgresDialect().updating(UPDATE, TYPES, rows)


def test_what_many_rows_say_alike_travels_once() -> None:
    step = updating([(f"b{n}", 7, None) for n in range(MANY)])
    assert step.parameters == ("7", None, "\x1f".join(f"b{n}" for n in range(MANY)))
    assert re.search(r"FROM \(SELECT %s::int AS c1, %s::date AS c2, unnest\(.*\) AS c0\) AS v", step.sql)
    assert "qty = v.c1, eta = v.c2" in step.sql


def test_few_rows_make_one_statement_whatever_they_say() -> None:
    """Each shape is a statement that has to be planned."""
    few = [updating([(f"b{n}", qty, None) for n in range(MANY - 1)]) for qty in (7, 8)]
    few.append(updating([("b1", 7, "2031-01-01")]))
    assert len({step.sql for step in few}) == 1
    assert few[2].parameters == ("b1", "7", "2031-01-01")


def test_a_column_with_one_other_value_travels_whole() -> None:
    rows = [(f"b{n}", 7, None) for n in range(MANY)]
    rows[MANY // 2] = ("b", 8, None)
    assert updating(rows).parameters[1:] == (
        "\x1f".join(ref for ref, _, _ in rows),
        "\x1f".join(str(qty) for _, qty, _ in rows),
    )


def test_all_alike_are_still_as_many_rows() -> None:
    """Two rows that say the same are two: what is alike in every column travels once, and the first column as often as
    there are rows."""
    step = updating([("b1", 7, None)] * MANY)
    assert step.parameters[-1] == "\x1f".join(["b1"] * MANY)


@pytest.mark.parametrize("text", ["a\x1fb", "a\x1eb"])
def test_a_text_that_holds_a_mark_of_ours_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="control character"):
        updating([("b1", 1, None), (text, 2, None)])
