"""Hot products: what is kept in memory is never older than the row that is locked, and never much.

That they decide as all others do is the contract's business (`tests/contracts`), which they pass.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from threading import Barrier, BrokenBarrierError
from typing import Any

import pytest

from allocation.adapters.clock import TimeOrderedIds
from allocation.adapters.sql.engine import make_engine
from allocation.adapters.sql.hot_products import LONGEST
from allocation.adapters.sql.migrate import migrate
from allocation.adapters.sql.repository import Pages
from allocation.adapters.sql.unit_of_work import Database, SqlUnitOfWork
from allocation.adapters.sql.verification import SqlBooks
from allocation.adapters.sql.views import SqlViews
from allocation.domain.commands import (
    Allocate,
    ChangeBatchQuantity,
    Command,
    CreateBatch,
    Deallocate,
    IfShort,
)
from allocation.domain.errors import Available, NotEnoughStock, OrderLineExists, StaleVersion, UnknownOrderLine
from allocation.domain.events import OutOfStock
from allocation.domain.preferences import ON_HAND
from allocation.service_layer.answers import Answer
from allocation.service_layer.errors import Conflict
from allocation.service_layer.handlers import COMMAND_HANDLERS
from allocation.service_layer.messagebus import MessageBus
from allocation.service_layer.unit_of_work import Handled, UnitOfWork
from allocation.service_layer.verify import Walk
from tests.contracts.concurrency import at_once
from tests.contracts.decisions import a_days_work
from tests.contracts.harness import decide
from tests.e2e.truth import faults_of, read_tables
from tests.fakes import SetClock
from tests.integration.conftest import Start
from tests.integration.damage import execute
from tests.servers.proxy import PostgresProxy

CHAIR = "RED-CHAIR"
MORE_BEHIND_ITS_BACK = "UPDATE batches SET purchased_quantity = 100 WHERE reference = 'b1'"


@dataclass(frozen=True)
class Shop:
    """One process's view of a database."""

    database: Database
    bus: MessageBus
    clock: SetClock

    def ask(self, *commands: Command) -> list[Answer]:
        return self.bus.handle_many([self.bus.envelope(command) for command in commands])

    def wants(self, orderid: str, qty: int = 1, if_short: IfShort = IfShort.REFUSE) -> Answer:
        return self.ask(Allocate(orderid, CHAIR, qty, if_short))[0]

    def kept(self, *skus: str) -> dict[str, list[tuple[str, int]]]:
        """The batches in memory, with what is free of them. They stay there."""
        pages = self.database.hot.take(skus or [CHAIR])
        self.database.hot.put(pages)
        return {sku: [(x.reference, x.available_quantity) for x in page.batches] for sku, page in pages.items()}

    def version(self) -> int:
        """What the database says."""
        product = SqlViews(self.database.engine, 1).product(CHAIR)
        assert product is not None
        return product.version


OpenShop = Callable[..., Shop]


@pytest.fixture
def open_shop() -> Iterator[OpenShop]:
    """Opens a database, as a process of its own would."""
    engines = []

    def build(url: str, most: int = 10, batches_a_page: int = 16, handlers: Any = COMMAND_HANDLERS) -> Shop:
        engine = make_engine(url)
        engines.append(engine)
        migrate(engine, 1)
        clock = SetClock()
        ids = TimeOrderedIds()
        database = Database.of(engine, ids, clock, 1, Pages(batches_a_page), hot_products=most)
        return Shop(database, MessageBus(lambda: SqlUnitOfWork(database), handlers, ids, clock), clock)

    yield build
    for engine in engines:
        engine.dispose()


@pytest.fixture
def shop(open_shop: OpenShop, database_url: str) -> Shop:
    """Ten chairs on hand, one of them sold: the product is hot."""
    shop = open_shop(database_url)
    shop.ask(CreateBatch("b1", CHAIR, 10))
    assert shop.wants("first").error is None
    return shop


# What is kept


