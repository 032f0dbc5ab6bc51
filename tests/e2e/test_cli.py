"""The commands that read, set up and explain."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from errno import ECONNREFUSED
from pathlib import Path
from threading import Event

import pytest
from click.testing import CliRunner, Result

from allocation.bootstrap import Application, bootstrap
from allocation.config import SECRET_IN_URL, Settings
from allocation.domain.commands import Allocate, ChangeBatchQuantity, CreateBatch
from allocation.entrypoints.cli import main
from allocation.entrypoints.flask_app import create_app
from allocation.entrypoints.settings_table import masked
from allocation.service_layer.errors import Unavailable
from tests.integration.damage import execute

Run = Callable[..., Result]


@pytest.fixture
def shop(sqlite_url: str) -> Iterator[Application]:
    """A few chairs, and more orders than chairs."""
    app = bootstrap(Settings(database_url=sqlite_url))
    app.bus.handle(CreateBatch("B-1", "RED-CHAIR", 10))
    app.bus.handle(Allocate("o-1", "RED-CHAIR", 6))
    app.bus.handle(Allocate("o-2", "RED-CHAIR", 6))
    app.bus.handle(CreateBatch("B-2", "SMALL-TABLE", 5))
    app.bus.handle(Allocate("o-1", "SMALL-TABLE", 2))
    yield app
    app.close()


@pytest.fixture
def run(shop: Application) -> Run:
    def invoke(*arguments: str, **environment: str) -> Result:
        environment = {"ALLOCATION_DATABASE_URL": shop.settings.database_url, **environment}
        return CliRunner().invoke(main, arguments, env=environment, catch_exceptions=False)

    return invoke


def words(text: str) -> str:
    return " ".join(text.split())


# --- stock, order ---------------------------------------------------------------------------------------------------


def test_stock_shows_batches_and_who_waits(run: Run) -> None:
    result = run("stock", "RED-CHAIR")
    assert result.exit_code == 0
    told = words(result.stdout)
    assert "RED-CHAIR, version 4: 4 available now" in told
    assert "B-1 on hand 10 4" in told
    assert "1 order line waits, for 6 pieces in total; the oldest first: order qty" in told
    assert told.endswith("o-2 6")


def test_movements_are_shown_as_http_tells_them(run: Run, shop: Application) -> None:
    assert run("movements", "RED-CHAIR").stdout == "RED-CHAIR: no movements have been counted yet.\n"
    shop.worker.start()
    pause = Event()
    while not (moved := shop.views.movements("RED-CHAIR")) or moved[0][1].backordered == 0:
        pause.wait(0.005)
    day = moved[0][0]
    told = words(run("movements", "RED-CHAIR").stdout)
    assert told.startswith("RED-CHAIR, pieces by day day received allocated deallocated backordered cancelled")
    assert told.endswith(f"{day} 10 6 0 6 0")
    body = create_app(shop).test_client().get("/v1/products/RED-CHAIR/movements").json
    assert json.loads(run("movements", "RED-CHAIR", "--json").stdout) == body
    unknown = run("movements", "RED-CHIAR")
    assert (unknown.exit_code, unknown.stderr) == (1, "Error: No batch of RED-CHIAR was ever bought.\n")


def test_events_of_a_sku_that_has_none_are_said_to_be_none(run: Run) -> None:
    for options in ([], ["--json"], ["--limit", "5"]):
        nothing = run("events", "--sku", "NOPE", *options)
        assert (nothing.exit_code, nothing.stdout, nothing.stderr) == (1, "", "Error: Nothing has happened to NOPE.\n")
    cursor = run("events", "--sku", "RED-CHAIR").stderr.split()[-1]
    again = run("events", "--sku", "RED-CHAIR", "--after", cursor)
    assert (again.exit_code, again.stdout) == (0, ""), "who asks again and again hears of nothing new"


def test_a_corrected_quantity_is_in_the_history_and_movements_say_so(run: Run, shop: Application) -> None:
    shop.bus.handle(ChangeBatchQuantity("B-1", 7))
    shop.worker.start()
    pause = Event()
    while any(cursor.lag_events for cursor in shop.subscriptions.cursors()):
        pause.wait(0.005)
    assert [moved.received for _, moved in shop.views.movements("RED-CHAIR")] == [10]
    assert "BatchQuantityChanged ref=B-1 sku=RED-CHAIR qty=7" in words(run("history", "RED-CHAIR").stdout)
    document = create_app(shop).test_client().get("/openapi.json").get_json()
    route = document["paths"]["/v1/products/{sku}/movements"]["get"]
    for told in (run("movements", "--help").stdout, route["description"]):
        assert "Received is what batches were announced with" in words(told)
        assert "a quantity that was corrected later is not in it" in words(told).lower()


def test_stock_as_json_has_what_http_tells_under_the_same_names(run: Run, shop: Application) -> None:
    told = json.loads(run("stock", "RED-CHAIR", "--json").stdout)
    body = create_app(shop).test_client().get("/v1/products/RED-CHAIR").json
    assert set(body) <= set(told)
    assert {
        name: told[name] for name in ("sku", "version", "available_now", "available", "waiting_lines", "waiting_qty")
    } == {name: body[name] for name in ("sku", "version", "available_now", "available", "waiting_lines", "waiting_qty")}
    for name in ("batches", "waiting"):
        assert [{k: x[k] for k in y} for x, y in zip(told[name], body[name], strict=True)] == body[name]


def test_order_shows_each_line(run: Run) -> None:
    assert words(run("order", "o-1").stdout).endswith(
        "RED-CHAIR 6 allocated B-1 on hand SMALL-TABLE 2 allocated B-2 on hand"
    )
    told = json.loads(run("order", "o-2", "--json").stdout)
    assert told["lines"] == [
        {"orderid": "o-2", "sku": "RED-CHAIR", "qty": 6, "status": "waiting", "batchref": None, "eta": None}
    ]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("stock", "BLUE-CHAIR"), "Error: No batch of BLUE-CHAIR was ever bought.\n"),
        (("order", "o-9"), "Error: There is no order o-9.\n"),
    ],
)
def test_what_is_not_there_is_told_with_code_1(run: Run, arguments: tuple[str, ...], sentence: str) -> None:
    for options in ((), ("--json",)):
        result = run(*arguments, *options)
        assert (result.exit_code, result.stdout, result.stderr) == (1, "", sentence)


# --- events ---------------------------------------------------------------------------------------------------------


def test_events_are_told_in_order(run: Run) -> None:
    lines = run("events").stdout.splitlines()
    assert [line.split(" ", 2)[2] for line in lines] == [
        "RED-CHAIR 1 BatchCreated ref=B-1 qty=10 eta=on-hand",
        "RED-CHAIR 2 Allocated orderid=o-1 qty=6 batchref=B-1",
        "RED-CHAIR 3 Backordered orderid=o-2 qty=6",
        "RED-CHAIR 4 OutOfStock",
        "SMALL-TABLE 1 BatchCreated ref=B-2 qty=5 eta=on-hand",
        "SMALL-TABLE 2 Allocated orderid=o-1 qty=2 batchref=B-2",
    ]


def test_events_go_on_from_the_cursor_that_was_told(run: Run) -> None:
    first = run("events", "--limit", "4")
    cursor = first.stderr.split()[-1]
    assert first.stderr == f"To continue: --after {cursor}\n"
    rest = run("events", "--after", cursor)
    assert (first.stdout + rest.stdout).splitlines() == run("events").stdout.splitlines()
    assert run("events", "--after", rest.stderr.split()[-1]).stdout == ""


def test_events_as_json_are_those_of_the_http_feed(run: Run, shop: Application) -> None:
    told = [json.loads(line) for line in run("events", "--sku", "SMALL-TABLE", "--json").stdout.splitlines()]
    assert told == create_app(shop).test_client().get("/v1/events?sku=SMALL-TABLE").json["events"]
    assert len(told) == 2


def test_a_forged_cursor_is_wrong_usage(run: Run) -> None:
    result = run("events", "--after", "4-x")
    assert result.exit_code == 2
    assert "this is not a cursor of this log" in result.stderr


def test_followed_events_come_as_they_are_committed_and_ctrl_c_ends_it_well(shop: Application) -> None:
    command = [sys.executable, "-u", "-m", "allocation.entrypoints.cli", "events", "--follow"]
    environment = os.environ | {"ALLOCATION_DATABASE_URL": shop.settings.database_url}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as following:
        assert following.stdout is not None
        assert following.stderr is not None
        try:
            for _ in range(6):
                following.stdout.readline()
            shop.bus.handle(CreateBatch("B-3", "OAK-SHELF", 1))
            assert "OAK-SHELF 1 BatchCreated ref=B-3" in following.stdout.readline()
            following.send_signal(signal.SIGINT)
            assert following.wait(20) == 0
            assert following.stderr.read().startswith("To continue: --after ")
        finally:
            following.kill()  # else a failure would wait for its end for ever


# --- settings -------------------------------------------------------------------------------------------------------


def test_settings_tell_value_meaning_default_and_source(run: Run) -> None:
    told = run("settings", ALLOCATION_PORT="8000").stdout
    assert "ALLOCATION_PORT = 8000   (environment; default 5005)\n    Port the HTTP service listens on\n" in told
    assert "ALLOCATION_HOST = 127.0.0.1   (default)\n" in told


def test_settings_as_json_hold_every_setting(run: Run) -> None:
    told = {x["name"]: x for x in json.loads(run("settings", "--json", allocation_threads="4").stdout)}
    assert set(told) == {f"ALLOCATION_{name.upper()}" for name in Settings.model_fields}
    assert told["ALLOCATION_THREADS"]["value"] == "4"
    assert told["ALLOCATION_THREADS"]["source"] == "environment"
    assert told["ALLOCATION_PORT"] == {
        "name": "ALLOCATION_PORT",
        "value": "5005",
        "meaning": "Port the HTTP service listens on",
        "default": "5005",
        "source": "default",
    }


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("postgresql://anna:s3cret@db.example/shop", "postgresql://anna:***@db.example/shop"),
        (
            "postgresql+psycopg://anna:p@ss:w/rd?@db/shop?connect_timeout=3",
            "postgresql+psycopg://anna:***@db/shop?connect_timeout=3",
        ),
        (
            "postgresql://db/shop?user=anna&password=s3cret&sslmode=require",
            "postgresql://db/shop?user=anna&password=***&sslmode=require",
        ),
        ("postgresql://:s3cret@db/shop", "postgresql://:***@db/shop"),
        ("postgresql://anna@db/shop", "postgresql://anna@db/shop"),
        ("sqlite:///allocation.db", "sqlite:///allocation.db"),
        ("memory:", "memory:"),
        ("s3cret", "***"),
        ("", ""),
    ],
)
def test_a_secret_is_masked_and_the_rest_of_an_url_is_shown(value: str, shown: str) -> None:
    assert masked(value, SECRET_IN_URL) == shown


def test_no_command_prints_the_password(run: Run) -> None:
    url = "postgresql://anna:s3cret@127.0.0.1:1/shop"
    for command in (["settings"], ["settings", "--json"], ["migrate"], ["stock", "RED-CHAIR"], ["events"]):
        result = run(*command, ALLOCATION_DATABASE_URL=url)
        assert "s3cret" not in result.output, command


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("ALLOCATION_PRT", "ALLOCATION_PRT is not a setting, and has no effect. Did you mean ALLOCATION_PORT?"),
        ("allocation_cach", "ALLOCATION_CACH is not a setting, and has no effect. Did you mean ALLOCATION_CACHE?"),
        ("ALLOCATION_SIZE_OF_THE_SHOP", "ALLOCATION_SIZE_OF_THE_SHOP is not a setting, and has no effect."),
        ("ALLOCATION_TEST_SEED", None),
        ("ALLOCATION_THREADS", None),
    ],
)
def test_a_name_that_is_no_setting_is_told_and_stops_nothing(
    name: str, told: str | None, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    assert run("settings", "--json", **{name: "5"}).exit_code == 0
    expected = [] if told is None else [("WARNING", f"{told} `allocation settings` lists all settings.")]
    assert [(line.levelname, line.message) for line in caplog.records] == expected


def test_where_kubernetes_says_a_service_called_allocation_is_changes_nothing(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    """It tells every container the address of each Service, in names that begin with the Service's."""
    plain = run("settings", "--json").stdout
    told = {"SERVICE_HOST": "10.0.0.7", "SERVICE_PORT": "80", "SERVICE_PORT_HTTP": "80", "PORT": "tcp://10.0.0.7:80"}
    told |= {"PORT_80_TCP": "tcp://10.0.0.7:80", "PORT_80_TCP_PROTO": "tcp", "PORT_80_TCP_ADDR": "10.0.0.7"}
    found = run("settings", "--json", **{f"ALLOCATION_{name}": value for name, value in told.items()})
    assert (found.exit_code, found.stdout) == (0, plain)
    assert caplog.records == []


