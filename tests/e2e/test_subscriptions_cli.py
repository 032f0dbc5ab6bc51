"""Who reads the log, and how far they have come, from the command line; and going back."""

import json
from collections.abc import Iterator

import pytest
from click.testing import CliRunner

from allocation.bootstrap import Application, bootstrap
from allocation.config import load_settings
from allocation.domain.commands import Allocate, CreateBatch
from allocation.entrypoints.cli import main
from allocation.service_layer.ports import Notifications

MAIL, CHAIR = "send_out_of_stock_notification", "RED-CHAIR"


class Postbox(Notifications):
    def __init__(self) -> None:
        self.ids: list[str] = []

    def send(self, destination: str, subject: str, body: str, message_id: str) -> None:
        self.ids.append(message_id)


@pytest.fixture
def postbox() -> Postbox:
    return Postbox()


@pytest.fixture
def shop(sqlite_url: str, postbox: Postbox) -> Iterator[Application]:
    """A shop that has sent one mail."""
    application = bootstrap(load_settings(database_url=sqlite_url), notifications=postbox)
    application.worker.start()
    application.bus.handle(CreateBatch("b1", CHAIR, 1))
    application.bus.handle(Allocate("order-1", CHAIR, 2))
    while len(postbox.ids) < 1 or any(c.lag_events for c in application.subscriptions.cursors()):
        application.worker.wake()
    yield application
    application.close()


@pytest.fixture
def command(sqlite_url: str) -> CliRunner:
    return CliRunner(env={"ALLOCATION_DATABASE_URL": sqlite_url, "ALLOCATION_SMTP_URL": "smtp://127.0.0.1:9"})


def test_every_subscription_tells_its_place_and_its_lag(shop: Application, command: CliRunner) -> None:
    told = json.loads(command.invoke(main, ["subscriptions", "list", "--json"]).output)["subscriptions"]
    assert {(t["subscription"], t["seq"], t["lag_events"], t["lanes"]) for t in told} >= {
        (MAIL, 3, 0, 0),
        ("project_stock_levels", 3, 0, 0),
    }
    assert "project_stock_levels" in command.invoke(main, ["subscriptions", "list"]).output


def test_who_goes_back_delivers_again_under_the_same_id(
    shop: Application, command: CliRunner, postbox: Postbox
) -> None:
    went = command.invoke(main, ["subscriptions", "rewind", MAIL, "--yes"])
    assert went.output == f"{MAIL} goes back.\n"
    while len(postbox.ids) < 2:
        shop.worker.wake()
    assert postbox.ids[0] == postbox.ids[1]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["project_stock_levels", "--yes"], "would count twice"),
        (["nobody", "--yes"], "There is no subscription nobody"),
        ([MAIL, "--to", "yesterday", "--yes"], "is no position"),
    ],
)
def test_what_cannot_go_back_is_told(shop: Application, command: CliRunner, arguments: list[str], reason: str) -> None:
    went = command.invoke(main, ["subscriptions", "rewind", *arguments])
    assert went.exit_code != 0
    assert reason in went.output


# Those that users define


@pytest.fixture
def chairs(shop: Application, command: CliRunner) -> str:
    """A subscription to chairs, from the beginning."""
    wanted = {"delivery": "pull", "start": "beginning", "rules": [{"name": "chairs", "filter": "sku LIKE '%CHAIR'"}]}
    defined = command.invoke(main, ["subscriptions", "define", "chairs", "-"], input=json.dumps(wanted))
    assert defined.output == "chairs is defined: pull.\n"
    return "chairs"


def test_a_definition_is_made_shown_and_removed(chairs: str, command: CliRunner) -> None:
    told = json.loads(command.invoke(main, ["subscriptions", "show", chairs]).output)
    assert told["rules"] == [{"name": "chairs", "filter": "sku LIKE '%CHAIR'"}]
    assert command.invoke(main, ["subscriptions", "remove", chairs, "--yes"]).output == "chairs is gone.\n"
    again = command.invoke(main, ["subscriptions", "remove", chairs, "--yes"])
    assert (again.exit_code, again.output) == (1, "Error: There is no subscription chairs\n")


def test_what_is_pulled_is_printed_and_acknowledged(shop: Application, chairs: str, command: CliRunner) -> None:
    def pull(*options: str) -> list[str]:
        lines = command.invoke(main, ["subscriptions", "pull", chairs, *options]).output.splitlines()
        return [json.loads(line)["type"].removeprefix("allocation.") for line in lines]

    assert pull("--most", "1") == ["BatchCreated"]
    assert pull("--key", "SMALL-TABLE") == []
    assert pull() == ["Backordered", "OutOfStock"]
    assert pull() == []
    assert shop.subscriptions.lanes(chairs) == []


def test_the_secret_of_a_webhook_is_printed_once(shop: Application, command: CliRunner) -> None:
    wanted = json.dumps({"delivery": "push", "sink": {"url": "https://shop.example.com/"}})
    first, again = (
        command.invoke(main, ["subscriptions", "define", "hook", "-", "--json"], input=wanted) for _ in range(2)
    )
    assert json.loads(first.output)["secret"].startswith("whsec_")
    assert json.loads(again.output)["secret"] is None
    refused = command.invoke(main, ["subscriptions", "pull", "hook"])
    assert (refused.exit_code, refused.output) == (1, "Error: hook is pushed; nobody can pull from it.\n")


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("{", "The body is not JSON"),
        ('{"delivery": "pull", "rules": [{"name": "a", "filter": "qty >"}]}', "#/rules/0/filter: At character 6"),
        ('{"delivery": "pull", "rules": [{"name": "a b"}]}', "#/rules/0/name: must be as"),
    ],
)
def test_a_bad_definition_is_told_with_its_place(command: CliRunner, body: str, told: str) -> None:
    refused = command.invoke(main, ["subscriptions", "define", "chairs", "-"], input=body)
    assert refused.exit_code == 1
    assert told in refused.output
