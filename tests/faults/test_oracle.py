"""The oracle of what has to be so after the commit sees what is wrong: each fault is made by hand, and is told."""

import json
from dataclasses import replace

import pytest

from allocation.bootstrap import bootstrap
from allocation.config import load_settings
from allocation.domain.commands import Allocate, ChangeBatchQuantity, CreateBatch
from tests.e2e.truth import Tables, read_tables
from tests.faults.oracle import (
    AfterTheCommit,
    Seen,
    Sent,
    await_head,
    faults_after_the_commit,
    faults_of_commands,
    faults_of_facts,
    faults_of_mail,
    faults_of_told_levels,
    faults_of_told_lines,
    read_after_the_commit,
)

CHAIR, SOURCE = "RED-CHAIR", "redis allocation:commands:0"


@pytest.fixture
def found(sqlite_url: str) -> tuple[Tables, AfterTheCommit]:
    """A day in a small shop, delivered to the read models."""
    shop = bootstrap(load_settings(database_url=sqlite_url))
    shop.bus.handle(CreateBatch("b1", CHAIR, 10))
    shop.bus.handle(Allocate("o1", CHAIR, 4))
    shop.bus.handle(Allocate("waits", CHAIR, 9))
    shop.bus.ask(shop.bus.envelope(ChangeBatchQuantity("b1", 5), "change-1", source=SOURCE)).unwrap()
    shop.worker.start()
    await_head(sqlite_url)
    shop.close()
    return read_tables(sqlite_url), read_after_the_commit(sqlite_url)


def facts(tables: Tables) -> list[Seen]:
    return [Seen(r["id"], r["sku"], r["version"], r["type"], json.loads(r["data"])) for r in tables.log]


def test_what_is_right_is_right(found: tuple[Tables, AfterTheCommit]) -> None:
    tables, after = found
    assert faults_after_the_commit(tables, after) == []
    assert faults_of_facts(facts(tables), tables) == []
    assert [row["type"] for row in tables.log].count("OutOfStock") == 1


def test_an_event_counted_twice_or_not_at_all_shows(found: tuple[Tables, AfterTheCommit]) -> None:
    tables, after = found
    for wrong in (8, 0):
        [fault] = faults_after_the_commit(tables, replace(after, movements=[after.movements[0] | {"allocated": wrong}]))
        assert fault.startswith("movements of ('RED-CHAIR', ")
    [fault] = faults_after_the_commit(tables, replace(after, movements=[]))
    assert fault.endswith("the table says None")


def test_a_stale_or_wrong_level_shows(found: tuple[Tables, AfterTheCommit]) -> None:
    tables, after = found
    [level] = after.stock_levels
    for wrong in ({"version": 2}, {"position": 3}, {"available": "[]"}):
        [fault] = faults_after_the_commit(tables, replace(after, stock_levels=[level | wrong]))
        assert fault.startswith("stock level of RED-CHAIR")
    told = {CHAIR: {"version": level["version"], "available": json.loads(level["available"])}}
    assert faults_of_told_levels(told, tables) == []
    assert faults_of_told_levels({CHAIR: told[CHAIR] | {"version": 3}}, tables) != []
    assert faults_of_told_levels({}, tables) != []


def test_a_cursor_that_lags_a_lane_a_discard_and_a_dead_letter_show(found: tuple[Tables, AfterTheCommit]) -> None:
    tables, after = found
    behind = [after.cursors[0] | {"position": 2}, *after.cursors[1:]]
    assert len(faults_after_the_commit(tables, replace(after, cursors=behind))) == 1
    left = {"lanes": [{"key": CHAIR}], "discards": [{"position": 1}], "dead_letters": [{"body": "{"}]}
    for name, rows in left.items():
        assert len(faults_after_the_commit(tables, replace(after, **{name: rows}))) == 1


def test_facts_may_come_twice_but_not_out_of_order_not_with_a_gap_and_not_otherwise(
    found: tuple[Tables, AfterTheCommit],
) -> None:
    tables, _ = found
    right = facts(tables)
    assert len(right) > 4
    assert faults_of_facts([*right, right[1], right[-1]], tables) == []
    assert "version 3 came where 2 was due" in faults_of_facts([right[0], *right[2:]], tables)[0]
    assert faults_of_facts([right[1], right[0], *right[2:]], tables) != []
    assert "1 events at its end never came" in faults_of_facts(right[:-1], tables)[0]
    assert faults_of_facts([replace(right[0], data={"qty": 1}), *right[1:]], tables) != []
    assert faults_of_facts([], tables) != []


def test_a_mail_too_few_or_without_cause_shows(found: tuple[Tables, AfterTheCommit]) -> None:
    tables, _ = found
    [due] = [row["id"] for row in tables.log if row["type"] == "OutOfStock"]
    assert faults_of_mail([due, due], tables) == []
    assert faults_of_mail([], tables) == [f"never mailed: {due}"]
    assert faults_of_mail([due, "x"], tables) == ["mailed without cause: x"]


def test_lines_told_otherwise_than_they_happened_show(found: tuple[Tables, AfterTheCommit]) -> None:
    tables, _ = found
    logged = next(row for row in tables.log if row["type"] == "Allocated")
    told = json.loads(logged["data"]) | {"id": logged["id"], "version": logged["version"]}
    assert faults_of_told_lines([told, told], tables) == []
    assert faults_of_told_lines([], tables) == [], "pub/sub may lose what it likes"
    for wrong in ({"qty": 5}, {"version": 9}, {"id": "x"}):
        assert len(faults_of_told_lines([told | wrong], tables)) == 1


def test_a_command_not_handled_or_handled_otherwise_shows(found: tuple[Tables, AfterTheCommit]) -> None:
    tables, _ = found
    sent = Sent("change-1", SOURCE, "b1", 5)
    assert faults_of_commands([sent], tables) == []
    lost = Sent("change-2", SOURCE, "b1", 6)
    assert "was not handled" in faults_of_commands([lost], tables)[0]
    assert faults_of_commands([replace(lost, is_accepted=False)], tables) == [], "nobody knows whether Redis had it"
    assert faults_of_commands([replace(sent, qty=7)], tables) != []
    assert faults_of_commands([replace(sent, source="elsewhere")], tables) != []
    without = replace(tables, log=[row for row in tables.log if row["type"] != "BatchQuantityChanged"])
    assert faults_of_commands([sent], without) != []
