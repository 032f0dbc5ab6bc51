"""`allocation import`, from its options to its exit code."""

from __future__ import annotations

import csv
import gc
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from allocation.bootstrap import bootstrap
from allocation.config import Settings
from allocation.entrypoints.cli import main

Run = Callable[..., Result]

BATCHES = "ref,sku,qty,eta\nB-1,RED-CHAIR,10,\nB-2,SMALL-TABLE,5,2030-05-01\n"
ORDERS = "orderid,sku,qty\no-1,RED-CHAIR,6\no-1,SMALL-TABLE,1\no-2,RED-CHAIR,6\n"


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest) -> str:
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
def run(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The command line, in a folder with the files `batches.csv` and `orders.csv`."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "batches.csv").write_text(BATCHES)
    (tmp_path / "orders.csv").write_text(ORDERS)

    def invoke(*arguments: str, stdin: str | bytes | None = None) -> Result:
        environment = {"ALLOCATION_DATABASE_URL": database_url}
        return CliRunner().invoke(main, arguments, input=stdin, env=environment, catch_exceptions=False)

    return invoke


def events_in(database_url: str) -> int:
    app = bootstrap(Settings(database_url=database_url))
    try:
        return len(app.views.events((), 1000).events)
    finally:
        app.close()


BOTH = ("--batches", "batches.csv", "--orders", "orders.csv")


def test_batches_then_orders_and_again_changes_nothing(run: Run, database_url: str) -> None:
    first = run("import", *BOTH)
    assert first.stdout == ("batches.csv: 2 rows: 2 imported\norders.csv: 3 rows: 2 allocated, 1 waiting\n")
    assert (first.exit_code, first.stderr) == (0, "")
    events = events_in(database_url)
    again = run("import", *BOTH)
    assert again.stdout == (
        "batches.csv: 2 rows: 2 already present\norders.csv: 3 rows: 3 already present\nNothing changed.\n"
    )
    assert again.exit_code == 0
    assert events_in(database_url) == events == 6


def test_if_short_refuse_tells_who_went_without_and_is_no_failure(run: Run) -> None:
    result = run("import", *BOTH, "--if-short", "refuse")
    assert result.exit_code == 0
    assert "orders.csv: 3 rows: 2 allocated, 1 refused, out of stock" in result.stdout
    assert "orders.csv:4   o-2,RED-CHAIR,6   No batch of RED-CHAIR has 6 left" in result.stdout


def test_a_bad_row_stops_with_how_to_go_on(run: Run) -> None:
    Path("orders.csv").write_text(ORDERS.replace("o-2,RED-CHAIR,6", "o-2,RED-CHAIR,six\no-3,RED-CHAIR,1"))
    result = run("import", *BOTH)
    assert result.exit_code == 1
    assert "orders.csv: 3 rows: 2 allocated, 1 unreadable" in result.stdout
    assert result.stderr == (
        "Error: Stopped at orders.csv, line 4: the qty 'six' is not a whole number from 1 to 2147483647. The rows "
        "before it were imported. Correct it and run the same command again (imported rows are recognised), or leave "
        "such rows out with --on-error skip.\n"
    )
    Path("orders.csv").write_text(ORDERS)
    assert run("import", *BOTH).exit_code == 0


def test_a_refused_row_stops_with_nothing_behind_it_taken_in(run: Run) -> None:
    Path("orders.csv").write_text("orderid,sku,qty\no-1,RED-CHAIR,1\no-1,RED-CHAIR,2\no-3,RED-CHAIR,1\n")
    result = run("import", *BOTH)
    assert result.exit_code == 1
    assert "line 3: Order o-1 already has a line for RED-CHAIR, with quantity 1" in result.stderr
    assert run("order", "o-1").exit_code == 0
    assert run("order", "o-3").exit_code == 1


def test_skip_goes_on_and_still_fails_in_the_end(run: Run) -> None:
    Path("orders.csv").write_text(ORDERS.replace("o-2,RED-CHAIR,6", "o-2,RED-CHAIR,six\no-3,RED-CHAIR,1"))
    result = run("import", *BOTH, "--on-error", "skip")
    assert result.exit_code == 1
    assert "orders.csv: 4 rows: 3 allocated, 1 unreadable" in result.stdout
    assert result.stderr == ""


def test_a_few_refused_rows_are_printed_and_all_are_written(run: Run) -> None:
    rows = "".join(f"o-{n},RED-CHAIR,none\n" for n in range(50))
    Path("orders.csv").write_text("orderid,sku,qty\n" + rows)
    result = run("import", *BOTH, "--on-error", "skip", "--refused", "refused.csv")
    assert result.stdout.count("is not a whole number") == 20
    assert "... and 30 more: --refused FILE writes all of them, --json prints them." in result.stdout
    with Path("refused.csv").open(newline="") as file:
        written = list(csv.DictReader(file))
    assert len(written) == 50
    assert written[-1]["file"] == "orders.csv"
    assert (written[-1]["number"], written[-1]["row"], written[-1]["outcome"]) == (
        "51",
        "o-49,RED-CHAIR,none",
        "unreadable",
    )


def test_refused_rows_that_cannot_be_written_are_told_without_a_trace(run: Run, database_url: str) -> None:
    result = run("import", *BOTH, "--refused", "nowhere/refused.csv")
    assert (result.exit_code, result.stderr) == (1, "Error: nowhere/refused.csv: No such file or directory.\n")
    assert events_in(database_url) == 0
    result = run("import", *BOTH, "--refused", "/dev/full")
    assert (result.exit_code, result.stderr) == (1, "Error: No space left on device.\n")
    assert "2 imported" in result.stdout


def test_bytes_that_are_no_text_are_told_and_given_back_as_they_were(run: Run) -> None:
    Path("orders.csv").write_bytes(b"orderid,sku,qty\no-1,RED-CHAIR,1\no-2,CH\xe9,1\n")
    result = run("import", *BOTH, "--on-error", "skip", "--refused", "refused.csv")
    assert result.exit_code == 1
    assert "orders.csv: 2 rows: 1 allocated, 1 unreadable" in result.stdout
    assert r"o-2,CH\xe9,1" in result.stdout
    assert b'orders.csv,3,"o-2,CH\xe9,1",unreadable,' in Path("refused.csv").read_bytes()


def test_a_file_whose_name_is_no_text_is_taken_in_and_told(run: Run) -> None:
    Path("caf\udce9.csv").write_text(BATCHES + "B-3,RED-CHAIR,none,\n")
    result = run("import", "--batches", "caf\udce9.csv", "--on-error", "skip")
    assert (result.exit_code, result.stderr) == (1, "")
    assert "caf\\xe9.csv: 3 rows: 2 imported, 1 unreadable" in result.stdout
    assert "caf\\xe9.csv:4   B-3,RED-CHAIR,none," in result.stdout


def test_json_tells_everything_to_programs(run: Run) -> None:
    Path("orders.csv").write_text(ORDERS + "o-3,BLUE-CHAIR,1\no-4,,1\n")
    result = run("import", *BOTH, "--on-error", "skip", "--json")
    told = json.loads(result.stdout)
    assert told["files"][0] == {
        "file": "batches.csv",
        "rows": 2,
        "taken_in": 2,
        "allocated": 0,
        "waiting": 0,
        "there_already": 0,
        "out_of_stock": 0,
        "refused": 0,
        "unreadable": 0,
    }
    assert told["files"][1]["allocated"] == 2
    assert told["changed"] == 5
    assert told["stopped"] is None
    assert told["position"] == "0-6"
    assert [(x["number"], x["outcome"], x["row"]) for x in told["refused"]] == [
        (5, "refused", "o-3,BLUE-CHAIR,1"),
        (6, "unreadable", "o-4,,1"),
    ]
    assert result.exit_code == 1


def test_json_is_well_formed_when_it_stops_too(run: Run) -> None:
    Path("batches.csv").write_text("ref,sku,qty,eta\nB-1,RED-CHAIR,10,someday\n")
    told = json.loads(run("import", *BOTH, "--json").stdout)
    assert told["stopped"].startswith("batches.csv, line 2: the eta 'someday' is not a date")


def test_a_dry_run_stores_nothing(run: Run, database_url: str) -> None:
    dry = run("import", *BOTH, "--dry-run")
    assert dry.stdout == (
        "batches.csv: 2 rows: 2 imported\norders.csv: 3 rows: 2 allocated, 1 waiting\nA dry run: nothing was stored.\n"
    )
    assert events_in(database_url) == 0
    run("import", *BOTH)
    Path("orders.csv").write_text("orderid,sku,qty\no-1,RED-CHAIR,6\no-9,RED-CHAIR,4\no-10,RED-CHAIR,1\n")
    assert "3 rows: 1 allocated, 1 waiting, 1 already present" in run("import", *BOTH, "--dry-run").stdout


def test_stdin_is_a_file_too(run: Run) -> None:
    result = run("import", "--batches", "-", "--orders", "orders.csv", stdin=BATCHES)
    assert result.stdout.startswith("stdin: 2 rows: 2 imported\norders.csv: 3 rows: 2 allocated")


def test_parquet_is_a_file_too(run: Run) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import csv as arrow_csv
    from pyarrow import parquet

    parquet.write_table(arrow_csv.read_csv("orders.csv"), "orders.parquet")
    result = run("import", "--batches", "batches.csv", "--orders", "orders.parquet")
    assert "orders.parquet: 3 rows: 2 allocated, 1 waiting" in result.stdout, pa.__version__


def test_both_headers_are_read_before_anything_is_taken_in(run: Run, database_url: str) -> None:
    Path("orders.csv").write_text("order,sku,qty\no-1,RED-CHAIR,6\n")
    result = run("import", *BOTH)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr == "Error: orders.csv: the first line must be orderid,sku,qty, not 'order,sku,qty'\n"
    assert events_in(database_url) == 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "Name a file to import: --batches FILE, --orders FILE, or both."),
        (("--batches", "-", "--orders", "-"), "Only one of --batches and --orders can be stdin."),
        (("--orders", "nowhere.csv"), "'nowhere.csv' does not exist"),
        (("--orders", "orders.csv", "--orders", "orders.csv"), "name one file; import several one after the other."),
        (("--orders", "orders.csv", "--refused", "a.csv", "--refused", "b.csv"), "'--refused': name one file."),
        (
            ("--orders", "orders.csv", "--refused", "./orders.csv"),
            "--refused would overwrite a file that is to be imported.",
        ),
        (("--orders", "orders.csv", "--group", "0"), "0 is not in the range"),
        (("--orders", "orders.csv", "--at-once", "9"), "9 is not in the range"),
        (("--orders", "orders.csv", "--if-short", "pray"), "'pray' is not one of"),
    ],
)
def test_wrong_usage_is_told_with_code_2(arguments: tuple[str, ...], sentence: str, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        Path("orders.csv").write_text(ORDERS)
        result = CliRunner().invoke(main, ["import", *arguments], catch_exceptions=False)
        assert result.exit_code == 2
        assert sentence in " ".join(result.stderr.split())
        assert Path("orders.csv").read_text() == ORDERS


def test_all_events_of_a_run_share_its_correlation_and_it_leaves_the_collector_as_it_was(run: Run) -> None:
    before = gc.get_threshold()
    run("import", *BOTH)
    assert gc.get_threshold() == before
    told = [json.loads(line) for line in run("events", "--json").stdout.splitlines()]
    assert len({event["correlationid"] for event in told}) == 1
    assert len({event["causationid"] for event in told}) == 5, "one command a row; of the waiting one two events"


def test_killed_in_the_middle_the_same_command_finishes(tmp_path: Path, sqlite_url: str) -> None:
    (tmp_path / "batches.csv").write_text("ref,sku,qty,eta\nB-1,RED-CHAIR,1000000,\n")
    lines = 20_000
    with (tmp_path / "orders.csv").open("w") as file:
        file.write("orderid,sku,qty\n")
        file.writelines(f"o-{n},RED-CHAIR,1\n" for n in range(lines))
    command = [sys.executable, "-m", "allocation.entrypoints.cli", "import", *BOTH, "--group", "200"]
    environment = {"ALLOCATION_DATABASE_URL": sqlite_url}
    importing = subprocess.Popen(command, cwd=tmp_path, env=environment)
    app = bootstrap(Settings(database_url=sqlite_url))
    try:
        while len(app.views.events((), 1000).events) < 600:
            assert importing.poll() is None, "the import ended before it could be killed"
        importing.kill()
        importing.wait()
        after_kill = len(app.views.events((), 2 * lines).events)
        assert after_kill < lines + 1
        assert (after_kill - 1) % 200 == 0, "whole groups"
        subprocess.run(command, cwd=tmp_path, env=environment, check=True, stdout=subprocess.DEVNULL)
        page = app.views.events((), 2 * lines)
        assert len(page.events) == lines + 1
    finally:
        importing.kill()
        app.close()