def test_a_wrong_setting_is_explained_and_stops_every_command(run: Run) -> None:
    result = run("settings", ALLOCATION_PORT="high")
    assert result.exit_code == 1
    assert "ALLOCATION_PORT = high   (environment; default 5005)" in result.stdout
    assert result.stderr.startswith("Error: ALLOCATION_PORT is wrong: ")
    for command in (["serve"], ["migrate"], ["stock", "X"], ["order", "X"], ["events"]):
        stopped = run(*command, ALLOCATION_PORT="high")
        assert (stopped.exit_code, stopped.stderr) == (1, result.stderr)


# --- the rest -------------------------------------------------------------------------------------------------------


def test_migrate_says_what_it_did(tmp_path: Path) -> None:
    environment = {"ALLOCATION_DATABASE_URL": f"sqlite:///{tmp_path / 'new.db'}"}
    first = CliRunner().invoke(main, ["migrate"], env=environment, catch_exceptions=False)
    assert first.stdout.startswith("The database was empty; its tables have been created (revision ")
    second = CliRunner().invoke(main, ["migrate"], env=environment, catch_exceptions=False)
    assert second.stdout.startswith("Nothing to do: the database is already at revision ")
    told = json.loads(CliRunner().invoke(main, ["migrate", "--json"], env=environment).stdout)
    assert told["before"] == told["after"]
    assert told["changed"] is False


