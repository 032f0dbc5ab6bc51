"""Who reads the log, and how far they have come, from the command line; and going back."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from threading import Thread
from typing import Any

import click
import pytest
from click.testing import CliRunner

from allocation.bootstrap import Application, bootstrap
from allocation.config import load_settings
from allocation.domain.commands import Allocate, CreateBatch
from allocation.entrypoints import opened, subscriptions
from allocation.entrypoints.cli import main
from allocation.service_layer import pull_locks, pulling
from allocation.service_layer.definitions import Definition, NamedRule
from allocation.service_layer.ports import Notifications
from tests.fakes import SetClock

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


def test_a_log_that_nobody_has_read_says_who_would(command: CliRunner) -> None:
    told = command.invoke(main, ["subscriptions", "list"]).output
    assert told.endswith("No subscription has read the log yet: `allocation serve` adds them when it runs.\n")


def test_who_goes_back_delivers_again_under_the_same_id(
    shop: Application, command: CliRunner, postbox: Postbox
) -> None:
    went = command.invoke(main, ["subscriptions", "rewind", MAIL, "--yes"])
    assert went.output == f"{MAIL} was moved back.\n"
    while len(postbox.ids) < 2:
        shop.worker.wake()
    assert postbox.ids[0] == postbox.ids[1]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["project_stock_levels", "--yes"], "would count twice"),
        (["nobody", "--yes"], "There is no subscription nobody"),
        ([MAIL, "--to", "yesterday", "--yes"], "is not a position"),
        ([MAIL, "--to", "2031-05-01", "--yes"], "is not a position"),
        ([MAIL, "--to", f"0-{10**18}", "--yes"], "is not a position"),
        ([MAIL, "--to", "1-2", "--yes"], "the log has no partition 1; it has one, 0."),
        ([MAIL, "--to", "0-1", "--to", "0-2", "--yes"], "give each partition only once."),
    ],
)
def test_what_cannot_go_back_is_told(shop: Application, command: CliRunner, arguments: list[str], reason: str) -> None:
    before = {(c.subscription, c.seq) for c in shop.subscriptions.cursors()}
    went = command.invoke(main, ["subscriptions", "rewind", *arguments])
    assert went.exit_code != 0
    assert reason in went.output
    assert {(c.subscription, c.seq) for c in shop.subscriptions.cursors()} == before


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
    assert command.invoke(main, ["subscriptions", "remove", chairs, "--yes"]).output == "chairs was removed.\n"
    again = command.invoke(main, ["subscriptions", "remove", chairs, "--yes"])
    unknown = "Error: There is no subscription chairs: `allocation subscriptions list` shows all.\n"
    assert (again.exit_code, again.output) == (1, unknown)
    for command_of_one in ("show", "pull", "rewind"):
        assert command.invoke(main, ["subscriptions", command_of_one, chairs]).output == unknown


def test_help_says_what_becomes_of_partitions_that_are_not_named(command: CliRunner) -> None:
    told = " ".join(command.invoke(main, ["subscriptions", "rewind", "--help"]).output.split())
    assert "give one per partition of the log. The others start at the beginning." in told


@pytest.mark.parametrize("asked", [["pull"], ["remove", "--yes"]])
def test_what_is_built_in_is_said_to_be_so(shop: Application, command: CliRunner, asked: list[str]) -> None:
    refused = command.invoke(main, ["subscriptions", *asked, "project_stock_levels"])
    told = (
        "Error: project_stock_levels is built in; only subscriptions that users define can be pulled from or removed.\n"
    )
    assert (refused.exit_code, refused.output) == (1, told)


def test_who_delivers_is_told_as_the_topology_has_it(shop: Application, chairs: str, command: CliRunner) -> None:
    shop.worker.stop()
    wanted = json.dumps({"delivery": "push", "sink": {"url": "https://shop.example.com/"}})
    command.invoke(main, ["subscriptions", "define", "hook", "-"], input=wanted)
    routes = {r["subscription"]: r for r in json.loads(command.invoke(main, ["topology", "--json"]).output)["routes"]}
    listed = command.invoke(main, ["subscriptions", "list"]).output.splitlines()
    rows = {line.split()[0]: " ".join(line.split()[4:]) for line in listed if line.startswith(" ")}
    assert rows["chairs"] == routes["chairs"]["place"] == "consumers that pull"
    assert rows["hook"] == rows[MAIL] == f"nobody now; start {routes['hook']['runs']}"


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
    assert (refused.exit_code, refused.output) == (1, "Error: hook is pushed, and cannot be pulled from.\n")


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("{", "The input is not JSON: expecting property name enclosed in double quotes (line 1, column 2)."),
        ('{"delivery": "pull", "rules": [{"name": "a", "filter": "qty >"}]}', "#/rules/0/filter: At character 6"),
        ('{"delivery": "pull", "rules": [{"name": "a b"}]}', "#/rules/0/name: must match"),
    ],
)
def test_a_bad_definition_is_told_with_its_place(command: CliRunner, body: str, told: str) -> None:
    refused = command.invoke(main, ["subscriptions", "define", "chairs", "-"], input=body)
    assert refused.exit_code == 1
    assert told in refused.output


# A reader that takes its time


class SlowReader:
    """Reads what is printed, and takes `seconds_each` for it by the application's clock."""

    def __init__(self, clock: SetClock) -> None:
        self.seconds_each = 0.0
        self.read: list[str] = []
        self._clock, self._echo = clock, click.echo

    def echo(self, message: str | bytes = "", err: bool = False, **options: Any) -> None:
        self._echo(message, err=err, **options)
        if not err:
            self.read.append(json.loads(message)["subject"])
            self._clock.step(self.seconds_each)


