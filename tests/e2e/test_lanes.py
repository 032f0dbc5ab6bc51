"""What could not be delivered is seen and mended, over HTTP and from the command line."""

import getpass
import shlex
from collections.abc import Iterator
from dataclasses import replace
from threading import Event

import pytest
from click.testing import CliRunner

from allocation.bootstrap import Application, bootstrap
from allocation.config import load_settings
from allocation.domain.commands import Allocate, CreateBatch
from allocation.entrypoints.cli import main
from allocation.entrypoints.flask_app import create_app
from allocation.service_layer.errors import Rejected, Unavailable
from allocation.service_layer.ports import Notifications
from allocation.service_layer.subscriptions import Settlement
from tests.patience import PATIENCE_SECONDS

MAIL, CHAIR = "send_out_of_stock_notification", "RED-CHAIR"


class Refusing(Notifications):
    """Refuses mail about what `refused` names."""

    def __init__(self) -> None:
        self.refused = {CHAIR}
        self.sent: list[str] = []

    def send(self, destination: str, subject: str, body: str, message_id: str) -> None:
        if any(sku in subject for sku in self.refused):
            raise Rejected("no such user")
        self.sent.append(subject)


@pytest.fixture
def mail() -> Refusing:
    return Refusing()


@pytest.fixture
def shop(sqlite_url: str, mail: Refusing) -> Iterator[Application]:
    """A shop whose mail about RED-CHAIR is refused: its lane is open."""
    application = bootstrap(load_settings(database_url=sqlite_url), notifications=mail)
    application.worker.start()
    for sku in (CHAIR, "SMALL-TABLE"):
        application.bus.handle(CreateBatch(f"batch-{sku}", sku, 1))
        application.bus.handle(Allocate("order-1", sku, 2))
    while not (application.subscriptions.lanes() and mail.sent):
        application.worker.wake()
    yield application
    application.close()


@pytest.fixture
def command(sqlite_url: str) -> CliRunner:
    return CliRunner(env={"ALLOCATION_DATABASE_URL": sqlite_url})


def until_no_lanes(shop: Application) -> None:
    while shop.subscriptions.lanes():
        shop.worker.wake()


def test_a_lane_is_listed_retried_and_gone(shop: Application, mail: Refusing) -> None:
    client = create_app(shop).test_client()
    [lane] = client.get("/v1/lanes").get_json()["lanes"]
    assert (lane["subscription"], lane["key"], lane["reason"]) == (MAIL, CHAIR, "Rejected: no such user")
    mail.refused.clear()
    assert client.post(f"/v1/lanes/{MAIL}/{CHAIR}/retry").status_code == 204
    until_no_lanes(shop)
    assert mail.sent == ["Out of stock: SMALL-TABLE", f"Out of stock: {CHAIR}"]
    assert client.post(f"/v1/lanes/{MAIL}/{CHAIR}/retry").status_code == 404


def test_a_discard_names_its_event_and_so_is_done_once(shop: Application, mail: Refusing) -> None:
    client = create_app(shop).test_client()
    [lane] = client.get("/v1/lanes").get_json()["lanes"]
    said = {"event": lane["next_event"], "who": "anna", "why": "told them by telephone"}
    for other in ("0-1", "1-3"):
        assert client.post(f"/v1/lanes/{MAIL}/{CHAIR}/discard", json={**said, "event": other}).status_code == 404
    assert client.post(f"/v1/lanes/{MAIL}/{CHAIR}/discard", json={"who": "anna"}).status_code == 422
    assert client.post(f"/v1/lanes/{MAIL}/{CHAIR}/discard", json=said).status_code == 204
    until_no_lanes(shop)
    assert mail.sent == ["Out of stock: SMALL-TABLE"]
    assert client.post(f"/v1/lanes/{MAIL}/{CHAIR}/discard", json=said).status_code == 404


