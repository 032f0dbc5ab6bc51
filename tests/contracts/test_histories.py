"""What everyone who answers for the past must do: memory, SQLite and PostgreSQL alike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from shutil import copyfile
from typing import Any

import pytest

from allocation.bootstrap import Application, bootstrap
from allocation.config import Settings
from allocation.domain.commands import Allocate, ChangeBatchEta, Command, CreateBatch, Deallocate, IfShort
from allocation.domain.errors import NotEnoughStock
from allocation.domain.model import Product
from allocation.service_layer.answers import Answer
from allocation.service_layer.envelope import EventEnvelope, LogPosition, partition_of
from allocation.service_layer.errors import UnknownPosition
from allocation.service_layer.history.ports import Cut, History
from allocation.service_layer.history.snapshots import Snapshot, snapshot_of
from allocation.service_layer.history.steps import history_of_order
from allocation.service_layer.read_models import ReadModels
from allocation.service_layer.subscriptions import Settlement
from tests.fakes import NOON, SetClock
from tests.integration.damage import execute
from tests.servers.postgres import Postgres
from tests.tables import migrated

PARTITIONS = 2
CHAIR, TABLE = "RED-CHAIR", "TALL-TABLE"
HERE, THERE = partition_of(CHAIR, PARTITIONS), partition_of(TABLE, PARTITIONS)


@dataclass(frozen=True)
class Shop:
    application: Application
    clock: SetClock

    @property
    def history(self) -> History:
        return self.application.history

    def ask(self, command: Command, message_id: str | None = None, **context: Any) -> Answer:
        return self.application.bus.ask(self.application.bus.envelope(command, message_id, **context))

    def do(self, *commands: Command) -> list[Answer]:
        """One after the other, a minute apart."""
        answers = []
        for command in commands:
            answers.append(self.ask(command))
            self.clock.step(60)
        return answers

    def log(self, partition: int) -> list[EventEnvelope]:
        return self.application.subscriptions.read(partition, 0, 10_000)


@pytest.fixture(scope="module")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Migrated once: copies are had quickly."""
    file = tmp_path_factory.mktemp("template") / "allocation.db"
    migrated(f"sqlite:///{file}", PARTITIONS)
    return file


@pytest.fixture(scope="module")
def postgres_template(postgres_server: Postgres) -> Iterator[str]:
    url = migrated(postgres_server.create_database(), PARTITIONS)
    yield url
    postgres_server.drop_database(url)


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shop]:
    """Empty, with two log partitions."""
    url = "memory:"
    if request.param == "sqlite":
        file = copyfile(request.getfixturevalue("sqlite_template"), tmp_path / "allocation.db")
        url = f"sqlite:///{file}"
    elif request.param == "postgres":
        server = request.getfixturevalue("postgres_server")
        url = server.create_database(request.getfixturevalue("postgres_template"))
    clock = SetClock()
    application = bootstrap(Settings(database_url=url, log_partitions=PARTITIONS), clock=clock)
    yield Shop(application, clock)
    application.close()
    if request.param == "postgres":
        server.drop_database(url)


def test_the_two_skus_of_these_tests_live_in_different_partitions() -> None:
    assert {HERE, THERE} == {0, 1}


def test_a_moment_is_a_cut_through_every_partition(shop: Shop) -> None:
    assert shop.history.cut(None) == shop.history.cut(NOON) == Cut((0, 0))
    shop.do(CreateBatch("c1", CHAIR, 9), CreateBatch("t1", TABLE, 9))  # 12:00, 12:01
    shop.application.bus.handle_many(
        [shop.application.bus.envelope(Allocate(f"o{n}", CHAIR, 1)) for n in range(5)]
    )  # all at 12:02

    def at(minutes: float) -> tuple[int, int]:
        heads = shop.history.cut(NOON + timedelta(minutes=minutes)).heads
        return heads[HERE], heads[THERE]

    assert [at(minutes) for minutes in (-1, 0, 0.5, 1, 1.9, 2, 99)] == [
        (0, 0),
        (1, 0),
        (1, 0),
        (1, 1),
        (1, 1),
        (6, 1),
        (6, 1),
    ]
    assert shop.history.cut(datetime.min.replace(tzinfo=UTC)) == Cut((0, 0))
    assert shop.history.cut(None) == shop.history.now() == shop.history.cut(NOON + timedelta(days=1))


