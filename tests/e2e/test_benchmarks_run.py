"""The benchmarks run, small. Their figures mean nothing here; that they measure what they say does."""

import json
import random
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path

import psycopg
import pytest

from allocation.domain.commands import Allocate
from benchmarks import __main__ as program
from benchmarks import (
    bulk,
    curves,
    domain_speed,
    flat,
    hot_products,
    kafka_speed,
    load,
    orders,
    over_http,
    profiles,
    real_year,
    report,
    rules_speed,
    seeding,
    servers,
    time_machine,
    variants,
    verifying,
)
from benchmarks.databases import KINDS, Database, Databases, Kind
from benchmarks.oracle import Oracle
from benchmarks.orders import Line
from benchmarks.placements import differences
from benchmarks.real_past import Past
from tests.servers.kafka import Kafka
from tests.servers.postgres import VARIABLE, Postgres

pytestmark = pytest.mark.slow


@pytest.fixture
def databases(postgres_server: Postgres, monkeypatch: pytest.MonkeyPatch) -> Iterator[Databases]:
    """On the server of the tests, which need not sync; with few products, for to stock a thousand takes longer than
    what is done with them here."""
    monkeypatch.setenv(VARIABLE, postgres_server.url)
    for part in (over_http, kafka_speed):
        monkeypatch.setattr(part, "SKUS", 40)
    with Databases() as made:
        yield made


def shopping(seed: int = 1) -> Iterator[tuple[int, Line]]:
    """Two weeks of invented shopping: the real year is an extra that the tests do without."""
    dice = random.Random(seed)
    for basket in range(200):
        for product in dice.sample(range(60), k=dice.randint(1, 6)):
            yield (
                1 + basket // 100,
                (f"basket-{basket}", f"TABLE-{int(product**1.5) // 8}-{product}", dice.randint(1, 4)),
            )


@pytest.fixture
def invented(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orders, "real_with_week", shopping)


def test_http_is_measured_beside_the_echo(databases: Databases) -> None:
    [table] = over_http.tables(databases, KINDS, over_http.Size(1, 0.2, 0.1))
    per_second = {row[0]: row[1] for row in table.rows}
    assert list(per_second) == ["echo", "echo without Flask"] + [
        f"{kind}, {w}" for kind in KINDS for w in ("spread", "hot")
    ]
    assert all(isinstance(rate, float) and rate > 0 for rate in per_second.values())


def test_bulk_is_measured_beside_the_floor(databases: Databases, invented: None) -> None:
    [table] = bulk.tables(databases, KINDS, bulk.Size(rounds=1, lines=200))
    assert [row[0] for row in table.rows[:2]] == ["sqlite, real orders", "sqlite, real orders, floor by executemany"]
    beside = ", floor by functions in FROM"
    on_postgres = ["postgres, real orders", f"postgres, real orders{beside}", "postgres, real orders, 2 at once"]
    assert [row[0] for row in table.rows[6:9]] == on_postgres
    assert len(table.rows) == 14
    for row in table.rows:
        assert row[5] == pytest.approx(row[1] / row[3])  # type: ignore[operator]  # these columns are numbers


def test_hot_products_are_measured_beside_none(databases: Databases, invented: None) -> None:
    size = hot_products.Size(bulk.Size(rounds=1, lines=200), over_http.Size(1, 0.2, 0.1))
    [table] = hot_products.tables(databases, ("postgres",), size)
    assert len(table.rows) == 7
    for row in table.rows:
        assert row[5] == pytest.approx(row[1] / row[3])  # type: ignore[operator]  # these columns are numbers


def test_the_cost_of_one_command_is_compared_with_few_and_many_lines(databases: Databases) -> None:
    [table] = flat.tables(databases, KINDS, flat.Size(lines=200, waiting=200, repeats=3))
    assert [row[0] for row in table.rows] == [f"{k}, {what}" for k in KINDS for what in ("allocate", "deallocate")]


def test_the_cost_is_measured_over_sizes(databases: Databases) -> None:
    size = curves.Size((10, 100), (1, 10), (1, 10), (1, 2), (1, 10), repeats=3, bulk_lines=20, seconds=0.1, rounds=1)
    made = curves.tables(databases, KINDS, size)
    assert [len(table.rows) for table in made] == [2] * 5
    assert all(value > 0 for table in made for row in table.rows for value in row[1:])  # type: ignore[operator]  # numbers


def test_the_domain_is_measured_alone() -> None:
    [table] = domain_speed.tables(domain_speed.Size(1, 500))
    assert [row[0] for row in table.rows] == ["decisions", "events folded"]


def test_rules_are_measured_beside_a_function_that_says_the_same() -> None:
    [table] = rules_speed.tables(rules_speed.Size(1, 500))
    assert [row[0] for row in table.rows[:2]] == ["filter", "the same by hand"]
    assert table.rows[0][3] == pytest.approx(table.rows[0][1] / table.rows[1][1])  # type: ignore[operator]  # numbers