@pytest.fixture
def many(monkeypatch: pytest.MonkeyPatch) -> Iterator[Application]:
    """Forty batches, each of a product of its own, and `all` from the beginning."""
    application = bootstrap(load_settings(database_url="memory:"), clock=SetClock())
    application.subscribers.define(Definition("all", "pull"), from_the_beginning=True)
    for n in range(40):
        application.bus.handle(CreateBatch(f"b{n}", f"SKU-{n:02}", 1))
    monkeypatch.setattr(opened, "application", lambda: nullcontext(application))
    yield application
    application.close()


@pytest.fixture
def reader(many: Application, monkeypatch: pytest.MonkeyPatch) -> SlowReader:
    assert isinstance(many.clock, SetClock)
    slow = SlowReader(many.clock)
    monkeypatch.setattr(click, "echo", slow.echo)
    return slow


SKUS = [f"SKU-{n:02}" for n in range(40)]


def test_a_slow_reader_gets_each_event_once(many: Application, reader: SlowReader, command: CliRunner) -> None:
    reader.seconds_each = 10
    pulled = command.invoke(main, ["subscriptions", "pull", "all"])
    assert (pulled.exit_code, pulled.stderr) == (0, "")
    assert reader.read == SKUS
    assert many.subscriptions.lanes("all") == []


def test_no_lock_runs_while_the_reader_takes_nothing(
    many: Application, reader: SlowReader, command: CliRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = many.clock
    assert isinstance(clock, SetClock)
    monkeypatch.setattr(subscriptions, "wait_for_reader", lambda: clock.step(3600))
    pulled = command.invoke(main, ["subscriptions", "pull", "all"])
    assert (pulled.stderr, reader.read) == ("", SKUS)


def test_what_is_acknowledged_too_late_is_told_and_comes_again(
    many: Application, reader: SlowReader, command: CliRunner
) -> None:
    reader.seconds_each = 61
    pulled = command.invoke(main, ["subscriptions", "pull", "all", "--key", "SKU-07", "--most", "1"])
    assert pulled.exit_code == 0
    assert pulled.stderr == "SKU-07 was printed too late to be acknowledged: its lock had expired. It comes again.\n"
    reader.seconds_each = 0
    assert command.invoke(main, ["subscriptions", "pull", "all", "--key", "SKU-07"]).stderr == ""
    assert reader.read == ["SKU-07", "SKU-07"]


def test_copies_of_one_event_count_as_one(many: Application, reader: SlowReader, command: CliRunner) -> None:
    rules = NamedRule("a", action="SET x = 1"), NamedRule("b", action="SET x = 2")
    many.subscribers.define(Definition("copies", "pull", rules), from_the_beginning=True)
    assert command.invoke(main, ["subscriptions", "pull", "copies", "--most", "7"]).exit_code == 0
    assert reader.read == [sku for sku in SKUS[:7] for _ in rules]


def test_what_stands_behind_many_unwanted_events_is_pulled(
    many: Application, reader: SlowReader, command: CliRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    many.subscribers.define(Definition("last", "pull", (NamedRule("last", "sku = 'SKU-39'"),)), from_the_beginning=True)
    monkeypatch.setattr(pull_locks, "PAGE", 2)
    monkeypatch.setattr(pulling, "LONGEST_SEARCH_SECONDS", 0.0)
    command.invoke(main, ["subscriptions", "pull", "last"])
    assert reader.read == ["SKU-39"]


def test_a_full_pipe_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    os.set_blocking(write, False)
    with suppress(BlockingIOError):
        while True:
            os.write(write, b"x" * 4096)
    with open(read, "rb", buffering=0) as reads, open(write, "w") as writes:
        monkeypatch.setattr(sys, "stdout", writes)
        waiting = Thread(target=subscriptions.wait_for_reader, daemon=True)
        waiting.start()
        waiting.join(0.05)
        assert waiting.is_alive()
        reads.read(65536)
        waiting.join(10)
        assert not waiting.is_alive()
