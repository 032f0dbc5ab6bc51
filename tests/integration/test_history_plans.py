"""How the databases go about the past: every question has an index to go by."""

import re
from collections.abc import Callable

from sqlalchemy import Engine

from allocation.adapters.sql.history import SqlHistory
from allocation.adapters.sql.subscriptions import SqlSubscriptionStore
from allocation.service_layer.envelope import LogPosition
from allocation.service_layer.history.ports import Cut
from tests.fakes import NOON, SetClock
from tests.integration.test_plans import CHAIR, engine, listening, plan  # noqa: F401  # `engine` is a fixture


def by_index(found: str) -> None:
    assert "Seq Scan" not in found
    # SCAN of a common table expression or of a constant row is no scan of a table.
    assert re.findall(r"\bSCAN (?!CONSTANT|halves)(\w+)(?! USING)", found) == [], found


QUESTIONS: list[tuple[Callable[[SqlHistory], object], str]] = [
    (lambda past: past.until(0, 800, NOON), "event_log"),
    (lambda past: past.moment_of(LogPosition(0, 5)), "event_log"),
    (lambda past: list(past.facts_of(CHAIR, 5, 300)), "uq_event_log_stream|autoindex_event_log"),
    (lambda past: past.events(CHAIR, [5, 6, 200]), "uq_event_log_stream|autoindex_event_log"),
    (lambda past: past.events_up_to(LogPosition(0, 5), 3), "event_log"),
    (lambda past: past.commands(["a", "b"]), "inbox"),
    (lambda past: past.commands_of("a", 9), "ix_inbox_correlation"),
    (lambda past: past.skus_of_batches(["b1", "b2"]), "batches"),
    (lambda past: past.skus_of_order("o1"), "ix_event_log_cancelled"),
    (lambda past: past.since(CHAIR, ["o1", "o2"]), "order_lines"),
    (lambda past: past.snapshot(CHAIR, 300), "snapshots"),
]


def test_the_past_is_asked_by_an_index(engine: Engine) -> None:  # noqa: F811  # the fixture
    for ask, indexes in QUESTIONS:
        with listening(engine) as heard:
            ask(SqlHistory(engine, 1))
        plans = [plan(engine, statement, parameters) for statement, parameters in heard]
        assert plans
        for found in plans:
            by_index(found)
        assert any(re.search(indexes, found) for found in plans), plans


def test_streams_go_by_an_index(engine: Engine) -> None:  # noqa: F811  # the fixture
    past = SqlHistory(engine, 1)
    by_index(plan(engine, past._facts, (0, 5, 300)))
    by_product = plan(engine, past._facts_by_product, ("A", 2**62, *Cut((300,)).heads, 1000))
    by_index(by_product)
    assert "Sort" not in by_product, "the server sends the first rows while it reads the next"
    assert "TEMP B-TREE" not in by_product


def test_the_end_of_a_log_is_not_sorted_for_each_page(engine: Engine) -> None:  # noqa: F811  # the fixture
    page = ("SKU-3", 2**62, *Cut((2**40,)).heads, 50_000)
    past = SqlHistory(engine, 1)
    with listening(engine) as heard:
        assert len(list(past.facts_by_product("SKU-3", Cut((2**40,))))) == 276
    with engine.connect() as connection:
        for statement, _ in heard[:-1]:  # all but the last, which gives the connection back as it was
            connection.exec_driver_sql(statement)
        how = "EXPLAIN QUERY PLAN" if engine.dialect.name == "sqlite" else "EXPLAIN"
        rows = connection.exec_driver_sql(f"{how} {past._facts_by_product}", page)
        found = "\n".join(str(row[-1]) for row in rows)
        assert "Sort" not in found
        assert "TEMP B-TREE" not in found
        connection.invalidate()


def test_what_was_discarded_is_asked_by_the_key(engine: Engine) -> None:  # noqa: F811  # the fixture
    with listening(engine) as heard:
        SqlSubscriptionStore(engine, SetClock()).discarded(0, 1, 9)
    found = "\n".join(plan(engine, statement, parameters) for statement, parameters in heard)
    assert re.search(r"discards", found)
    assert "Seq Scan on discards" not in found
    assert "SCAN discards" not in found
