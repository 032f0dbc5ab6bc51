"""`allocation verify`, `allocation rebuild` and `/v1/audit`, as their users meet them."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from click.testing import CliRunner

from allocation.adapters.memory_verification import MemoryBooks
from allocation.bootstrap import Application, bootstrap
from allocation.config import Settings
from allocation.domain.commands import Allocate, CreateBatch
from allocation.entrypoints.cli import main
from allocation.entrypoints.flask_app import create_app
from allocation.service_layer.errors import ConnectionLost
from allocation.service_layer.self_audit import SelfAudit
from allocation.service_layer.verify import Place, Steps, Walk
from tests.e2e.conforming import ConformingClient
from tests.e2e.service import Service
from tests.fakes import SetClock
from tests.integration.damage import execute

CHAIR = "RED-CHAIR"
LOSE_A_LINE = "DELETE FROM order_lines WHERE orderid = 'o1'"
FORGET_A_COMMAND = "DELETE FROM inbox WHERE position = 2"


@pytest.fixture
def url(sqlite_url: str) -> str:
    """A database with one batch and two lines on it."""
    application = bootstrap(Settings(database_url=sqlite_url))
    for command in (CreateBatch("b1", CHAIR, 10), Allocate("o1", CHAIR, 6), Allocate("o2", CHAIR, 4)):
        application.bus.handle(command)
    application.close()
    return sqlite_url


@pytest.fixture
def cli(url: str) -> CliRunner:
    return CliRunner(env={"ALLOCATION_DATABASE_URL": url})


def test_verify_says_that_all_is_well(cli: CliRunner) -> None:
    ran = cli.invoke(main, ["verify"])
    assert ran.exit_code == 0
    assert ran.output.startswith("1 products, 3 events, 3 commands in ")
    assert ran.output.endswith(" seconds: log and tables agree.\n")


def test_verify_names_what_differs_and_rebuild_repairs_it(cli: CliRunner, url: str) -> None:
    execute(url, LOSE_A_LINE)
    ran = cli.invoke(main, ["verify"])
    assert ran.exit_code == 1
    assert f"order_lines o1 {CHAIR}: the log says that it has 6 on b1" in ran.output
    assert ran.output.endswith("2 differences.\n")
    ran = cli.invoke(main, ["rebuild"])
    assert ran.exit_code == 0
    assert ran.output.count("(repaired)") == 2
    assert ran.output.endswith("2 differences, 2 repaired.\n")
    assert cli.invoke(main, ["verify"]).exit_code == 0


def test_json_for_programs(cli: CliRunner, url: str) -> None:
    execute(url, LOSE_A_LINE, FORGET_A_COMMAND)
    ran = cli.invoke(main, ["rebuild", "--json"])
    assert ran.exit_code == 1
    told = json.loads(ran.output)
    assert {(d["table"], d["repaired"]) for d in told.pop("differences")} == {
        ("order_lines", True),
        ("batches", True),
        ("inbox", False),
    }
    assert told.pop("seconds") > 0
    assert told == {
        "equal": False,
        "unrepaired": 1,
        "products": 1,
        "events": 3,
        "commands": 2,
        "stopped": None,
        "how_to_go_on": None,
    }


@pytest.mark.parametrize("as_json", [True, False])
def test_what_was_interrupted_goes_on_where_it_was(
    cli: CliRunner, url: str, as_json: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute(url, LOSE_A_LINE)
    step = Walk.step

    def stopped(self: Walk, place: Place) -> object:
        if place.part == "commands":
            raise KeyboardInterrupt
        return step(self, place)

    monkeypatch.setattr(Walk, "step", stopped)
    ran = cli.invoke(main, ["verify", *(["--json"] if as_json else [])])
    monkeypatch.undo()
    assert ran.exit_code == 1
    assert "allocation verify --from commands:0:" in ran.output
    rest = cli.invoke(main, ["verify", "--from", "commands:0:"])
    assert rest.exit_code == 0
    assert rest.output.startswith("0 products, 0 events, 3 commands")


def test_a_database_that_goes_away_meanwhile_is_told(cli: CliRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(self: Walk, place: Place) -> object:
        raise ConnectionLost("The database does not answer")

    monkeypatch.setattr(Walk, "step", lost)
    ran = cli.invoke(main, ["rebuild"])
    assert ran.exit_code == 1
    assert "Stopped: The database does not answer. To continue: allocation rebuild --from log:0:" in ran.output


@pytest.mark.parametrize("command", ["verify", "rebuild"])
def test_what_breaks_off_is_json_all_the_same(cli: CliRunner, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(self: Walk, place: Place) -> object:
        raise ValueError("a row that nobody can read")

    monkeypatch.setattr(Walk, "_commands", fails)
    ran = cli.invoke(main, [command, "--json"])
    told = json.loads(ran.stdout)
    assert (told["stopped"], told["equal"]) == ("a row that nobody can read", False)
    assert told["how_to_go_on"] == f"allocation {command} --from commands:0:"
    assert isinstance(ran.exception, ValueError), "a defect of ours is told as one"
    assert "agree, as far as they were compared" in cli.invoke(main, [command]).stdout


@pytest.mark.parametrize("place", ["nowhere", "log:x:", "log:0:y", "log:1:5", "products"])
def test_a_forged_place_is_refused(cli: CliRunner, place: str) -> None:
    """One partition is all this log has."""
    run = "a run over this log" if place == "log:1:5" else "a run"
    ran = cli.invoke(main, ["verify", "--from", place])
    assert ran.exit_code == 2
    assert f"this is not a place that {run} printed." in ran.output


def audit_of(application: Application, owner: str = "auditor", rest_seconds: float = 60.0) -> SelfAudit:
    walk = Walk(application.books, application.settings.log_partitions, Steps(1, 2, 2))
    return SelfAudit(walk, application.audits, application.clock, owner, 1.0, rest_seconds)


def test_the_self_audit_tells_its_last_round_and_the_one_under_way(
    application: Application, client: ConformingClient
) -> None:
    assert client.get("/v1/audit").json == {"last": None, "current": None}
    application.bus.handle(CreateBatch("b1", CHAIR, 10))
    application.bus.handle(Allocate("o1", CHAIR, 6))
    audit = audit_of(application, rest_seconds=1e-9)
    assert audit.step() == 1.0
    told = client.get("/v1/audit").json
    assert told["last"] is None
    assert told["current"]["ended_at"] is None
    audit_to_the_end(application, audit)
    told = client.get("/v1/audit").json["last"]
    assert (told["events"], told["products"], told["commands"], told["differences"]) == (2, 1, 2, 0)
    damage_a_line(application)
    audit_to_the_end(application, audit)
    told = client.get("/v1/audit").json["last"]
    assert told["differences"] == 2
    assert told["first"][0] == {
        "table": "order_lines",
        "place": f"o1 {CHAIR}",
        "problem": "qty: the log says 6, the table has 5",
    }


def damage_a_line(application: Application) -> None:
    if isinstance(application.books, MemoryBooks):
        application.books._store.products[CHAIR].lines["o1"].qty = 5
    else:
        execute(application.settings.database_url, "UPDATE order_lines SET qty = 5 WHERE orderid = 'o1'")


def audit_to_the_end(application: Application, audit: SelfAudit) -> None:
    before = application.audits.read().last
    while application.audits.read().last == before:
        audit.step()


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_one_process_audits_at_a_time_and_the_next_goes_on_where_it_was(
    kind: str, request: pytest.FixtureRequest
) -> None:
    clock = SetClock()
    with opened(request.getfixturevalue(f"{kind}_url"), clock) as application:
        application.bus.handle(CreateBatch("b1", CHAIR, 10))
        first, second = audit_of(application, "first"), audit_of(application, "second")
        first.step()
        place = application.audits.read().place
        second.step()
        assert application.audits.read().place == place
        clock.step(3600)
        second.step()
        assert application.audits.read().place != place
        assert not application.audits.write(application.audits.read(), "first")


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
@pytest.mark.parametrize("damage", ["current_round = '{\"started\":1}'", "last_round = '{'", "place = 'nowhere'"])
def test_what_another_version_left_of_a_round_is_begun_anew(
    kind: str, damage: str, request: pytest.FixtureRequest
) -> None:
    clock = SetClock()
    with opened(request.getfixturevalue(f"{kind}_url"), clock) as application:
        client = ConformingClient(create_app(application).test_client())
        application.bus.handle(CreateBatch("b1", CHAIR, 10))
        audit = audit_of(application)
        audit_to_the_end(application, audit)
        clock.step(3600)
        while application.audits.read().place != "commands:0:":
            audit.step()
        execute(application.settings.database_url, f"UPDATE self_audit SET {damage}")
        assert client.get("/v1/audit").status_code == 200
        assert client.get("/metrics").status_code == 200
        if "last_round" in damage:
            assert application.audits.read().last is None
            assert application.audits.read().place == "commands:0:"
        audit_to_the_end(application, audit)
        last = application.audits.read().last
        assert last is not None
        assert (last.events, last.products, last.commands) == (1, 1, 1), "each counted once"


def test_a_round_is_followed_by_a_rest(database_url: str) -> None:
    clock = SetClock()
    with opened(database_url, clock) as application:
        audit = audit_of(application)
        audit_to_the_end(application, audit)
        ended = application.audits.read().last
        clock.step(20)
        assert audit.step() == 40
        assert application.audits.read().last == ended
        clock.step(41)
        assert audit.step() == 1.0
        assert application.audits.read().current is not None


@contextmanager
def opened(url: str, clock: SetClock) -> Iterator[Application]:
    application = bootstrap(Settings(database_url=url), clock)
    yield application
    application.close()


def test_the_running_service_audits_itself() -> None:
    """On the embedded default the serving process does it beside everything else."""
    with Service(audit_pause_seconds=0.01) as service:
        service.ask("POST", "/v1/batches", {"ref": "b1", "sku": CHAIR, "qty": 10})
        while (told := service.ask("GET", "/v1/audit")[1])["last"] is None:
            pass
        assert told["last"]["differences"] == 0


def test_the_audit_is_documented(memory_client: ConformingClient) -> None:
    page = create_app(bootstrap(Settings(database_url="memory:"))).test_client().get("/docs").text
    assert "/v1/audit" in page
