"""What came in and could not be handled is seen, tried again and removed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping

import pytest
from click.testing import CliRunner, Result

from allocation.bootstrap import Application, bootstrap
from allocation.config import load_settings
from allocation.domain.commands import ChangeBatchQuantity, CreateBatch
from allocation.entrypoints.cli import main
from allocation.entrypoints.flask_app import create_app
from allocation.entrypoints.handling import keep_as_dead_letter
from allocation.service_layer.broker import Delivery
from allocation.service_layer.errors import Unavailable
from tests.e2e.conforming import ConformingClient

CHAIR, SOURCE = "RED-CHAIR", "redis change_batch_quantity"
BINARY = {"content-type": "application/json", "ce-specversion": "1.0", "ce-id": "e-1", "ce-source": "/erp"}
BINARY["ce-type"] = "allocation.ChangeBatchQuantity"

Run = Callable[..., Result]


@pytest.fixture
def shop(sqlite_url: str) -> Iterator[Application]:
    application = bootstrap(load_settings(database_url=sqlite_url))
    application.bus.handle(CreateBatch("batch-1", CHAIR, 10))
    yield application
    application.close()


@pytest.fixture
def run(sqlite_url: str) -> Run:
    def invoke(*arguments: str) -> Result:
        return CliRunner(env={"ALLOCATION_DATABASE_URL": sqlite_url}).invoke(
            main, ["dead-letters", *arguments], catch_exceptions=False
        )

    return invoke


def parked(shop: Application, body: bytes, headers: Mapping[str, str] | None = None, source: str = SOURCE) -> str:
    """Park a message; its id."""
    before = {letter.id for letter in shop.dead_letters.newest()}
    keep_as_dead_letter(shop, Delivery(body, source, "", headers or {}), "ZeroDivisionError: a fault of ours")
    [letter_id] = {letter.id for letter in shop.dead_letters.newest()} - before
    return letter_id


def quantity(shop: Application) -> int:
    product = shop.views.product(CHAIR)
    assert product is not None
    return product.batches[0].qty


def test_they_are_listed_and_shown_whole(shop: Application, run: Run) -> None:
    assert run("list").stdout == "No dead letters: every message received was handled.\n"
    body = json.dumps({"qty": 5, "note": "x" * 200})
    letter_id = parked(shop, body.encode())
    listed = run("list")
    assert letter_id in listed.stdout
    assert "a fault of ours" in listed.stdout
    assert body not in listed.stdout
    assert body in run("show", letter_id).stdout
    assert json.loads(run("show", letter_id, "--json").stdout)["body"] == body
    parked(shop, b"{")
    assert "1 more; raise --limit to see them." in run("list", "--limit", "1").stdout
    told = json.loads(run("list", "--limit", "1", "--json").stdout)
    assert (len(told["dead_letters"]), told["count"]) == (1, 2)


def test_what_is_in_one_does_not_move_the_cursor_of_a_screen(shop: Application, run: Run) -> None:
    letter_id = parked(shop, b"\x1b[2J\x9b\r{")
    for told in (run("list"), run("show", letter_id)):
        assert "\x1b" not in told.stdout
        assert "\\x1b[2J" in told.stdout
        assert "\r" not in told.stdout


def test_one_that_is_done_when_tried_again_goes(shop: Application, run: Run) -> None:
    letter_id = parked(shop, b'{"batchref": "batch-1", "qty": 7}')
    assert run("retry", letter_id).exit_code == 0
    assert (quantity(shop), shop.dead_letters.count()) == (7, 0)
    unknown = run("retry", letter_id)
    assert unknown.exit_code == 1
    assert "dead-letters list" in unknown.stderr


def test_one_that_was_in_binary_mode_is_kept_with_its_attributes_and_done(shop: Application, run: Run) -> None:
    letter_id = parked(shop, b'{"ref": "batch-1", "qty": 7}', BINARY, "kafka allocation.commands")
    event = json.loads(json.loads(run("show", letter_id, "--json").stdout)["body"])
    assert (event["id"], event["type"], event["data"]) == ("e-1", BINARY["ce-type"], {"ref": "batch-1", "qty": 7})
    assert run("retry", letter_id).exit_code == 0
    assert (quantity(shop), shop.dead_letters.count()) == (7, 0)


def test_one_in_binary_mode_is_not_taken_for_the_books_message(shop: Application, run: Run) -> None:
    letter_id = parked(shop, b'{"batchref": "batch-1", "qty": 7}', {**BINARY, "ce-type": "shop.Seen"})
    assert "unknown message type" in run("retry", letter_id).stderr
    assert (quantity(shop), shop.dead_letters.count()) == (10, 1)


def test_an_attribute_that_is_no_text_is_no_reason_to_lose_the_message(shop: Application, run: Run) -> None:
    letter_id = parked(shop, b"{}", {**BINARY, "ce-note": "\udcff"})
    assert json.loads(json.loads(run("show", letter_id, "--json").stdout)["body"])["note"] == "\\udcff"


def test_data_that_is_no_json_is_kept_beside_its_attributes(shop: Application, run: Run) -> None:
    letter_id = parked(shop, b"\xff{", BINARY)
    assert json.loads(json.loads(run("show", letter_id, "--json").stdout)["body"])["data_base64"] == "/3s="
    assert run("retry", letter_id).exit_code == 1


def test_one_that_event_grid_brought_is_read_in_its_schema(shop: Application, run: Run) -> None:
    event = {"id": "e-1", "topic": "/orders", "eventType": "allocation.ChangeBatchQuantity", "dataVersion": "1"}
    event |= {"subject": CHAIR, "eventTime": "2031-05-01T09:30:00Z", "data": {"ref": "batch-1", "qty": 7}}
    letter_id = parked(shop, json.dumps(event).encode(), source="event grid")
    assert run("retry", letter_id).exit_code == 0
    assert (quantity(shop), shop.dead_letters.count()) == (7, 0)


@pytest.mark.parametrize("own_id", [b"", b', "id": "change-1"'])
def test_one_that_was_refused_is_done_once_it_can_be(shop: Application, run: Run, own_id: bytes) -> None:
    """Its refusal is remembered under its id; what was never done is not done twice under another."""
    letter_id = parked(shop, b'{"batchref": "batch-2", "qty": 7' + own_id + b"}")
    for _ in range(2):
        refused = run("retry", letter_id)
        assert refused.exit_code == 1
        assert "It is still a dead letter: There is no batch batch-2" in refused.stderr
    shop.bus.handle(CreateBatch("batch-2", "LAMP", 10))
    assert run("retry", letter_id).exit_code == 0
    lamp = shop.views.product("LAMP")
    assert lamp is not None
    assert (lamp.batches[0].qty, shop.dead_letters.count()) == (7, 0)


def test_one_that_cannot_be_handled_stays(shop: Application, run: Run) -> None:
    letter_id = parked(shop, b'{"qty": 7}')
    still = run("retry", letter_id)
    assert (still.exit_code, shop.dead_letters.count()) == (1, 1)
    assert "It is still a dead letter: batchref: Field required" in still.stderr


@pytest.mark.parametrize("source", [SOURCE, "event grid"])
def test_one_that_was_done_but_not_removed_is_not_done_twice(
    shop: Application, run: Run, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    letter_id = parked(shop, b'{"batchref": "batch-1", "qty": 7}', source=source)

    def away(*_: object) -> bool:
        raise Unavailable("the database is away")

    with monkeypatch.context() as fault:
        fault.setattr(type(shop.dead_letters), "remove", away)
        assert run("retry", letter_id).exit_code == 1
    assert quantity(shop) == 7
    shop.bus.handle(ChangeBatchQuantity("batch-1", 9))
    assert run("retry", letter_id).exit_code == 0
    assert (quantity(shop), shop.dead_letters.count()) == (9, 0)


def test_one_is_removed(shop: Application, run: Run) -> None:
    letter_id = parked(shop, b"{")
    assert run("remove", letter_id).exit_code == 0
    assert shop.dead_letters.count() == 0
    assert run("remove", letter_id).exit_code == 1


def test_they_are_read_over_http_page_by_page(shop: Application) -> None:
    client = ConformingClient(create_app(shop).test_client())
    assert client.get("/v1/dead-letters").json == {"dead_letters": [], "next": None}
    ids = {parked(shop, f"{{{n}".encode()) for n in range(5)}
    first = client.get("/v1/dead-letters?limit=3").json
    second = client.get(f"/v1/dead-letters?limit=3&after={first['next']}").json
    assert [len(first["dead_letters"]), len(second["dead_letters"]), second["next"]] == [3, 2, None]
    read = first["dead_letters"] + second["dead_letters"]
    assert {letter["id"] for letter in read} == ids
    assert {letter["source"] for letter in read} == {SOURCE}
    for wrong in ("limit=0", "limit=101", "after=%00", "after=X"):
        assert client.get(f"/v1/dead-letters?{wrong}").status_code == 422