def test_what_is_hot_is_decided_from_memory_if_the_setting_says_so(start: Start, database_url: str) -> None:
    hot, cold = start(database_url, hot_products=1), start(database_url)
    hot.bus.handle(CreateBatch("b1", CHAIR, 10))
    hot.bus.handle(Allocate("first", CHAIR, 1))
    execute(database_url, MORE_BEHIND_ITS_BACK)  # which is forbidden, and shows who looks
    wish = Allocate("o1", CHAIR, 50, IfShort.REFUSE)
    assert type(hot.bus.ask(hot.bus.envelope(wish)).error) is NotEnoughStock
    assert cold.bus.handle(wish).batchref == "b1"


def test_what_is_kept_is_what_the_database_would_tell(open_shop: OpenShop, database_url: str) -> None:
    shop = open_shop(database_url, batches_a_page=3)
    views = SqlViews(shop.database.engine, 1)
    compared = 0
    for group in a_days_work(3, 150, 60):
        shop.ask(*group)
        pages = shop.database.hot.take(["CHAIR"])
        shop.database.hot.put(pages)
        product = views.product("CHAIR")
        for page in pages.values():
            assert product is not None
            assert page.version == product.version
            known = [
                (state.ref, state.qty, state.available, state.eta)
                for state in sorted(product.batches, key=lambda state: (state.eta or ON_HAND, state.ref))
                if state.available and (page.horizon is None or (state.eta or ON_HAND, state.ref) <= page.horizon)
            ]
            kept = [(x.reference, x.purchased_quantity, x.available_quantity, x.eta) for x in page.batches]
            assert kept == known
            assert len(kept) <= 3
            compared += bool(kept) and page.horizon is not None
    assert compared > 20


def test_the_products_sold_last_are_kept_and_no_more_than_the_setting_says(
    open_shop: OpenShop, database_url: str
) -> None:
    shop = open_shop(database_url, most=3)
    skus = [f"CHAIR-{n}" for n in range(8)]
    shop.ask(*(CreateBatch(f"b-{sku}", sku, 10) for sku in skus))
    for n, sku in enumerate((*skus[:6], skus[3], *skus[6:])):
        shop.ask(Allocate(f"o{n}", sku, 1))
    assert shop.kept(*skus).keys() == {skus[3], skus[6], skus[7]}
    shop.ask(*(Allocate("together", sku, 1) for sku in skus))
    assert len(shop.database.hot) == 3


def test_of_a_product_no_more_is_kept_than_a_page_and_nothing_of_its_lines(
    open_shop: OpenShop, database_url: str
) -> None:
    shop = open_shop(database_url, batches_a_page=4)
    shop.ask(*(CreateBatch(f"b{n:02}", CHAIR, 1 + n) for n in range(30)))
    answers = shop.ask(*(Allocate(f"o{n}", CHAIR, 1) for n in range(100)), Allocate("large", CHAIR, 30))
    assert [answer.error for answer in answers] == [None] * 101
    pages = shop.database.hot.take([CHAIR])
    assert len(pages[CHAIR].batches) == 4
    assert {type(getattr(pages[CHAIR], name)).__name__ for name in ("version", "horizon", "read_at")} == {
        *("int", "tuple", "datetime")
    }


# What is not


def test_a_rollback_evicts(shop: Shop) -> None:
    envelope = shop.bus.envelope(Allocate("o1", CHAIR, 9))
    assert shop.kept() == {CHAIR: [("b1", 9)]}
    with SqlUnitOfWork(shop.database) as uow:
        uow.begin([envelope])
        assert decide(uow, envelope).changed
    assert shop.kept() == {}
    assert shop.wants("o2", 9).error is None


def test_a_refusal_that_ends_its_transaction_evicts(shop: Shop) -> None:
    assert type(shop.wants("o1", 10).error) is NotEnoughStock
    assert shop.kept() == {}


def test_an_exception_evicts(open_shop: OpenShop, database_url: str) -> None:
    def fail(command: Allocate, uow: UnitOfWork) -> None:
        COMMAND_HANDLERS[Allocate](command, uow)
        if command.orderid == "unlucky":
            raise ZeroDivisionError

    shop = open_shop(database_url, handlers={**COMMAND_HANDLERS, Allocate: fail})
    shop.ask(CreateBatch("b1", CHAIR, 10))
    shop.wants("first")
    assert type(shop.wants("unlucky", 5).error) is ZeroDivisionError
    assert shop.kept() == {}
    assert shop.wants("o2", 9).error is None