def test_a_place_in_one_partition_is_a_moment_in_the_others(shop: Shop) -> None:
    shop.do(*(CreateBatch(f"{sku}-{n}", sku, 1) for n in range(3) for sku in (CHAIR, TABLE)))
    cut = shop.history.cut(LogPosition(HERE, 2))
    assert (cut.heads[HERE], cut.heads[THERE]) == (2, 1)
    assert (cut.of(CHAIR), cut.of(TABLE)) == (2, 1)
    assert shop.history.cut(LogPosition(HERE, 0)) == Cut((0, 0))
    for place in (LogPosition(HERE, 4), LogPosition(7, 1)):
        with pytest.raises(UnknownPosition, match=f"no position {place}"):
            shop.history.cut(place)


def test_facts_are_the_events_in_order_from_one_place_to_another(shop: Shop) -> None:
    shop.do(CreateBatch("c1", CHAIR, 5), CreateBatch("t1", TABLE, 5))
    shop.do(*(Allocate(f"o{n}", sku, 2) for n in range(3) for sku in (CHAIR, TABLE)), Deallocate("o0", CHAIR))
    history, now = shop.history, shop.history.now()
    every = [(e.event, e.version, e.position.seq) for e in shop.log(HERE)]
    assert list(history.facts(HERE, 0, now.heads[HERE])) == every
    assert list(history.facts(HERE, 2, 4)) == every[2:4]
    assert list(history.facts(HERE, 4, 4)) == []
    assert list(history.facts_of(CHAIR, 0, now.heads[HERE])) == every
    assert list(history.facts_of(CHAIR, 1, 3)) == every[1:3]
    assert list(history.facts_of("NOBODYS", 0, 99)) == []
    tables = [(e.event, e.version, e.position.seq) for e in shop.log(THERE)]
    assert list(history.facts_by_product("", now)) == every + tables
    assert list(history.facts_by_product(CHAIR, now)) == tables
    assert list(history.facts_by_product("", history.cut(LogPosition(HERE, 3)))) == every[:3] + tables[:2]


def test_facts_of_thousands_of_events_miss_none(shop: Shop) -> None:
    """Adapters read them page by page."""
    shop.do(CreateBatch("c1", CHAIR, 9), CreateBatch("t1", TABLE, 10_000))
    envelope = shop.application.bus.envelope
    shop.application.bus.handle_many([envelope(Allocate(f"o{n}", TABLE, 1)) for n in range(3100)])
    now = shop.history.now()
    assert [version for _, version, _ in shop.history.facts_of(TABLE, 0, 3_000)] == list(range(1, 3001))
    by_product = [(event.sku, version) for event, version, _ in shop.history.facts_by_product("", now)]
    assert by_product == [(CHAIR, 1)] + [(TABLE, n) for n in range(1, 3102)]
    some = shop.history.facts_by_product("", now)
    assert next(some)[0].sku == CHAIR
    del some  # who asked may go before the end
    assert len(list(shop.history.facts(THERE, 0, 3101))) == 3101


def test_events_are_read_by_version_and_backwards_from_a_place(shop: Shop) -> None:
    shop.do(CreateBatch("c1", CHAIR, 5), *(Allocate(f"o{n}", CHAIR, 1) for n in range(5)))
    log = shop.log(HERE)
    assert shop.history.events(CHAIR, [5, 2, 99]) == [log[1], log[4]]
    assert shop.history.events(CHAIR, range(3, 5)) == log[2:4]
    assert shop.history.events(CHAIR, []) == []
    assert shop.history.events_up_to(LogPosition(HERE, 4), 3) == log[1:4][::-1]
    assert shop.history.events_up_to(LogPosition(HERE, 2), 99) == log[:2][::-1]


