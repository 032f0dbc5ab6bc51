"""How the databases go about the questions of read models: by an index, and past what is closed."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import Engine, event

from allocation.adapters.clock import SystemClock, TimeOrderedIds
from allocation.adapters.sql.engine import dialect_of, make_engine
from allocation.adapters.sql.migrate import migrate
from allocation.adapters.sql.statements import Statements
from allocation.adapters.sql.subscriptions import SqlSubscriptionStore
from allocation.adapters.sql.unit_of_work import Database, SqlUnitOfWork
from allocation.adapters.sql.views import SqlViews
from allocation.adapters.sql.writing import Writer
from allocation.domain.commands import Allocate, Command, CreateBatch
from allocation.service_layer.envelope import LogPosition
from allocation.service_layer.handlers import COMMAND_HANDLERS
from allocation.service_layer.messagebus import MessageBus
from allocation.service_layer.pull_locks import HEAD
from allocation.service_layer.subscriptions import Lane
from tests.fakes import SetClock

CHAIR = "RED-CHAIR"
CLOSED, OPEN, OTHERS = 300, 2, 500
Explain = Callable[[str, object], str]


@pytest.fixture(params=["sqlite", "postgres"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """A database with many products; nearly all batches of one of them are closed."""
    made = make_engine(request.getfixturevalue(f"{request.param}_url"))
    migrate(made, 1)
    database = Database.of(made, TimeOrderedIds(), SetClock(), 1)
    bus = MessageBus(lambda: SqlUnitOfWork(database), COMMAND_HANDLERS, TimeOrderedIds(), SystemClock())
    commands: list[Command] = [CreateBatch(f"b{n}", CHAIR, 1) for n in range(CLOSED + OPEN)]
    commands += [Allocate(f"o{n}", CHAIR, 1) for n in range(CLOSED)]
    commands += [CreateBatch(f"of-{n}", f"SKU-{n}", 1) for n in range(OTHERS)]
    for answer in bus.handle_many([bus.envelope(command) for command in commands]):
        answer.unwrap()
    with made.connect() as connection:
        connection.exec_driver_sql("ANALYZE")
    yield made
    made.dispose()


def plan(engine: Engine, statement: str, parameters: object) -> str:
    """On PostgreSQL the statement runs, and the plan tells what it met."""
    how = "EXPLAIN QUERY PLAN" if engine.dialect.name == "sqlite" else "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF)"
    with engine.connect() as connection:
        return "\n".join(str(row[-1]) for row in connection.exec_driver_sql(f"{how} {statement}", parameters))  # type: ignore[arg-type]  # as the driver takes them


@contextmanager
def listening(engine: Engine) -> Iterator[list[tuple[str, object]]]:
    """The statements that are executed meanwhile."""
    heard: list[tuple[str, object]] = []

    def hear(_connection: object, _cursor: object, statement: str, parameters: object, *_: object) -> None:
        heard.append((statement, parameters))

    event.listen(engine, "before_cursor_execute", hear)
    yield heard
    event.remove(engine, "before_cursor_execute", hear)


def test_levels_are_read_by_the_index_of_open_batches_and_past_the_closed_ones(engine: Engine) -> None:
    step = Statements(dialect_of(engine)).levels([CHAIR, "NOBODYS"])
    found = plan(engine, step.sql, step.parameters)
    assert "ix_batches_open_by_preference" in found
    if engine.dialect.name == "sqlite":
        assert re.findall(r"SCAN (\w+)", found) == ["json_each"], found
    else:
        assert "Seq Scan" not in found
        assert "Rows Removed" not in found, "no row is read that is not wanted"
        assert re.search(rf"ix_batches_open_by_preference on batches o \(actual rows={OPEN}\b", found), found


@pytest.mark.parametrize("version", [0, 2 * CLOSED + OPEN], ids=["of before", "of now"])
def test_a_hot_product_is_read_like_any_other_if_it_changed_and_else_not_at_all(engine: Engine, version: int) -> None:
    step = Statements(dialect_of(engine)).changed_open_batches({CHAIR: version}, 16)
    found = plan(engine, step.sql, step.parameters)
    if engine.dialect.name == "sqlite":
        assert "ix_batches_open_by_preference" in found
        assert re.findall(r"SCAN (\w+)", found) == ["json_each"], found
    else:
        assert "Seq Scan" not in found
        read = rf"\(actual rows={OPEN}\b" if version == 0 else r"\(never executed\)"
        assert re.search(rf"ix_batches_open_by_preference on batches o {read}", found), found
    with engine.connect() as connection:
        rows = dialect_of(engine).run(connection, [step])[0].rows
    assert len(rows) == (OPEN if version == 0 else 0)


@pytest.mark.parametrize(
    ("ask", "indexes"),
    [
        (lambda views: views.stock([LogPosition(0, 5)], 10), ["ix_stock_levels_by_position"]),
        (lambda views: views.movements(CHAIR), ["movements"]),
        (lambda views: views.position_at(CHAIR, 20), ["event_log"]),
        (lambda views: views.stock_reached(LogPosition(0, 5)), ["subscriptions"]),
    ],
)
def test_a_read_model_is_asked_by_an_index(
    engine: Engine, ask: Callable[[SqlViews], object], indexes: list[str]
) -> None:
    with listening(engine) as heard:
        ask(SqlViews(engine, 1))
    plans = [plan(engine, statement, parameters) for statement, parameters in heard if statement.startswith("SELECT")]
    assert plans
    for found in plans:
        assert "Seq Scan" not in found
        # The heads of the log are all wanted, a row for each partition.
        assert not re.search(r"\bSCAN (?!CONSTANT ROW|log_head USING INDEX)", found), found
    assert all(any(index in found for found in plans) for index in indexes), plans


def test_the_events_of_a_lane_are_read_from_their_place_on_and_not_from_the_first(engine: Engine) -> None:
    last = CLOSED + OPEN + CLOSED
    with listening(engine) as heard:
        found = SqlSubscriptionStore(engine, SetClock()).read_key(Lane("x", CHAIR, 0, last, 0, None, ""), HEAD, 10)
    assert [logged.position.seq for logged in found] == [last]
    [told] = [plan(engine, statement, parameters) for statement, parameters in heard if statement.startswith("SELECT")]
    if engine.dialect.name == "sqlite":
        assert not re.search(r"\bSCAN (?!CONSTANT ROW)", told), told
        assert "(sku=? AND version>?)" in told
    else:
        assert "uq_event_log_stream" in told
        assert "Rows Removed" not in told, told


@pytest.mark.parametrize("engine", ["postgres"], indirect=True)
def test_many_named_products_are_looked_up_one_by_one_and_not_beside_all_others(engine: Engine) -> None:
    """A merge of what a group names with an index reads the whole index: more, the more products there are."""
    named = [f"SKU-{n}" for n in range(0, OTHERS, 2)]
    found = plan(engine, (lock := Statements(dialect_of(engine)).lock(named)).sql, lock.parameters)
    assert "Nested Loop" in found
    assert f"products_pkey on products p (actual rows=1 loops={len(named)})" in found, found


@pytest.mark.parametrize("engine", ["postgres"], indirect=True)
def test_products_of_one_version_are_raised_one_by_one_too(engine: Engine) -> None:
    """What all rows say alike is no filter to begin with. Statistics that know few products of that version would have
    the server read all products for them, and compare each it finds with each of ours."""
    reached = {f"SKU-{n}": 8 for n in range(0, OTHERS, 2)}
    with engine.connect() as connection:
        connection.exec_driver_sql("UPDATE products SET version_number = 7 WHERE sku LIKE 'SKU%%'")
    writer = Writer(dialect_of(engine))
    [step] = writer.versions(dict.fromkeys(reached, 7), reached)
    found = plan(engine, step.sql, step.parameters)
    assert f"products_pkey on products (actual rows=1 loops={len(reached)})" in found, found