def test_a_commit_that_fails_evicts(shop: Shop, open_shop: OpenShop, database_url: str) -> None:
    good, bad = shop.bus.envelope(Allocate("o1", CHAIR, 4)), shop.bus.envelope(CreateBatch("b2", CHAIR, 1))
    twice = Handled(bad, events=[(OutOfStock(CHAIR), 3)], changed=True)

    def fail_at_the_commit() -> None:
        with SqlUnitOfWork(shop.database) as uow:
            uow.begin([good, bad])
            uow.commit([decide(uow, good), twice])

    with pytest.raises(Conflict):
        fail_at_the_commit()
    assert shop.kept() == {}
    # Somebody else makes the version that this commit would have made.
    assert open_shop(database_url).wants("o2", 1).error is None
    assert shop.wants("o3", 8).error is None


def test_what_was_decided_and_not_written_evicts(shop: Shop) -> None:
    written, left_out = (shop.bus.envelope(Allocate(orderid, CHAIR, 2)) for orderid in ("o1", "o2"))
    with SqlUnitOfWork(shop.database) as uow:
        uow.begin([written, left_out])
        done = decide(uow, written)
        decide(uow, left_out)
        uow.commit([done])
    assert shop.kept() == {}
    assert shop.wants("o3", 7).error is None


def test_a_lost_connection_evicts_even_if_the_commit_is_found(
    open_shop: OpenShop, postgres_proxy: PostgresProxy
) -> None:
    shop = open_shop(postgres_proxy.url)
    shop.ask(CreateBatch("b1", CHAIR, 10))
    shop.wants("first")
    postgres_proxy.lose_reply_of_next_commit()
    assert shop.wants("o1", 4).error is None
    assert shop.kept() == {}
    postgres_proxy.lose_next_commit()
    assert shop.wants("o2", 5).error is None
    assert shop.kept() == {CHAIR: []}, "the second try read it, and sold all"
    assert shop.wants("o3").error == NotEnoughStock(CHAIR, 1, ())


# Two processes


def test_a_stale_page_answers_nobody(shop: Shop, open_shop: OpenShop, database_url: str) -> None:
    other = open_shop(database_url)
    other.ask(ChangeBatchQuantity("b1", 30), Allocate("theirs", CHAIR, 2))
    assert shop.kept() == {CHAIR: [("b1", 9)]}
    assert shop.wants("o1", 25).error is None, "it would have been refused"

    other.ask(Deallocate("o1", CHAIR), CreateBatch("b2", CHAIR, 5))
    assert shop.wants("o2", 40).error == NotEnoughStock(CHAIR, 40, (Available(None, 32, 27),))

    shop.wants("o3")
    other.ask(Allocate("o4", CHAIR, 3))
    assert shop.wants("o4", 2).error == OrderLineExists("o4", CHAIR, 3)

    shop.wants("o5")
    other.ask(Allocate("o6", CHAIR, 1))
    version = shop.version()
    assert shop.ask(ChangeBatchQuantity("b1", 30, if_version=version - 1))[0].error == StaleVersion(
        *(CHAIR, version - 1, version)
    )

    shop.wants("o7")
    other.ask(Deallocate("o7", CHAIR))
    assert type(shop.ask(Deallocate("o7", CHAIR))[0].error) is UnknownOrderLine


def test_a_repeat_is_answered_with_the_present_state(shop: Shop, open_shop: OpenShop, database_url: str) -> None:
    open_shop(database_url).ask(ChangeBatchQuantity("b1", 7), Allocate("theirs", CHAIR, 2))
    again = shop.ask(CreateBatch("b1", CHAIR, 10))[0]
    assert (again.changed, again.unwrap().qty, again.unwrap().available) == (False, 7, 4)  # type: ignore[union-attr]  # a batch's state


