"""The time machine on the command line."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from allocation.bootstrap import Application, bootstrap
from allocation.config import Settings
from allocation.domain.commands import Allocate, ChangeBatchQuantity, CreateBatch, Deallocate
from allocation.entrypoints.cli import main
from tests.fakes import SetClock
from tests.integration.damage import execute

Run = Callable[..., Result]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Application]:
    """Ten chairs for two orders, the second of which waits for the next batch; a minute between commands."""
    clock = SetClock()
    app = bootstrap(Settings(database_url=f"sqlite:///{tmp_path_factory.mktemp('past')}/allocation.db"), clock=clock)
    for n, command in enumerate(
        (
            CreateBatch("B-1", "RED-CHAIR", 10),
            Allocate("o-1", "RED-CHAIR", 8),
            Allocate("o-2", "RED-CHAIR", 6),
            CreateBatch("B-2", "RED-CHAIR", 9),
            Deallocate("o-1", "RED-CHAIR"),
            CreateBatch("B-3", "SMALL-TABLE", 5),
        )
    ):
        app.bus.ask(app.bus.envelope(command, source="import", client="anna", correlation_id=f"request-{n}"))
        clock.step(60)
    yield app
    app.close()


@pytest.fixture
def run(shop: Application) -> Run:
    def invoke(*arguments: str, text: str | None = None) -> Result:
        environment = {"ALLOCATION_DATABASE_URL": shop.settings.database_url}
        return CliRunner().invoke(main, arguments, input=text, env=environment, catch_exceptions=False)

    return invoke


def words(text: str) -> str:
    return " ".join(text.split())


def test_history_tells_who_asked_what_and_what_happened(run: Run) -> None:
    told = run("history", "RED-CHAIR").stdout.splitlines()
    assert told[1:3] == [
        "    0-1, version 1: BatchCreated ref=B-1 sku=RED-CHAIR qty=10 eta=on-hand",
        "2031-03-01 12:01:00  Allocate orderid=o-1 sku=RED-CHAIR qty=8 if_short=wait "
        "(import by anna, correlation request-1)",
    ]
    assert len(told) == 5 + 8
    assert "o-2" not in run("history", "--order", "o-1").stdout
    assert len(run("history", "--batch", "B-1").stdout.splitlines()) == 3 + 3
    assert [len(s["events"]) for s in json.loads(run("history", "RED-CHAIR", "--json").stdout)["steps"]] == [
        1,
        1,
        2,
        2,
        2,
    ]
    assert len(run("history", "RED-CHAIR", "--after", "6", "--limit", "1").stdout.splitlines()) == 2


@pytest.mark.parametrize("what", [["RED-CHAIR"], ["--order", "o-2"], ["--batch", "B-1"]])
def test_a_history_is_told_in_parts_and_how_to_go_on(run: Run, what: list[str]) -> None:
    def events(text: str) -> list[str]:
        return [line for line in text.splitlines() if ", version " in line]

    whole = run("history", *what)
    assert "To continue" not in whole.stderr
    told: list[str] = []
    after: list[str] = []
    while (part := run("history", *what, "--limit", "1", *after)).exit_code == 0:
        assert len(events(part.stdout)) == 1
        told += events(part.stdout)
        after = part.stderr.removeprefix("To continue: ").split()
        assert after[0] == "--after"
    assert "since" in part.stderr
    assert told == events(whole.stdout)
    assert json.loads(run("history", *what, "--limit", "1", "--json").stdout)["next"] is not None
    assert json.loads(run("history", *what, "--json").stdout)["next"] is None


def test_an_explanation_is_told_in_parts_and_how_to_go_on(run: Run) -> None:
    first = run("explain", "o-2", "RED-CHAIR", "--limit", "1")
    assert ("left waiting" in first.stdout, "allocated to B-2" in first.stdout) == (True, False)
    assert first.stderr == "To continue: --after 3\n"
    second = run("explain", "o-2", "RED-CHAIR", "--after", "3")
    assert ("left waiting" in second.stdout, "allocated to B-2" in second.stdout) == (False, True)
    assert "no decision" in run("explain", "o-2", "RED-CHAIR", "--after", "99").stderr


@pytest.mark.parametrize(
    ("arguments", "code", "why"),
    [
        ([], 2, "Name exactly one of"),
        (["RED-CHAIR", "--after", "0-1"], 2, "a version of the product"),
        (["--order", "o-1", "--after", "7"], 2, "not a cursor of this log"),
        (["RED-CHAIR", "--order", "o-1"], 2, "Name exactly one of"),
        (["RED-CHIAR"], 1, "Nothing has happened to RED-CHIAR"),
        ([""], 1, "Nothing has happened to .\n"),
    ],
)
def test_history_wants_one_thing_that_is_there(run: Run, arguments: list[str], code: int, why: str) -> None:
    result = run("history", *arguments)
    assert (result.exit_code, why in result.stderr) == (code, True)


def test_stock_order_and_shop_are_shown_as_they_were(run: Run) -> None:
    then = words(run("stock", "RED-CHAIR", "--at", "0-4").stdout)
    assert then.startswith("RED-CHAIR, version 4: 2 available now")
    assert "1 order line waits, for 6 pieces in total" in then
    assert json.loads(run("stock", "RED-CHAIR", "--at", "2031-03-01T12:02:00", "--json").stdout)["version"] == 4
    assert "There is no order o-1" in run("order", "o-1").stderr
    assert "o-1" in run("order", "o-1", "--at", "0-2").stdout
    assert words(run("shop").stdout).endswith("RED-CHAIR 8 13 13 0 0 SMALL-TABLE 1 5 5 0 0")
    assert [p["sku"] for p in json.loads(run("shop", "--json", "--at", "0-8").stdout)["products"]] == ["RED-CHAIR"]
    nothing = run("shop", "--at", "0-0")
    assert (nothing.exit_code, nothing.output) == (1, "Error: The shop had no products then.\n")
    behind = run("shop", "--after", "SMALL-TABLE")
    assert (behind.exit_code, behind.output) == (0, ""), "who goes on has come to the end"
    assert json.loads(run("shop", "--at", "0-0", "--json").stdout) == {"products": [], "stopped": None}


@pytest.fixture
def damaged(sqlite_url: str) -> CliRunner:
    """Three products, and the event of the third, which tells that the second has ended, cannot be read."""
    app = bootstrap(Settings(database_url=sqlite_url))
    for sku in "ABC":
        app.bus.handle(CreateBatch(f"batch-{sku}", sku, 1))
    app.close()
    execute(sqlite_url, "UPDATE event_log SET data = '{' WHERE sku = 'C'")
    return CliRunner(env={"ALLOCATION_DATABASE_URL": sqlite_url})


def test_a_shop_that_breaks_off_is_told_up_to_there_and_why(damaged: CliRunner) -> None:
    ran = damaged.invoke(main, ["shop", "--json"])
    told = json.loads(ran.stdout)
    assert (ran.exit_code, [product["sku"] for product in told["products"]]) == (1, ["A"])
    assert told["stopped"].startswith("event 3 of the log, BatchCreated, cannot be read")
    assert "event 3 of the log" in ran.stderr
    ran = damaged.invoke(main, ["shop"])
    assert (ran.exit_code, words(ran.stdout).endswith("A 1 1 1 0 0")) == (1, True)
    assert json.loads(damaged.invoke(main, ["shop", "--json", "--limit", "1"]).stdout)["stopped"] is None


def test_a_part_of_a_shop_says_how_to_get_the_next(damaged: CliRunner) -> None:
    part = damaged.invoke(main, ["shop", "--limit", "1"])
    assert (part.exit_code, part.stderr) == (0, "To continue: --after A\n")
    assert "To continue" not in damaged.invoke(main, ["shop", "--limit", "3", "--at", "0-2"]).stderr


def test_a_shop_that_is_interrupted_is_json_all_the_same(damaged: CliRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("allocation.entrypoints.http.past.product_of_shop", interrupted)
    ran = damaged.invoke(main, ["shop", "--json"])
    assert (ran.exit_code, json.loads(ran.stdout)) == (1, {"products": [], "stopped": "interrupted"})


def test_a_time_that_is_none_and_a_place_to_come_are_told(run: Run) -> None:
    assert "must be a moment" in run("stock", "RED-CHAIR", "--at", "tomorrow").stderr
    for command in (("stock", "RED-CHAIR"), ("order", "o-1"), ("shop",)):
        result = run(*command, "--at", "0-99")
        assert (result.exit_code, "The log has no position 0-99" in result.stderr) == (1, True)


def test_a_cursor_that_the_log_does_not_reach_is_told_and_not_offered_again(run: Run) -> None:
    for command in (("events",), ("history", "--order", "o-1")):
        result = run(*command, "--after", "0-99")
        assert (result.exit_code, result.stderr) == (1, "Error: The log has no position 0-99\n")


def test_a_trace_is_a_tree(run: Run, shop: Application) -> None:
    shop.subscriptions.join("send_out_of_stock_notification", from_the_beginning=True)
    told = [line.strip("│├└─ ") for line in run("trace", "request-2").stdout.splitlines()]
    assert told == [
        "correlation request-2",
        "Allocate orderid=o-2 sku=RED-CHAIR qty=6 if_short=wait (import by anna, correlation request-2)",
        "0-3, version 3: Backordered orderid=o-2 sku=RED-CHAIR qty=6",
        "0-4, version 4: OutOfStock sku=RED-CHAIR",
        "send_out_of_stock_notification: waits: it has reached 0-0",
    ]
    assert json.loads(run("trace", "request-2", "--json").stdout)["commands"][0]["command"]["client"] == "anna"
    assert run("trace", "nobody").exit_code == 1


@pytest.mark.parametrize("by_events", [True, False])
def test_a_long_chain_is_shown_to_its_end(run: Run, shop: Application, by_events: bool) -> None:
    bus, cause, sku = shop.bus, "nothing", f"LINK-{by_events}"
    for n in range(201):
        envelope = bus.envelope(CreateBatch(f"{sku}-{n}", sku, 1), correlation_id=sku, causation_id=cause)
        bus.ask(envelope)
        cause = shop.history.events(sku, [n + 1])[0].id if by_events else envelope.id
    lines = run("trace", sku).stdout.splitlines()
    told = [line for line in lines if "CreateBatch" in line]
    assert [line.split("ref=")[1].split()[0] for line in told] == [f"{sku}-{n}" for n in range(200)]
    assert max(line.index("CreateBatch") for line in told) < 120
    assert "further commands are left out" in lines[-1]
    assert json.loads(run("trace", sku, "--json").stdout)["more"]


def test_what_is_left_out_of_a_large_command_is_told(run: Run, shop: Application) -> None:
    shop.bus.handle(CreateBatch("many", "LAMP", 1001))
    shop.bus.handle_many([shop.bus.envelope(Allocate(f"l-{n}", "LAMP", 1)) for n in range(1001)])
    shop.bus.ask(shop.bus.envelope(ChangeBatchQuantity("many", 0), correlation_id="large"))
    *_, told = run("trace", "large").stdout.splitlines()
    assert told.strip("│├└─ ").startswith("3 further events are left out: allocation events --after 0-")
    rest = run("events", "--json", *told.split("events ")[-1].split()).stdout.splitlines()
    assert len(rest) == 3


def test_explain_tells_of_every_batch_why(run: Run) -> None:
    told = words(run("explain", "o-2", "RED-CHAIR").stdout)
    assert "o-2, 6 RED-CHAIR, was left waiting. Caused by Allocate" in told
    assert "B-1 on hand 2 too little left" in told
    assert "was allocated to B-2. Caused by CreateBatch" in told
    assert "B-2 on hand 9 taken" in told
    assert "earlier rules" not in told
    assert json.loads(run("explain", "o-2", "RED-CHAIR", "--json").stdout)["decisions"][1]["batchref"] == "B-2"
    assert "never had a line" in run("explain", "o-9", "RED-CHAIR").stderr


def test_what_if_tells_who_would_move(run: Run, tmp_path: Path) -> None:
    asked = json.dumps(
        [
            {"type": "ChangeBatchEta", "ref": "B-2", "eta": "2031-05-06"},
            {"type": "Allocate", "orderid": "rush", "sku": "RED-CHAIR", "qty": 300},
            {"type": "ChangeBatchEta", "ref": "B-1", "eta": None},
        ]
    )
    file = tmp_path / "commands.json"
    file.write_text(asked)
    told = words(run("what-if", str(file)).stdout)
    assert "Command 2 would be refused: No batch of RED-CHAIR has 300 left." in told
    assert "Command 3 would change nothing." in told
    assert told.endswith("o-2 RED-CHAIR 6 another day B-2, on hand B-2, 2031-05-06")
    assert json.loads(run("what-if", "-", "--json", text=asked).stdout)["changes"][0]["orderid"] == "o-2"
    earlier = '[{"type": "ChangeBatchQuantity", "ref": "B-1", "qty": 7}]'
    assert "o-1 RED-CHAIR 8 starts to wait" in words(run("what-if", "-", "--at", "0-4", text=earlier).stdout)
    nothing = '[{"type": "ChangeBatchEta", "ref": "B-1", "eta": null}]'
    assert "No promise would change." in run("what-if", "-", text=nothing).stdout


@pytest.mark.parametrize(
    "asked", [("what-if",), ("subscriptions", "define", "chairs"), ("topology", "provision")], ids=" ".join
)
def test_of_what_never_ends_only_so_much_is_read(run: Run, asked: tuple[str, ...], tmp_path: Path) -> None:
    endless = tmp_path / "endless.json"
    with endless.open("wb") as file:
        file.truncate(2**40)
    result = run(*asked, str(endless))
    assert (result.exit_code, result.stdout) == (1, "")
    assert "The input is longer than 1,048,576 bytes." in result.stderr
    assert "or raise ALLOCATION_BODY_LIMIT_BYTES." in result.stderr
    assert "The input is longer than" in run(*asked, "-", text=" " * 1_048_577).stderr
    assert "The input is longer than" not in run(*asked, "-", text=" " * 1_048_576).stderr


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[", "The input is not JSON"),
        ("{}", "This is not a JSON list of commands; `allocation what-if --help` shows one."),
        (" \n", "This is not a JSON list of commands"),
        ("[]", "The list has no command; `allocation what-if --help` shows one that has."),
        ('{"commands": []}', "This is not a JSON list of commands"),
        ('[{"type": "Burn"}]', "0 must have as 'type' one of 'CreateBatch', "),
        ('[{"type": "Deallocate", "orderid": "o"}]', "0/sku is missing"),
    ],
)
def test_what_if_refuses_what_is_no_command(run: Run, text: str, why: str) -> None:
    result = run("what-if", "-", text=text)
    assert (result.exit_code, why in result.stderr) == (1, True)
