"""Whatever is damaged in a database is found and named; what can be repaired is, and the rest is left alone."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from pathlib import Path
from random import Random
from shutil import copyfile

import pytest
from sqlalchemy.engine import make_url

from allocation.adapters.serialization import encode_snapshot
from allocation.adapters.sql.tables import metadata
from allocation.bootstrap import Application, bootstrap
from allocation.config import Settings
from allocation.domain.commands import (
    Allocate,
    ChangeBatchEta,
    ChangeBatchQuantity,
    Command,
    CreateBatch,
    Deallocate,
    IfShort,
)
from allocation.service_layer.comparing import Difference
from allocation.service_layer.envelope import LogPosition, partition_of
from allocation.service_layer.errors import Conflict
from allocation.service_layer.history.as_of import snapshot_at
from allocation.service_layer.history.snapshots import EVERY
from allocation.service_layer.verify import Place, Steps, Walk
from tests.e2e.truth import faults_of, read_tables
from tests.integration.damage import execute, rows_of
from tests.integration.verify_damages import CHAIR, DAMAGES, LAMP, LINE, TABLE, Damage
from tests.patience import wait_until
from tests.servers.postgres import Postgres

LEVELS, MOVEMENTS = "project_stock_levels", "count_movements"
TABLES = metadata.sorted_tables
TINY = Steps(products=1, events=3, rows=2)


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def template(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A database to copy: o1 and o2 fill b1, o3 waits; o4 was cancelled; b3 arrives late. 14 events of 11 commands, and
    two snapshots of the chairs, before o3 came and when it waited."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path_factory.mktemp('template') / 'allocation.db'}"
    else:
        server: Postgres = request.getfixturevalue("postgres_server")
        url = server.create_database()
    application = bootstrap(Settings(database_url=url))
    for command in (
        CreateBatch("b1", CHAIR, 10, date(2031, 5, 1)),
        CreateBatch("b2", TABLE, 5),
        CreateBatch("b3", LAMP, 7, date(2031, 6, 1)),
        Allocate("o1", CHAIR, 6),
        Allocate("o2", CHAIR, 4),
        Allocate("o3", CHAIR, 3),
        Allocate("o4", TABLE, 2),
        ChangeBatchQuantity("b2", 4),
        Deallocate("o4", TABLE),
        ChangeBatchEta("b3", date(2031, 7, 1)),
        Allocate("o5", TABLE, 9, IfShort.WAIT),
    ):
        application.bus.handle(command)
    application.worker.start()
    while not projected(application):
        application.worker.wake()
    kept = [snapshot_at(application.history, CHAIR, LogPosition(0, seq)) for seq in (5, 6)]
    application.close()
    values = ", ".join(f"('{x.sku}', {x.position.seq}, {x.version}, '{encode_snapshot(x)}')" for x in kept)
    execute(url, f"INSERT INTO snapshots (sku, position, version, state) VALUES {values}")
    if request.param == "postgres":
        execute(url, "CREATE SCHEMA saved", *(f"CREATE TABLE saved.{t.name} AS TABLE {t.name}" for t in TABLES))
    yield url
    if request.param == "postgres":
        server.drop_database(url)


def projected(application: Application) -> bool:
    """Whether the read models have seen the whole log."""
    cursors = {c.subscription: c for c in application.subscriptions.cursors()}
    return all(name in cursors and cursors[name].lag_events == 0 for name in (LEVELS, MOVEMENTS))


@pytest.fixture
def database_url(template: str, tmp_path: Path) -> str:
    """The same for each test: a copy, or the database itself with its rows put back (which is quicker)."""
    if template.startswith("sqlite"):
        copyfile(str(make_url(template).database), tmp_path / "allocation.db")
        return f"sqlite:///{tmp_path / 'allocation.db'}"
    names = {table.name: ", ".join(c.name for c in table.columns if c.computed is None) for table in TABLES}
    back = [f"INSERT INTO {name} ({columns}) SELECT {columns} FROM saved.{name}" for name, columns in names.items()]
    execute(template, f"TRUNCATE {', '.join(names)}", *back)
    return template


@pytest.fixture
def shop(database_url: str) -> Iterator[Application]:
    application = bootstrap(Settings(database_url=database_url))
    yield application
    application.close()


def found_in(shop: Application, repair: bool = False, steps: Steps | None = None) -> list[Difference]:
    walk = Walk(shop.books, shop.settings.log_partitions, steps, repair)
    return [difference for step in walk.run() for difference in step.differences]


def test_sound_books_are_found_sound(shop: Application, database_url: str) -> None:
    """In one go as in the smallest steps; the oracle of the tests agrees."""
    assert faults_of(read_tables(database_url)) == []
    assert found_in(shop) == []
    assert found_in(shop, steps=TINY) == []
    assert found_in(shop, repair=True) == []


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.name)
def test_damage_is_found_named_and_mended(shop: Application, database_url: str, damage: Damage) -> None:
    sound = rows_of(database_url, TABLES)
    execute(database_url, *damage.statements)
    damaged = rows_of(database_url, TABLES)
    told = [str(difference) for difference in found_in(shop)]
    for words in damage.named:
        assert any(words in sentence for sentence in told), f"{words!r} is not in {told}"
    rebuilt = found_in(shop, repair=True)
    assert any(difference.repaired for difference in rebuilt) == damage.mended
    assert rows_of(database_url, TABLES) == (sound if damage.mended else damaged)
    assert (found_in(shop) == []) == damage.mended


def test_every_table_that_follows_from_the_log_has_its_damage() -> None:
    """Whoever adds a table says here what may be wrong with it, or why nothing can."""
    damaged = {words.partition(" ")[0] for damage in DAMAGES for words in damage.named}
    for themselves in ("subscriptions", "workers", "lanes", "definitions", "discards", "dead_letters", "self_audit"):
        assert themselves not in damaged  # they follow from nothing else
        damaged.add(themselves)
    damaged.add("inbox")  # named by its command's id, which differs each time
    assert {table.name for table in TABLES} <= damaged


def test_a_lost_snapshot_is_no_difference(shop: Application, database_url: str) -> None:
    """It costs those who ask the past some time (decision 30)."""
    execute(database_url, "DELETE FROM snapshots")
    assert found_in(shop) == []


def test_a_wrong_snapshot_among_many_is_found(shop: Application, database_url: str) -> None:
    """They are read a few at a time."""
    many = ", ".join(f"('{CHAIR}', {seq}, 9, '[[],[]]')" for seq in range(100, 150))
    execute(database_url, f"INSERT INTO snapshots (sku, position, version, state) VALUES {many}")
    assert len([x for x in found_in(shop) if x.table == "snapshots"]) == 50
    assert len([x for x in found_in(shop, repair=True) if x.repaired]) == 50
    assert found_in(shop) == []


@pytest.mark.parametrize("day", ["", "soon", "2031-05-01 00:00:00"])
@pytest.mark.parametrize("column", ["eta", "created_eta"])
@pytest.mark.parametrize("template", ["sqlite"], indirect=True)
def test_a_day_that_is_none_is_found_and_mended(shop: Application, database_url: str, column: str, day: str) -> None:
    """PostgreSQL keeps no such text."""
    execute(database_url, f"UPDATE batches SET {column} = '{day}' WHERE reference = 'b1'")
    named = f"batches b1: {column}: the log says 2031-05-01, the table has {day}"
    assert [str(difference) for difference in found_in(shop)] == [named]
    assert [difference.repaired for difference in found_in(shop, repair=True)] == [True]
    assert found_in(shop) == []


def test_an_event_in_a_partition_that_is_not_its_skus_is_found(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'two.db'}"
    shop = bootstrap(Settings(database_url=url, log_partitions=2))
    shop.bus.handle(CreateBatch("b1", CHAIR, 10))
    here = partition_of(CHAIR, 2)
    execute(url, f"UPDATE event_log SET log_partition = {1 - here}")
    told = [str(difference) for difference in found_in(shop)]
    assert f"event_log {1 - here}-1: {CHAIR} belongs to partition {here}" in told
    assert f"log_head {here}: it says 1, but the log ends at 0" in told
    shop.close()


def test_snapshots_of_a_long_past_agree_with_it(database_url: str) -> None:
    """Lines that wait, are placed, give way and are cancelled, between one snapshot and the next."""
    shop = bootstrap(Settings(database_url=database_url))
    rng = Random(7)
    commands: list[Command] = [CreateBatch("s0", "SOFA", 30)]
    for n in range(2 * EVERY):
        kind = rng.randrange(5)
        if kind < 3:
            commands.append(Allocate(f"s{n}", "SOFA", rng.randint(1, 4)))
        elif kind == 3:
            commands.append(ChangeBatchQuantity("s0", rng.randint(0, 60)))
        else:
            commands.append(Deallocate(f"s{rng.randrange(n + 1)}", "SOFA"))
    shop.bus.handle_many([shop.bus.envelope(command) for command in commands])
    shop.worker.start()
    wait_until(lambda: not any(c.lag_events for c in shop.subscriptions.cursors()))
    kept = [row for row in rows_of(database_url, [metadata.tables["snapshots"]])["snapshots"] if row[0] == "SOFA"]
    assert len(kept) >= 2
    assert any('"since"' in row[3] for row in kept)
    assert found_in(shop) == []
    shop.close()


def test_what_a_projection_has_not_seen_yet_is_not_missed(shop: Application, database_url: str) -> None:
    """It runs in another process, or not at all; a lane holds it back for one sku."""
    shop.bus.handle(Allocate("o6", LAMP, 1))
    assert found_in(shop) == []
    execute(database_url, f"UPDATE movements SET backordered = 0 WHERE sku = '{TABLE}'")
    assert [difference.table for difference in found_in(shop)] == ["movements"]
    lane = "INSERT INTO lanes (subscription, key, log_partition, next_position, attempts, reason) "
    waits = f"FROM event_log WHERE type = 'Backordered' AND sku = '{TABLE}'"
    execute(database_url, lane + f"SELECT '{MOVEMENTS}', sku, 0, position, 1, 'refused' {waits}")
    assert found_in(shop) == []


def test_a_rebuilt_level_does_not_overtake_its_projection(shop: Application, database_url: str) -> None:
    """It stands where the projection has been, for those who read levels in order, and the projection goes on."""
    shop.bus.handle(Allocate("o6", LAMP, 1))
    execute(database_url, f"DELETE FROM stock_levels WHERE sku = '{LAMP}'", "DELETE FROM movements")
    assert found_in(shop, repair=True) != []
    cursor = next(c for c in shop.subscriptions.cursors() if c.subscription == LEVELS)
    levels = {level.sku: level for level in shop.views.stock([], 100).levels}
    assert levels[LAMP].version == 3
    assert levels[LAMP].position.seq <= cursor.seq
    shop.worker.start()
    while not projected(shop):
        shop.worker.wake()
    assert found_in(shop) == []


def test_a_walk_goes_on_from_any_place_it_told(shop: Application, database_url: str) -> None:
    """Together the two halves find what the whole finds, and small steps find what large ones do."""
    chosen = {
        "a lost line",
        "stock out of nowhere",
        "a lost event",
        "a lost command",
        "an id given twice",
        "a lost waiting line",
        "a line that nobody ordered, on a batch that is not there",
        "movements that were forgotten",
    }
    for damage in DAMAGES:
        if damage.name in chosen:
            execute(database_url, *damage.statements)
            chosen.remove(damage.name)
    assert chosen == set()
    walk = Walk(shop.books, 1, TINY)
    steps = list(walk.run())
    whole = [difference for step in steps for difference in step.differences]
    assert len(steps) > 15
    assert sorted(map(str, whole)) == sorted(map(str, found_in(shop)))
    for n, step in enumerate(steps[:-1]):
        assert step.goes_on is not None
        begun = [difference for done in steps[: n + 1] for difference in done.differences]
        rest = [d for done in walk.run(Place.parse(str(step.goes_on))) for d in done.differences]
        assert begun + rest == whole


def test_what_is_left_as_it_was_is_not_said_to_be_repaired(shop: Application, database_url: str) -> None:
    """A line on a batch of another product, and its own product cannot be read; beside it one that can be mended."""
    execute(
        database_url,
        f"UPDATE event_log SET schema_version = 9 WHERE sku = '{CHAIR}' AND version = 1",
        "UPDATE order_lines SET batchref = 'b2' WHERE orderid = 'o2'",
        LINE + "('o9', 'GHOST', 1, 'b3', 2)",
        "UPDATE batches SET eta = '2031-01-01' WHERE reference = 'b2'",
    )
    told = {str(x): x.repaired for x in found_in(shop, repair=True)}
    assert told.pop(f"order_lines o2 {CHAIR}: it is for {CHAIR}, but on b2, a batch of {TABLE}") is False
    assert told.pop("batches b2: it says that 0 are allocated, but its lines have 4") is False
    assert told.pop("batches b2: eta: the log says None, the table has 2031-01-01") is True
    assert told.pop(f"order_lines o9 GHOST: it is for GHOST, but on b3, a batch of {LAMP}") is True
    assert told.pop("batches b3: it says that 0 are allocated, but its lines have 1") is True
    assert not any(told.values())
    assert {str(x) for x in found_in(shop)} == {
        *told,
        f"order_lines o2 {CHAIR}: it is for {CHAIR}, but on b2, a batch of {TABLE}",
        "batches b2: it says that 0 are allocated, but its lines have 4",
    }


def test_a_product_that_others_hold_is_left_for_later_and_told(shop: Application, database_url: str) -> None:
    execute(database_url, f"UPDATE products SET version_number = 4 WHERE sku = '{CHAIR}'")
    impatient = bootstrap(Settings(database_url=database_url, lock_timeout_seconds=0.05))
    with shop.books.locked(CHAIR, 0, []), pytest.raises(Conflict):
        list(Walk(impatient.books, 1, repair=True, attempts=2).run())
    impatient.close()
    assert [d.repaired for d in found_in(shop, repair=True)] == [True]


def test_nobody_waits_for_one_who_verifies(shop: Application, database_url: str) -> None:
    """A command is handled in the middle of a step, and the step sees one moment."""
    with shop.books.products(TABLE, 1, 20_000) as [lamp]:
        shop.bus.handle(Allocate("o6", LAMP, 1))
        assert lamp.sku == LAMP
        assert (lamp.version, len(list(lamp.events)), len(lamp.lines)) == (2, 2, 0)
    assert found_in(shop) == []


def test_what_happens_between_looking_and_mending_is_heeded(shop: Application, database_url: str) -> None:
    """The product was folded to the version it had; the rest is folded under its lock."""
    execute(database_url, "UPDATE order_lines SET since = 99 WHERE orderid = 'o3'")

    class Late(type(shop.books)):  # type: ignore[misc]  # the class of whichever database it is
        def locked(self, sku, after_version, orderids):  # type: ignore[no-untyped-def]
            shop.bus.handle(CreateBatch(f"late-{after_version}", CHAIR, 8))
            return super().locked(sku, after_version, orderids)

    late = Late.__new__(Late)
    late.__dict__.update(shop.books.__dict__)
    list(Walk(late, 1, repair=True).run())
    assert found_in(shop) == []
    assert faults_of(read_tables(database_url)) == []