def test_nothing_is_sold_twice_by_processes_that_each_keep_the_product(
    shop: Shop, open_shop: OpenShop, database_url: str
) -> None:
    shops = [shop, open_shop(database_url)]
    for n in range(9):
        assert shops[n % 2].wants(f"o{n}").error is None
    assert [type(each.wants("late").error) for each in shops] == [NotEnoughStock] * 2
    assert list(faults_of(read_tables(database_url))) == []


def test_threads_and_processes_at_once(open_shop: OpenShop, database_url: str) -> None:
    shops = [open_shop(database_url, most=3) for _ in range(2)]
    skus = [f"CHAIR-{n}" for n in range(4)]
    shops[0].ask(*(CreateBatch(f"b-{sku}", sku, 12) for sku in skus))

    def client(name: int) -> int:
        """Groups past the door, so that two units of work of one process run at the same time."""
        mine, order = shops[name % 2], skus if name % 3 else skus[::-1]
        groups = ([Allocate(f"o-{name}-{n}", sku, 1, IfShort.REFUSE) for sku in order] for n in range(6))
        return sum(answer.error is None for group in groups for answer in mine.ask(*group))

    assert sum(at_once(6, client)) == 48
    assert list(faults_of(read_tables(database_url))) == []


def test_a_page_belongs_to_one_unit_of_work_at_a_time(shop: Shop) -> None:
    both_have_looked = Barrier(2)

    class Slowly(list[str]):
        """Who goes through it stops behind the first, until the other is as far (which must not happen)."""

        def __iter__(self) -> Iterator[str]:
            yield CHAIR
            with suppress(BrokenBarrierError):
                both_have_looked.wait(0.2)

    assert sorted(at_once(2, lambda _: len(shop.database.hot.take(Slowly())))) == [0, 1]


# Rows that were corrected


def damaged(shop: Shop, database_url: str, qty: int) -> None:
    """Somebody spoils a row, it is read, and then it is corrected, all without another version."""
    shop.database.hot.take([CHAIR])
    execute(database_url, f"UPDATE batches SET purchased_quantity = {qty} WHERE reference = 'b1'")
    assert shop.wants("meanwhile").error is None
    engine = make_engine(database_url)
    mended = [x for step in Walk(SqlBooks(engine, 1), 1, repair=True).run() for x in step.differences]
    assert mended
    engine.dispose()


def test_what_rebuild_corrected_is_used_a_few_seconds_later(shop: Shop, database_url: str) -> None:
    damaged(shop, database_url, 3)
    shop.clock.step(LONGEST.total_seconds())
    assert shop.kept() == {CHAIR: [("b1", 1)]}
    shop.clock.step(0.001)
    assert shop.wants("o1", 8).error is None


def test_a_page_does_not_grow_young_by_use(shop: Shop, database_url: str) -> None:
    damaged(shop, database_url, 5)
    for n in range(2):
        shop.clock.step(LONGEST.total_seconds() / 2)
        assert shop.wants(f"o{n}").error is None
    shop.clock.step(0.001)
    assert shop.wants("large", 6).error is None


def test_a_clock_that_steps_back_makes_nothing_young(shop: Shop, database_url: str) -> None:
    damaged(shop, database_url, 3)
    shop.clock.step(-0.001)
    assert shop.wants("o1", 8).error is None


def test_corrected_rows_are_not_oversold_meanwhile(shop: Shop, open_shop: OpenShop, database_url: str) -> None:
    """The database refuses; that evicts, and the second try reads what is so."""
    shop.database.hot.take([CHAIR])
    execute(database_url, MORE_BEHIND_ITS_BACK)
    assert shop.wants("meanwhile").error is None
    execute(database_url, MORE_BEHIND_ITS_BACK.replace("100", "10"))
    if database_url.startswith("postgres"):
        check = "CHECK (0 <= allocated_quantity AND allocated_quantity <= purchased_quantity)"
        with shop.database.engine.connect() as connection:
            connection.exec_driver_sql(f"ALTER TABLE batches ADD CONSTRAINT never {check}")
    assert shop.wants("o1", 50).error == NotEnoughStock(CHAIR, 50, (Available(None, 8, 8),))