def test_there_is_no_end_to_what_may_be_named_at_once(shop: Shop) -> None:
    """Databases take so many parameters and no more."""
    shop.do(CreateBatch("c1", CHAIR, 5), *(Allocate(f"o{n}", CHAIR, 1) for n in range(3)))
    shop.ask(CreateBatch("t1", TABLE, 5), "k-1")
    history, many = shop.history, 70_000
    assert history.events(CHAIR, range(1, many)) == shop.log(HERE)
    assert history.events(CHAIR, range(many, 1, -1)) == shop.log(HERE)[1:]
    assert [d.envelope.id for d in history.commands([f"k-{n}" for n in range(many)])] == ["k-1"]
    assert history.skus_of_batches([f"c{n}" for n in range(many)]) == {"c1": CHAIR}
    assert history.since(CHAIR, [f"o{n}" for n in range(many)]) == {"o0": 2, "o1": 3, "o2": 4}


def test_the_history_of_an_order_is_told_page_by_page_and_by_time(shop: Shop) -> None:
    shop.do(CreateBatch("c1", CHAIR, 5), CreateBatch("t1", TABLE, 5))
    for _ in range(4):
        shop.do(Allocate("o1", CHAIR, 1), Allocate("o2", TABLE, 1), Allocate("o1", TABLE, 1))
        shop.do(Deallocate("o1", TABLE), Deallocate("o2", TABLE), Deallocate("o1", CHAIR))
    every = [e for partition in (HERE, THERE) for e in shop.log(partition)]
    mine = sorted((e for e in every if getattr(e.event, "orderid", "") == "o1"), key=lambda e: e.time)
    whole = history_of_order(shop.history, "o1", (), 1000)
    assert [e for step in whole.steps for e in step.events] == mine
    assert whole.next is None
    for limit in (1, 2, 5, len(mine)):
        told: list[EventEnvelope] = []
        after: Sequence[LogPosition] | None = ()
        while after is not None:
            page = history_of_order(shop.history, "o1", after, limit)
            found = [e for step in page.steps for e in step.events]
            assert len(found) <= limit
            told, after = told + found, page.next
        assert told == mine
    assert history_of_order(shop.history, "o9", (), 9).steps == []


def test_commands_are_found_by_id_whatever_their_source(shop: Shop) -> None:
    one = shop.ask(CreateBatch("c1", CHAIR, 5), "k-1", source="anna", client="till-7")
    shop.ask(Allocate("o1", CHAIR, 9, IfShort.REFUSE), "k-1", source="bert")
    shop.ask(CreateBatch("c2", CHAIR, 5), "k-2", source="anna")
    found = sorted(shop.history.commands(["k-1", "k-9"]), key=lambda done: done.envelope.source)
    assert [(d.envelope.source, d.envelope.client, d.envelope.id) for d in found] == [
        ("anna", "till-7", "k-1"),
        ("bert", "", "k-1"),
    ]
    assert (found[0].position, found[0].envelope.command) == (one.position, CreateBatch("c1", CHAIR, 5))
    assert found[1].position is None
    assert isinstance(found[1].error, NotEnoughStock)
    assert shop.history.commands([]) == []


def test_commands_of_a_correlation_are_found_whoever_chose_the_ids(shop: Shop) -> None:
    [minted] = shop.do(CreateBatch("c1", CHAIR, 5))
    assert minted.position is not None
    own = shop.log(HERE)[0].correlation_id
    shop.ask(Allocate("o3", CHAIR, 1), own, source="elsewhere", correlation_id="other")  # an id that is a correlation
    for n, message_id in enumerate(("k-1", None, "k-2")):
        shop.clock.step(1)
        shop.ask(Allocate(f"x{n}", CHAIR, 1), message_id, correlation_id="request-7")
    assert [d.envelope.command for d in shop.history.commands_of(own, 9)] == [CreateBatch("c1", CHAIR, 5)]
    found = shop.history.commands_of("request-7", 9)
    assert [d.envelope.command for d in found] == [Allocate(f"x{n}", CHAIR, 1) for n in range(3)]
    assert [d.envelope.id for d in shop.history.commands_of("request-7", 2)] == [d.envelope.id for d in found[:2]]
    assert shop.history.commands_of("nobody", 9) == []


