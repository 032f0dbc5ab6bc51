"""The checks of the other tests here can fail: each kind of damage is planted, and named."""

import json
import sqlite3
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import psycopg
import pytest
from sqlalchemy.engine import make_url

from allocation.bootstrap import bootstrap
from allocation.config import Settings
from allocation.entrypoints.flask_app import create_app
from tests.e2e.crowd import Entry, Request
from tests.e2e.promises import assert_expected, lies_in
from tests.e2e.truth import faults_of, faults_of_feed, read_tables
from tests.servers.postgres import for_libpq

CHAIR, TABLE = "RED-CHAIR", "SMALL-TABLE"

Shop = tuple[str, list[Entry]]


@pytest.fixture(params=["sqlite", "postgres"])
def shop(request: pytest.FixtureRequest) -> Shop:
    """A database after a few honest requests, and their journal. o1 and o2 are on b1, o3 waits, o4 was cancelled."""
    url = request.getfixturevalue(f"{request.param}_url")
    application = bootstrap(Settings(database_url=url))
    client = create_app(application).test_client()
    requests = [
        Request("POST", "/v1/batches", {"ref": "b1", "sku": CHAIR, "qty": 10, "eta": "2031-05-01"}, expected=(201,)),
        Request("POST", "/v1/batches", {"ref": "b2", "sku": TABLE, "qty": 5, "eta": None}, expected=(201,)),
        Request("POST", "/v1/allocations", {"orderid": "o1", "sku": CHAIR, "qty": 6}, "key-1", (201,)),
        Request("POST", "/v1/allocations", {"orderid": "o2", "sku": CHAIR, "qty": 4}, None, (201,)),
        Request("POST", "/v1/allocations", {"orderid": "o3", "sku": CHAIR, "qty": 3, "if_short": "wait"}, None, (202,)),
        Request("POST", "/v1/allocations", {"orderid": "o4", "sku": TABLE, "qty": 2}, None, (201,)),
        Request("PATCH", "/v1/batches/b2", {"qty": 4, "eta": None}, "key-2", (200,)),
        Request("DELETE", f"/v1/allocations/o4/{TABLE}", None, None, (204,)),
        Request("POST", "/v1/allocations", {"orderid": "o5", "sku": CHAIR, "qty": 3}, None, (409,)),
        Request("POST", "/v1/allocations", {"orderid": "o1", "sku": CHAIR, "qty": 6}, "key-1", (201,)),
    ]
    journal = []
    for n, sent in enumerate(requests):
        entry = Entry(f"r{n}", sent, float(n))
        headers = {"X-Correlation-Id": entry.correlation_id} | ({"Idempotency-Key": sent.key} if sent.key else {})
        answer = client.open(sent.path, method=sent.method, json=sent.body, headers=headers)
        entry.status, entry.body = answer.status_code, answer.json
        entry.headers = {name.lower(): value for name, value in answer.headers}
        journal.append(entry)
    application.close()
    return url, journal


def execute(url: str, *statements: str) -> None:
    """Straight into the tables, past every check."""
    if url.startswith("sqlite"):
        connection: Any = sqlite3.connect(str(make_url(url).database), isolation_level=None)
        connection.execute("PRAGMA ignore_check_constraints = ON")
    else:
        connection = psycopg.connect(for_libpq(url), autocommit=True)
        connection.execute("ALTER TABLE batches DROP CONSTRAINT ck_batches_never_oversold")
    for statement in statements:
        connection.execute(statement)
    connection.close()


def test_an_honest_database_has_no_faults_and_its_answers_no_lies(shop: Shop) -> None:
    url, journal = shop
    tables = read_tables(url)
    assert faults_of(tables) == []
    assert lies_in(journal, tables) == []
    assert_expected(journal)
    assert [row["type"] for row in tables.log] == [
        *("BatchCreated", "BatchCreated", "Allocated", "Allocated", "Backordered", "OutOfStock", "Allocated"),
        *("BatchQuantityChanged", "Deallocated", "Cancelled"),
    ]


LOG = "INSERT INTO event_log (log_partition, position, sku, version, id, type, schema_version, at, correlation_id, "
LOG += "causation_id, data) SELECT 0, 11, sku, {version}, 'planted', '{type}', 1, at, correlation_id, causation_id, "
LOG += "'{data}' FROM event_log WHERE position = 10"
MOVED = "UPDATE event_log SET position = {to} WHERE position = {at}"
DOUBLE = json.dumps({"orderid": "o1", "sku": CHAIR, "qty": 6, "batchref": "b1"})

DAMAGE: dict[str, tuple[list[str], list[str]]] = {
    "a line on a full batch": (
        [f"INSERT INTO order_lines (orderid, sku, qty, batchref, since) VALUES ('o9', '{CHAIR}', 1, 'b1', 7)"],
        ["order line ('o9', 'RED-CHAIR'): the log says None", "batch b1 is oversold: 11 of 10", "its lines have 11"],
    ),
    "more allocated than bought": (
        ["UPDATE batches SET allocated_quantity = 11 WHERE reference = 'b1'"],
        ["batch b1 is oversold: 11 of 10", "batch b1: the log says", "says 11 allocated, its lines have 10"],
    ),
    "a lost line": (
        ["DELETE FROM order_lines WHERE orderid = 'o2'"],
        ["order line ('o2', 'RED-CHAIR'): the log says (4, 'b1', 3), the table None"],
    ),
    "a lost line, and its stock with it": (
        [
            "DELETE FROM order_lines WHERE orderid = 'o2'",
            "UPDATE batches SET allocated_quantity = 6 WHERE reference = 'b1'",
        ],
        ["order line ('o2'", "order o3 waits for 3 of RED-CHAIR, and batch b1 has 4"],
    ),
    "a line on another batch": (
        ["UPDATE order_lines SET batchref = 'b9' WHERE orderid = 'o2'"],
        ["order line ('o2'", "batch b9 does not exist, and 4 are promised from it"],
    ),
    "a line that forgot its age": (
        ["UPDATE order_lines SET since = 99 WHERE orderid = 'o3'"],
        ["order line ('o3', 'RED-CHAIR'): the log says (3, None, 4), the table (3, None, 99)"],
    ),
    "a line allocated twice in the log": (
        [
            LOG.format(version=6, type="Allocated", data=DOUBLE).replace("sku, 6", f"'{CHAIR}', 6"),
            "UPDATE log_head SET seq = 11",
            f"UPDATE products SET version_number = 6 WHERE sku = '{CHAIR}'",
        ],
        ["log 0-11: Allocated(orderid='o1'", "cannot have happened to RED-CHAIR after its version 5"],
    ),
    "a lost event": (
        ["DELETE FROM event_log WHERE position = 4"],
        ["log 0-5: position 4 is missing before it", "RED-CHAIR has version 4 where 3 is due", "order line ('o2'"],
    ),
    "a lost tail": (
        ["DELETE FROM event_log WHERE position = 10"],
        ["log_head 0 says 10, the log ends at 9", "product SMALL-TABLE: the log says 4, the table 5"],
    ),
    "a position left out": (
        [MOVED.format(at=10, to=11), "UPDATE log_head SET seq = 11"],
        ["log 0-11: position 10 is missing before it"],
    ),
    "two events of a sku in the wrong order": (
        [MOVED.format(at=4, to=99), MOVED.format(at=3, to=4), MOVED.format(at=99, to=3)],
        ["log 0-3: RED-CHAIR has version 3 where 2 is due"],
    ),
    "a counter behind the log": (["UPDATE log_head SET seq = 9"], ["log_head 0 says 9, the log ends at 10"]),
    "time that goes back": (
        ["UPDATE event_log SET at = (SELECT max(at) FROM event_log) WHERE position = 2"],
        ["log 0-3: its time is before that of the event before it"],
    ),
    "an id given twice": (
        ["UPDATE event_log SET id = (SELECT id FROM event_log WHERE position = 1) WHERE position = 2"],
        ["log 0-2: the id", "is there twice"],
    ),
    "a product that missed an event": (
        [f"UPDATE products SET version_number = 4 WHERE sku = '{CHAIR}'"],
        ["product RED-CHAIR: the log says 5, the table 4"],
    ),
    "a batch that forgot how it was created": (
        ["UPDATE batches SET created_quantity = 4 WHERE reference = 'b2'"],
        ["batch b2: the log says"],
    ),
    "a lost command": (
        ["DELETE FROM inbox WHERE id = 'key-1'"],
        ["log 0-3: its command key-1 is not in the inbox"],
    ),
    "a command that points elsewhere": (
        ["UPDATE inbox SET position = 2 WHERE id = 'key-1'"],
        ["inbox key-1 ends at [(0, 2)], in the log at (0, 3)"],
    ),
    "an event in a partition that is not its own": (
        ["INSERT INTO log_head (log_partition, seq, last_at) SELECT 1, 0, last_at FROM log_head"],
        ["belongs into another partition"],
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_named(shop: Shop, damage: str) -> None:
    url, _ = shop
    statements, named = DAMAGE[damage]
    execute(url, *statements)
    faults = faults_of(read_tables(url))
    for words in named:
        assert any(words in fault for fault in faults), f"{words!r} is not in {faults}"


def forge(number: int, http_status: int | None = None, **members: Any) -> Callable[[list[Entry]], None]:
    """Another answer to a request: its HTTP status, or members of its body."""

    def change(journal: list[Entry]) -> None:
        journal[number].status = http_status or journal[number].status
        journal[number].body |= members

    return change


def told_of_a_stranger(journal: list[Entry]) -> None:
    journal[3].request = Request("POST", "/v1/allocations", {"orderid": "o7", "sku": CHAIR, "qty": 4})


def cancelled_at(position: str) -> Callable[[list[Entry]], None]:
    def change(journal: list[Entry]) -> None:
        journal[7].headers = {"log-position": position}

    return change


LIES: dict[str, tuple[Callable[[list[Entry]], None], str]] = {
    "a promise that the log does not have": (forge(3, batchref="b7"), "never was on"),
    "a promise of another line": (told_of_a_stranger, "told of another line"),
    "a wrong position": (forge(3, position="0-9"), "told position 0-9, but the log has ['0-4 Allocated"),
    "a promise that says it was there before": (forge(3, position=None), "told position None, but the log has"),
    "a wrong ETA": (forge(3, eta="2031-05-02"), "told ETA 2031-05-02, but the batch had 2031-05-01"),
    "waiting, though it was allocated": (forge(3, status="waiting", batchref=None), "told that it waits"),
    "allocated, though it waits": (forge(4, status="allocated", batchref="b1"), "never was on"),
    "a refusal of what was done": (forge(3, 409, type="/docs#problem-out-of-stock"), "told that nothing was done"),
    "a failure of what was done": (forge(3, 503, type="/docs#problem-unavailable"), "told that nothing was done"),
    "another answer under the same key": (forge(9, eta=None), "told otherwise under the same key before"),
    "a batch with another quantity": (forge(6, qty=5), "told that the batch is as it was before"),
    "a wrong version": (forge(6, version=2), "told version 2, but the log has"),
    "a cancellation at another place": (cancelled_at("0-3"), "told position 0-3, but the log has"),
}


@pytest.mark.parametrize("lie", LIES)
def test_an_answer_that_is_not_true_is_found(shop: Shop, lie: str) -> None:
    url, journal = shop
    change, words = LIES[lie]
    change(journal)
    lies = lies_in(journal, read_tables(url))
    assert any(words in found for found in lies), lies


def test_a_promise_whose_line_is_gone_is_found(shop: Shop) -> None:
    url, journal = shop
    execute(url, "DELETE FROM order_lines WHERE orderid = 'o3'")
    lies = lies_in(journal, read_tables(url))
    assert any("the last that was told of this line, but it is not there" in lie for lie in lies)


def test_a_line_that_was_cancelled_and_is_there_is_found(shop: Shop) -> None:
    url, journal = shop
    execute(url, f"INSERT INTO order_lines (orderid, sku, qty, since) VALUES ('o4', '{TABLE}', 2, 2)")
    lies = lies_in(journal, read_tables(url))
    assert any("the last that was told of this line, but it is there" in lie for lie in lies)


def test_an_answer_that_was_not_expected_is_found(shop: Shop) -> None:
    _, journal = shop
    journal[2].status = 500
    with pytest.raises(AssertionError, match="1 unexpected answers"):
        assert_expected(journal, 503)
    journal[2].status = None
    with pytest.raises(AssertionError, match="1 unexpected answers"):
        assert_expected(journal)
    assert_expected(journal, None)


def test_a_feed_that_left_out_doubled_or_turned_an_event_is_found(sqlite_url: str) -> None:
    application = bootstrap(Settings(database_url=sqlite_url))
    client = create_app(application).test_client()
    for n in range(3):
        client.post("/v1/batches", json={"ref": f"b{n}", "sku": CHAIR, "qty": 1, "eta": None})
    feed = json.loads(client.get("/v1/events").data)["events"]
    application.close()
    tables = read_tables(sqlite_url)
    assert faults_of_feed(feed, tables) == []
    other = deepcopy(feed)
    other[1]["data"]["qty"] = 2
    for wrong in (feed[:2], feed[1:], [*feed, feed[2]], [feed[1], feed[0], feed[2]], other):
        assert faults_of_feed(wrong, tables)