def test_the_command_line_lists_shows_and_discards(shop: Application, mail: Refusing, command: CliRunner) -> None:
    listed = command.invoke(main, ["lanes", "list"])
    assert listed.exit_code == 0
    assert "Rejected: no such user" in listed.output
    shown = command.invoke(main, ["lanes", "show", MAIL, CHAIR])
    assert "OutOfStock(sku='RED-CHAIR')" in shown.output
    assert "0-3" in shown.output, "what `discard` wants to be told"
    unknown = command.invoke(main, ["lanes", "retry", MAIL, "NO-SUCH-SKU"])
    assert unknown.exit_code == 1
    assert "lanes list" in unknown.output
    discard = ["lanes", "discard", MAIL, CHAIR, "--event", "0-3", "--why", "sold out"]
    assert command.invoke(main, discard).output == f"0-3 of {CHAIR} will be skipped in {MAIL}.\n"
    until_no_lanes(shop)
    assert mail.sent == ["Out of stock: SMALL-TABLE"]
    assert "No lanes" in command.invoke(main, ["lanes", "list"]).output


class Away(Notifications):
    """A mail server that nobody reaches."""

    def __init__(self) -> None:
        self.tried = Event()

    def send(self, destination: str, subject: str, body: str, message_id: str) -> None:
        self.tried.set()
        raise Unavailable("connection refused")


def test_without_lanes_it_is_told_where_to_see_what_waits_for_a_destination_that_is_away(
    sqlite_url: str, command: CliRunner
) -> None:
    mail = Away()
    application = bootstrap(load_settings(database_url=sqlite_url), notifications=mail)
    application.worker.start()
    application.bus.handle(CreateBatch("batch-1", CHAIR, 1))
    application.bus.handle(Allocate("order-1", CHAIR, 2))
    assert mail.tried.wait(PATIENCE_SECONDS)
    application.close()
    listed = command.invoke(main, ["lanes", "list"]).output
    assert "delivered" not in listed
    assert "allocation subscriptions list" in listed


def test_the_command_line_discards_no_event_that_was_not_named(shop: Application, command: CliRunner) -> None:
    asked = command.invoke(main, ["lanes", "discard", MAIL, CHAIR, "--why", "sold out", "--who", "anna"])
    assert asked.exit_code == 1
    assert "OutOfStock(sku='RED-CHAIR')" in asked.output
    named = f"lanes discard {MAIL} {CHAIR} --event 0-3 --why 'sold out' --who anna"
    assert f"  allocation {named}\n" in asked.output
    [lane] = shop.subscriptions.lanes()
    assert lane.discard is None
    assert command.invoke(main, shlex.split(named)).exit_code == 0


def test_who_has_no_name_on_this_system_has_to_say_one(
    shop: Application, command: CliRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found: 12345")

    monkeypatch.setattr(getpass, "getuser", nobody)
    discard = ["lanes", "discard", MAIL, CHAIR, "--why", "sold out"]
    asked = command.invoke(main, discard)
    assert (asked.exit_code, "give your name with --who" in asked.output) == (2, True)
    asked = command.invoke(main, [*discard, "--who", "anna"])
    assert "--event 0-3 --why 'sold out' --who anna" in asked.output


def test_a_discard_said_twice_on_the_command_line_skips_one_event(shop: Application, command: CliRunner) -> None:
    shop.worker.stop()
    [lane] = shop.subscriptions.lanes()
    lease = shop.subscriptions.lease(MAIL, 0, "worker-2", 15)
    assert lease is not None
    shop.subscriptions.settle(lease, Settlement(lease.seq, lanes={CHAIR: replace(lane, next_seq=4)}), 15)
    again = command.invoke(main, ["lanes", "discard", MAIL, CHAIR, "--event", "0-3", "--why", "sold out"])
    assert again.exit_code == 1
    assert f"0-3 is not the next event of {CHAIR} in {MAIL}" in again.output
    [lane] = shop.subscriptions.lanes()
    assert lane.discard is None


def test_the_command_line_discards_no_event_that_is_yet_to_come(shop: Application, command: CliRunner) -> None:
    shop.worker.stop()
    [lane] = shop.subscriptions.lanes()
    lease = shop.subscriptions.lease(MAIL, 0, "worker-2", 15)
    assert lease is not None
    shop.subscriptions.settle(lease, Settlement(lease.seq, lanes={CHAIR: replace(lane, next_seq=9)}), 15)
    asked = command.invoke(main, ["lanes", "discard", MAIL, CHAIR, "--event", "0-9", "--why", "sold out"])
    assert (asked.exit_code, "has no event" in asked.output) == (1, True)
    [lane] = shop.subscriptions.lanes()
    assert lane.discard is None