def test_the_skus_of_batches_and_of_orders_are_found_also_when_a_line_is_gone(shop: Shop) -> None:
    shop.do(CreateBatch("c1", CHAIR, 5), CreateBatch("t1", TABLE, 5), CreateBatch("l1", "LAMP", 5))
    assert shop.history.skus_of_batches(["c1", "t1", "b9"]) == {"c1": CHAIR, "t1": TABLE}
    assert shop.history.skus_of_batches([]) == {}
    shop.do(Allocate('o"1', CHAIR, 1), Allocate('o"1', TABLE, 9), Allocate("o2", "LAMP", 1))
    shop.do(Deallocate('o"1', CHAIR), Deallocate("o2", "LAMP"), Allocate("o2", "LAMP", 2))
    assert shop.history.skus_of_order('o"1') == [CHAIR, TABLE]
    assert shop.history.skus_of_order("o2") == ["LAMP"]
    assert shop.history.skus_of_order("o9") == []
    assert shop.history.since(TABLE, ['o"1', "o9"]) == {'o"1': 2}
    assert shop.history.since(CHAIR, ['o"1']) == {}
    assert shop.history.since("NOBODYS", ["o1"]) == {}


def keep_snapshots(shop: Shop) -> Mapping[tuple[str, int], Snapshot]:
    """Of the chairs, at 3 and at 7."""
    product = Product(CHAIR)
    product.create_batch("c1", 5, date(2031, 5, 1))
    product.create_batch("c2", 5)
    product.change_batch_eta("c1", None)
    read_models = ReadModels()
    for place in (3, 7):
        product.allocate(_line(f"o{place}", 9))
        read_models.keep_snapshot(snapshot_of(product, LogPosition(HERE, place)))
    subscriptions = shop.application.subscriptions
    subscriptions.join("keep_snapshots", from_the_beginning=True)
    lease = subscriptions.lease("keep_snapshots", HERE, "test", 60)
    assert lease is not None
    subscriptions.settle(lease, Settlement(7, read_models=read_models), 60)
    return read_models.snapshots


def test_the_last_snapshot_up_to_a_place_is_found_as_it_was_kept(shop: Shop) -> None:
    kept = keep_snapshots(shop)
    found = [shop.history.snapshot(CHAIR, until) for until in (2, 3, 6, 7, 99)]
    assert found == [None, kept[CHAIR, 3], kept[CHAIR, 3], kept[CHAIR, 7], kept[CHAIR, 7]]
    assert shop.history.snapshot(TABLE, 99) is None


@pytest.mark.parametrize("shop", ["sqlite", "postgres"], indirect=True)
@pytest.mark.parametrize("state", ["{", '[[{"renamed": 1}], []]', "[" * 5_000])
def test_a_snapshot_that_cannot_be_read_is_as_good_as_none(shop: Shop, state: str) -> None:
    """It would only have saved time (decision 30)."""
    url, kept = shop.application.settings.database_url, keep_snapshots(shop)
    execute(url, f"UPDATE snapshots SET state = '{state}' WHERE position = 7")
    assert shop.history.snapshot(CHAIR, 99) == kept[CHAIR, 3]
    execute(url, f"UPDATE snapshots SET state = '{state}'")
    assert shop.history.snapshot(CHAIR, 99) is None


def test_etas_come_back_as_days(shop: Shop) -> None:
    shop.do(CreateBatch("c1", CHAIR, 5, date(2031, 5, 1)), ChangeBatchEta("c1", None))
    first, second = (event for event, _, _ in shop.history.facts_of(CHAIR, 0, 9))
    assert (first.eta, second.eta) == (date(2031, 5, 1), None)  # type: ignore[union-attr]  # these events have one


def _line(orderid: str, qty: int) -> Any:
    from allocation.domain.model import OrderLine

    return OrderLine(orderid, CHAIR, qty)