def test_verify_is_measured(databases: Databases) -> None:
    [table] = verifying.tables(databases, KINDS, verifying.Size((200, 400), rounds=1))
    assert [row[:2] for row in table.rows] == [[kind, lines] for kind in KINDS for lines in (200, 400)]
    assert all(row[2] > row[1] for row in table.rows)  # type: ignore[operator]  # these columns are numbers


def test_a_backlog_to_kafka_is_measured_beside_a_bare_producer(databases: Databases, kafka_server: Kafka) -> None:
    if not kafka_server.is_real:
        pytest.skip(kafka_server.source)
    [table] = kafka_speed.tables(databases, ("sqlite",), kafka_speed.Size(rounds=1, backlog=200))
    [row] = table.rows
    assert row[5] == pytest.approx(row[1] / row[3])  # type: ignore[operator]  # these columns are numbers


def test_the_past_is_measured_on_data_of_its_own(databases: Databases) -> None:
    size = time_machine.Size(events=3_000, hot=1_200, skus=20, waiting=50, samples=4, rounds=1)
    folded, moments, imagined = time_machine.tables(databases, KINDS, size)
    assert [row[0] for row in folded.rows] == list(KINDS)
    assert [row[:3] for row in moments.rows if row[2]] == [
        [f"{kind}, {how}", 1_201, 1] for kind in KINDS for how in ("cold", "again")
    ]
    for row in imagined.rows:
        waiting, events, changed = row[1:4]
        assert waiting >= 50  # type: ignore[operator]  # these columns are numbers
        assert events > waiting + changed > waiting  # type: ignore[operator]  # as above


