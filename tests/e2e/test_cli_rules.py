"""`allocation rules try`: a rule on an event, without a database."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from click.testing import CliRunner, Result

from allocation.bootstrap import Application, bootstrap
from allocation.config import Settings
from allocation.domain.commands import Allocate, CreateBatch
from allocation.entrypoints.cli import main
from allocation.entrypoints.flask_app import create_app
from allocation.entrypoints.rule_input import MOST_BYTES

CHAIRS = '{"sku": "RED-CHAIR", "Qty": 12, "price": 2.5, "sys.MessageId": "id-1"}'
CLOUD = (
    b'{"specversion":"1.0","id":"1","source":"/x","type":"com.example.Sold","subject":"s","time":"%s","data":%s,'
    b'"partition":0,"sequence":"%s","productversion":1,"correlationid":"c"}'
)
UNKNOWN = "unknown: no match; only true matches."


def tried(*arguments: str, stdin: str | bytes = CHAIRS) -> Result:
    """Were a database opened, this would fail: there is none of that kind."""
    environment = {"ALLOCATION_DATABASE_URL": "nosuch://database"}
    command = ["rules", "try", *arguments]
    return CliRunner().invoke(main, command, input=stdin, env=environment, catch_exceptions=False)


def rows(result: Result) -> list[str]:
    return [" ".join(line.split()) for line in result.stdout.splitlines()]


def test_a_rule_that_matches_shows_its_conditions_and_what_the_action_does() -> None:
    result = tried("qty > 10 AND sku LIKE 'RED-%'", "SET total = qty * price; SET qty = 1; REMOVE price")
    assert result.exit_code == 0
    told = rows(result)
    assert told[0] == "true: the rule matches."
    assert {"qty > 10 true", "sku LIKE 'RED-%' true"} <= set(told)
    assert told[-6:] == [
        "sku 'RED-CHAIR'",
        "Qty 1 changed",
        "price removed",
        "sys.MessageId 'id-1'",
        "total 30.0 added",
        "RuleName '$Default' added",
    ]


@pytest.mark.parametrize(
    ("filter", "verdict", "condition"),
    [
        ("qty > 12", "false: no match.", "qty > 12 false qty is 12"),
        ("colour = 'red'", UNKNOWN, "colour = 'red' unknown colour is not there"),
        (
            'sku = "RED-CHAIR"',
            "unknown: no match; only true matches.",
            'sku = "RED-CHAIR" unknown RED-CHAIR is not there',
        ),
    ],
)
def test_a_rule_that_does_not_match_says_why_and_shows_no_copy(filter: str, verdict: str, condition: str) -> None:
    result = tried(filter, "SET a = 1")
    assert result.exit_code == 0
    assert rows(result)[0] == verdict
    assert condition in rows(result)
    assert "property" not in result.stdout


def test_a_long_value_is_shown_in_part() -> None:
    event = json.dumps({"type": "x" * 200})
    assert f"type = 'y' false type is '{'x' * 59}..." in " ".join(rows(tried("type = 'y'", stdin=event)))


def test_a_text_in_double_quotes_is_said_to_be_a_name() -> None:
    told = tried('sku = "RED-CHAIR" AND "qty" > 1 AND price <> \'a "text"\'').stdout
    assert told.endswith("Put a text in single quotes; in double quotes, RED-CHAIR is a name.\n")
    assert "single quotes" not in tried('"QTY" > 1').stdout


def test_the_same_as_json() -> None:
    result = tried("qty = 12 AND sku <> 'x'", "SET ratio = price / 0", "--name", "dear", "--json")
    assert json.loads(result.stdout) == {
        "verdict": "true",
        "matches": True,
        "conditions": [
            {"condition": "qty = 12", "is": "true", "since": ""},
            {"condition": "sku <> 'x'", "is": "true", "since": ""},
        ],
        "properties": {
            "sku": "RED-CHAIR",
            "Qty": 12,
            "price": 2.5,
            "ratio": "inf",
            "RuleName": "dear",
            "sys.MessageId": "id-1",
        },
    }
    assert json.loads(tried("weight > 1", "--json").stdout) == {
        "verdict": "unknown",
        "matches": False,
        "conditions": [{"condition": "weight > 1", "is": "unknown", "since": "weight is not there"}],
        "properties": None,
    }


@pytest.fixture
def shop(sqlite_url: str) -> Iterator[Application]:
    """One batch, one order."""
    app = bootstrap(Settings(database_url=sqlite_url))
    app.bus.handle(CreateBatch("B-1", "RED-CHAIR", 10))
    app.bus.handle(Allocate("o-1", "RED-CHAIR", 6))
    yield app
    app.close()


def test_events_come_as_the_feed_prints_them(shop: Application) -> None:
    environment = {"ALLOCATION_DATABASE_URL": shop.settings.database_url}
    printed = CliRunner().invoke(main, ["events", "--json"], env=environment).stdout.splitlines()
    page = create_app(shop).test_client().get("/v1/events").get_json()
    for created, allocated in (printed, [json.dumps(event) for event in page["events"]]):
        filter = "type = 'Allocated' AND sys.Label = type AND orderid = 'o-1' AND version = 2 AND sequence = 2"
        told = json.loads(tried(filter, "--json", stdin=allocated).stdout)
        assert told["verdict"] == "true"
        assert told["properties"]["sys.SessionId"] == "RED-CHAIR"
        assert told["properties"]["id"] == told["properties"]["sys.MessageId"] == json.loads(allocated)["id"]
        assert told["properties"]["time"] == told["properties"]["sys.EnqueuedTimeUtc"]
        assert json.loads(tried(filter, "--json", stdin=created).stdout)["verdict"] == "false"
    assert "give one of them" in tried("1=1", stdin=json.dumps(page)).stderr


def test_an_event_of_others_is_read_as_well() -> None:
    sold = CLOUD % (b"2031-03-01T12:00:00Z", b'{"colour": "red", "lines": [1]}', b"00000000000000000001")
    told = json.loads(tried("colour = 'red' AND type = 'com.example.Sold'", "--json", stdin=sold).stdout)
    assert told["verdict"] == "true"
    assert "lines" not in told["properties"]


def test_a_text_that_is_no_rule_is_shown_with_its_place() -> None:
    result = tried("sku = 'RED-CHAIR' AND qty == 12")
    assert result.exit_code == 2
    assert result.stderr.endswith(
        "Error: At character 28: '=' does not go here; expected a property, a number, a 'text', + -, ( or NULL."
        " Write one =.\n\n"
        "  sku = 'RED-CHAIR' AND qty == 12\n"
        "                             ^\n"
    )
    assert "At character 5: '=' does not go here; expected a property." in tried("1=1", "SET = 5").stderr
    assert "1 to 50 characters" in tried("1=1", "--name", "").stderr


def test_a_rule_that_cannot_be_worked_out_fails_with_code_1() -> None:
    result = tried("qty / 0 = 1")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "Error: The rule cannot be evaluated for this event. 12 is divided by zero.\n"


@pytest.mark.parametrize(
    ("stdin", "said"),
    [
        (b"", "stdin does not hold a JSON object"),
        (b"not json", "stdin does not hold a JSON object"),
        (b"\xff\xfe", "stdin does not hold a JSON object"),
        (b"[" * 100_000, "stdin does not hold a JSON object"),
        (b"[]", "but not an object"),
        (b'"text"', "but not an object"),
        (b'{"lines": [1]}', "lines holds a list or an object"),
        (b'{"line": {"sku": 1}}', "line holds a list or an object"),
        (b'{"qty": 9223372036854775808}', "qty does not fit"),
        (b'{"qty": 1, "QTY": 2}', "is there twice"),
        (b'{"sys.Body": "x"}', "no system property sys.Body"),
        (b'{"sys.To": 5}', "no system property sys.To that is 5"),
        (b'{"sys.EnqueuedTimeUtc": "noon"}', "is not a time"),
        (b'{"specversion": "1.0"}', "this CloudEvent cannot be read: the attribute id"),
        (CLOUD % (b"noon", b"{}", b"1"), "this CloudEvent cannot be read: Invalid isoformat"),
        (CLOUD % (b"2031-03-01T12:00:00Z", b"[1]", b"1"), "its data is not an object"),
        (CLOUD % (b"2031-03-01T12:00:00Z", b"{}", b"one"), "invalid literal"),
        (CLOUD % (b"2031-03-01T12:00:00Z", b'{"qty": 1, "Qty": 1}', b"1"), "is there twice"),
    ],
)
def test_what_is_no_event_is_told_with_code_2(stdin: bytes, said: str) -> None:
    result = tried("1=1", stdin=stdin)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr


def test_of_what_never_ends_only_so_much_is_read() -> None:
    result = tried("1=1", stdin=b'{"a": "' + b"x" * MOST_BYTES)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "stdin holds more than 1,048,576 bytes: give one event" in " ".join(result.stderr.split())


def test_every_help_has_an_example() -> None:
    told = CliRunner().invoke(main, ["rules", "try", "--help"]).stdout
    assert "Examples:" in told
    assert "allocation rules try" in told
