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