@pytest.mark.parametrize("part", profiles.PARTS)
def test_a_profile_tells_rooms_functions_and_statements(monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    """On a PostgreSQL of its own, whose log is within reach; py-spy is an extra that the tests do without."""
    monkeypatch.delenv(VARIABLE, raising=False)
    through = "run (/x/site-packages/granian/wsgi.py);handle (/x/src/allocation/service_layer/messagebus.py)"

    def recorded(pid: int, seconds: float, idle: bool) -> str:
        wait = f"{through};Connection.wait (/x/site-packages/psycopg/connection.py) 8\n" if idle else ""
        return f"{through};Product.apply (/x/src/allocation/domain/model.py) 2\n{wait}no_request (/x/other.py) 99\n"

    with Databases() as databases:
        size = profiles.Size(seconds=0.2, repeats=8)
        rooms, functions, statements = profiles.tables(part, databases, size, recorded)
    assert [row[:2] for row in rooms.rows] == [["domain", 100.0], ["driver", 0.0]]
    assert [row[:2] for row in functions.rows] == [["`Product.apply (allocation/domain/model.py)`", 100.0]]
    told = [str(row[0]) for row in statements.rows]
    assert [told[0], told[-2], told[-1]] == ["`BEGIN`", "`COMMIT`", "all"]
    assert len([what for what in told if "INSERT INTO event_log" in what]) == 1
    assert statements.rows[-1][1] == pytest.approx(sum(row[1] for row in statements.rows[:-1]))  # type: ignore[misc]  # numbers
    assert report.PROFILE.read_text().count(f"<!-- profile-{part}-rooms: begin -->") == 1


def test_every_variant_runs(databases: Databases, invented: None) -> None:
    http, in_bulk = over_http.Size(1, 0.1, 0.1), bulk.Size(rounds=1, lines=100)
    assert [len(table.rows) for table in variants.tables(databases, KINDS, http, in_bulk)] == [7, 5, 9]


@pytest.mark.parametrize("kind", KINDS)
def test_a_year_goes_through_the_import_and_comes_out_as_the_oracle_says(
    databases: Databases, invented: None, kind: Kind
) -> None:
    past = Past(time_machine.Size(samples=4, rounds=1))
    with databases.fresh(kind) as database:
        year = real_year.run(database, weeks=None)
        past.measure(database)
    folded, _, imagined, verified = past.tables()
    assert folded.rows[0][1] == verified.rows[0][2]
    assert [row[3] > 0 for row in imagined.rows] == [True, True]  # type: ignore[operator]  # promises changed
    assert year.problems == []
    assert year.refused == 0
    assert year.lines == sum(1 for _ in shopping())
    assert year.waiting > 0
    assert sum(week.rows for week in year.weeks) == year.lines + year.batches
    assert sum(week.events for week in year.weeks) == folded.rows[0][1]


@pytest.mark.parametrize("kind", KINDS)
def test_a_single_misplaced_line_is_noticed(databases: Databases, kind: Kind) -> None:
    oracle = Oracle()
    with databases.fresh(kind) as database:
        with seeding.application(database) as app:
            for n in range(3):
                seeding.create_batches(app, [(f"batch-{n}", "RED-CHAIR", 5, None)])
                oracle.create_batch(f"batch-{n}", "RED-CHAIR", 5, None)
            for n in range(6):
                app.bus.handle(Allocate(f"order-{n}", "RED-CHAIR", 3))
                oracle.allocate(f"order-{n}", "RED-CHAIR", 3)
        assert list(differences(database, oracle)) == []
        execute(database, "UPDATE order_lines SET batchref = 'batch-2' WHERE orderid = 'order-1'")
        assert len(list(differences(database, oracle))) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_the_floor_writes_the_rows_that_the_service_writes(databases: Databases, kind: Kind) -> None:
    lines = [line for _, line in islice(shopping(), 400)]
    rows = [(f"{sku}-{n}", sku, 6, orders.LATER if n else None) for sku in {x[1]: 0 for x in lines} for n in range(2)]
    with databases.fresh(kind) as by_service, databases.fresh(kind) as by_hand:
        for database in (by_service, by_hand):
            with seeding.application(database) as app:
                seeding.create_batches(app, rows)
        with seeding.application(by_service) as app, seeding.floor(by_hand) as floor:
            for at in range(0, 400, 100):
                group = lines[at : at + 100]
                bulk.by_service(app, group)
                floor.allocate(group)
        for query in (
            "SELECT orderid, sku, qty, batchref, since FROM order_lines ORDER BY orderid, sku",
            "SELECT reference, purchased_quantity, allocated_quantity, eta, is_open FROM batches ORDER BY reference",
            "SELECT sku, version_number FROM products ORDER BY sku",
            "SELECT log_partition, position, sku, version, type, schema_version, traceparent, data FROM event_log "
            "ORDER BY position",
            "SELECT source, client, type, body, outcome, log_partition, position, traceparent FROM inbox "
            "WHERE type = 'Allocate' ORDER BY position",
            "SELECT e.position, i.position, e.causation_id = e.correlation_id, e.correlation_id = i.correlation_id, "
            "(SELECT count(*) FROM inbox o WHERE o.correlation_id = i.correlation_id) FROM event_log e "
            "JOIN inbox i ON i.id = e.causation_id WHERE i.type = 'Allocate' ORDER BY e.position",
            "SELECT log_partition, seq FROM log_head",
        ):
            assert execute(by_hand, query) == execute(by_service, query)
        assert execute(by_hand, "SELECT count(*) FROM order_lines WHERE batchref IS NULL") != [(0,)]


def test_a_load_stops_at_the_first_answer_that_is_not_as_expected() -> None:
    with servers.application("benchmarks.echo:app", workers=1) as port:
        bodies = (b"{}" if n < 40 else b"no json" for n in range(10_000))
        with pytest.raises(load.LoadError, match="status 500"):
            load.run(port, load.posts("/echo", bodies), seconds=5, warm_up_seconds=0, connections=4)


def test_the_tables_are_printed_as_json_for_programs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--quick", "--only", "domain", "--database", "sqlite", "--json"])
    program.main()
    told = json.loads(capsys.readouterr().out)
    assert set(told["circumstances"]) >= {"command", "Python", "processors", "SQLite"}
    assert [row["domain only, one thread"] for row in told["tables"]["domain"]] == ["decisions", "events folded"]


def test_results_are_written_between_their_markers_and_nowhere_else(tmp_path: Path) -> None:
    page = tmp_path / "RESULTS.md"
    page.write_text("before\n<!-- domain: begin -->\nof last week\n<!-- domain: end -->\nafter\n")
    report.write(domain_speed.tables(domain_speed.Size(1, 500)), {"command": "python -m benchmarks"}, page)
    text = page.read_text()
    assert text.startswith("before\n<!-- domain: begin -->\n| domain only, one thread |")
    assert text.endswith("<!-- domain: end -->\nafter\n")
    assert "last week" not in text


def test_every_table_has_its_place_in_the_results() -> None:
    page = report.RESULTS.read_text()
    parts = [*(part for part in program.PARTS if part not in ("time", "curves"))]
    parts += [
        "time-fold",
        "time-as-of",
        "time-what-if",
        *(f"curve-{curve.name}" for curve in curves.curves(curves.Size())),
    ]
    parts += [f"real-{name}" for name in ("year", "time-fold", "time-as-of", "time-what-if", "verify")]
    for name in (*parts, "variants-echo", *(f"variants-{kind}" for kind in KINDS)):
        assert page.count(f"<!-- {name}: begin -->") == page.count(f"<!-- {name}: end -->") == 1


def execute(database: Database, statement: str) -> list[tuple]:
    if database.kind == "sqlite":
        with closing(sqlite3.connect(database.target)) as connection, connection:
            return connection.execute(statement).fetchall()
    with psycopg.connect(database.target) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []
