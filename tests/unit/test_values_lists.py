"""How many rows to insert travel to SQLite: fifty in one list, those left over one by one, and each as it was given."""

import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from sqlalchemy import Connection, create_engine
from sqlalchemy.pool import StaticPool

from allocation.adapters.sql.dialects import SqliteDialect, Step
from allocation.adapters.sql.tables import metadata, order_lines, products
from allocation.adapters.sql.values_lists import ROWS


@pytest.fixture
def connection() -> Iterator[Connection]:
    engine = create_engine("sqlite://", poolclass=StaticPool)
    metadata.create_all(engine)
    with engine.connect() as connected:
        yield connected


def run(connection: Connection, step: Step) -> None:
    SqliteDialect().run(connection, [step])


def lines(how_many: int, *more: Any) -> list[tuple[Any, ...]]:
    """Order lines that differ in their orders, and say `more` alike."""
    return [(f"o-{n}", *more) for n in range(how_many)]


def found(connection: Connection) -> Sequence[Any]:
    return list(map(tuple, connection.exec_driver_sql("SELECT * FROM order_lines ORDER BY rowid")))


@pytest.mark.parametrize("how_many", [1, ROWS - 1, ROWS, ROWS + 1, 3 * ROWS - 1, 3 * ROWS])
@pytest.mark.parametrize("alike", [True, False])
def test_however_many_rows_there_are_each_is_there_once_as_it_was_given(
    connection: Connection, how_many: int, alike: bool
) -> None:
    rows = lines(how_many, "TABLE", 7, None, 1)
    if not alike:
        rows = [(order, f"TABLE-{n}", n + 1, f"b{n}" if n % 2 else None, n) for n, (order, *_) in enumerate(rows)]
    run(connection, SqliteDialect().inserting(order_lines, rows))
    assert found(connection) == rows


def test_what_rows_say_alike_is_bound_once_a_list() -> None:
    step = SqliteDialect().inserting(order_lines, lines(2 * ROWS + 1, "TABLE", 7, None, 1))
    assert step.lists is not None
    statement, parameters = step.lists
    assert statement.count("(?5, ") == 1
    assert statement.count("?1, ?2, ?3, ?4)") == ROWS
    assert [p[:5] for p in parameters] == [("TABLE", 7, None, 1, "o-0"), ("TABLE", 7, None, 1, f"o-{ROWS}")]
    assert step.parameters == [(f"o-{2 * ROWS}", "TABLE", 7, None, 1)], "the one that is left over"


def test_rows_that_say_the_same_throughout_are_as_many_as_they_are(connection: Connection) -> None:
    step = SqliteDialect().inserting(products, [("TABLE", 0)] * ROWS, "ON CONFLICT DO NOTHING")
    assert step.lists is not None
    assert step.lists[0].count("(") == ROWS + 1
    run(connection, step)
    assert connection.exec_driver_sql("SELECT * FROM products").fetchall() == [("TABLE", 0)]


@pytest.mark.parametrize("bad", [0, ROWS // 2, ROWS - 1, 2 * ROWS])
def test_a_row_that_is_refused_fails_the_transaction_and_nothing_stays(connection: Connection, bad: int) -> None:
    rows = lines(2 * ROWS + 1, "TABLE", 7, None, 1)
    rows[bad] = ("o-1" if bad != 1 else "o-2", *rows[bad][1:])
    connection.exec_driver_sql("BEGIN")
    with pytest.raises(sqlite3.IntegrityError):
        run(connection, SqliteDialect().inserting(order_lines, rows))
    connection.exec_driver_sql("ROLLBACK")
    assert found(connection) == []


def test_where_an_index_holds_an_expression_rows_go_one_by_one() -> None:
    """A list would be slower there."""
    width = {table: sum(c.computed is None for c in table.columns) for table in metadata.tables.values()}
    steps = {table.name: SqliteDialect().inserting(table, [tuple("x" * n)] * ROWS) for table, n in width.items()}
    assert {name for name, step in steps.items() if step.lists is None} == {"batches", "event_log"}
    assert len(steps["event_log"].parameters) == ROWS


def test_where_a_conflict_leads_to_an_update_rows_go_one_by_one() -> None:
    """There too."""
    step = SqliteDialect().inserting(products, [("A", 1)] * ROWS, "ON CONFLICT (sku) DO UPDATE SET version_number = 1")
    assert step.lists is None
    assert len(step.parameters) == ROWS