def test_a_store_that_is_away_is_told_in_a_sentence(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object, **__: object) -> None:
        raise Unavailable("The database cannot be reached")

    monkeypatch.setattr("allocation.bootstrap.bootstrap", away)
    result = run("stock", "RED-CHAIR")
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", "Error: The database cannot be reached\n")


def test_serve_hands_the_settings_on(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[Settings] = []
    monkeypatch.setattr("allocation.entrypoints.server.serve", served.append)
    assert run("serve", ALLOCATION_PORT="8000").exit_code == 0
    assert [settings.port for settings in served] == [8000]


@pytest.mark.parametrize("command", [[], *([name] for name in main.commands)])
def test_every_command_has_help_and_those_with_arguments_an_example(command: list[str]) -> None:
    result = CliRunner().invoke(main, [*command, "--help"], catch_exceptions=False)
    assert result.exit_code == 0
    if command and any(parameter.name != "as_json" for parameter in main.commands[command[0]].params):
        assert "Example" in result.stdout


def test_help_does_not_wait_for_the_database_library() -> None:
    program = (
        "import sys; import allocation.entrypoints.cli; print('sqlalchemy' in sys.modules, 'flask' in sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert told.stdout == "False False\n"


# --- what nobody should type ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [["stock"], ["order"], ["history"], ["shop", "--after"], ["events", "--sku"]])
def test_bytes_that_are_no_text_are_told_without_a_trace(run: Run, command: list[str]) -> None:
    result = run(*command, "CH\udce9")
    assert result.exit_code == 2
    assert "contains bytes that are not UTF-8" in result.stderr


@pytest.mark.parametrize("url", ["postgresql://u:secret@host:port/db", "sqlite+foo:///x.db", "postgresql:"])
def test_a_database_address_that_cannot_be_read_is_told_without_a_trace(run: Run, url: str) -> None:
    result = run("stock", "RED-CHAIR", ALLOCATION_DATABASE_URL=url)
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ALLOCATION_DATABASE_URL cannot be read as an address")
    assert "secret" not in result.output


def test_a_damaged_event_is_told_without_a_trace(run: Run, shop: Application) -> None:
    execute(shop.settings.database_url, "UPDATE event_log SET data = 'damaged' WHERE position = 1")
    result = run("shop")
    assert result.exit_code == 1
    assert "cannot be read" in result.stderr
    assert "`allocation verify` shows what else is damaged." in result.stderr


def test_an_error_of_the_system_that_is_no_file_s_keeps_its_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused() -> None:
        raise ConnectionRefusedError(ECONNREFUSED, "Connection refused")

    monkeypatch.setattr("allocation.entrypoints.opened.application", refused)
    assert isinstance(CliRunner().invoke(main, ["stock", "RED-CHAIR"]).exception, ConnectionRefusedError)


@pytest.mark.parametrize("command", [["stock", "RED-CHAIR"], ["events", "--json"], ["shop", "--json"]])
def test_a_disk_that_is_full_is_told_without_a_trace(shop: Application, command: list[str]) -> None:
    environment = os.environ | {"ALLOCATION_DATABASE_URL": shop.settings.database_url}
    with open("/dev/full", "w") as full:
        told = subprocess.run(
            [sys.executable, "-m", "allocation.entrypoints.cli", *command],
            env=environment,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (told.returncode, told.stderr) == (1, "Error: No space left on device.\n")


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (["import", "--orders", "-"], "stdin is empty; its first line must be orderid,sku,qty"),
        (["what-if", "-"], "This is not a JSON list of commands"),
        (["rules", "try", "qty > 3"], "stdin does not hold a JSON object"),
        (["subscriptions", "define", "chairs", "-"], "The input is empty; send a JSON object"),
    ],
)
def test_a_stdin_that_is_closed_is_empty(shop: Application, command: list[str], sentence: str) -> None:
    program = [sys.executable, "-m", "allocation.entrypoints.cli", *command]
    told = subprocess.run(
        ["sh", "-c", 'exec "$@" <&-', "sh", *program],
        env=os.environ | {"ALLOCATION_DATABASE_URL": shop.settings.database_url},
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert f"Error: {sentence}" in told.stderr
    assert "Traceback" not in told.stderr
