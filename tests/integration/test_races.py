"""Somebody else commits between two statements of a unit of work: what is read is still one story."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait

import pytest
from sqlalchemy import Connection, text

from allocation.adapters.sql import appending
from allocation.adapters.sql.dialects import Outcome, PostgresDialect, Step
from allocation.adapters.sql.engine import make_engine
from allocation.domain.commands import Allocate, CreateBatch, Deallocate
from allocation.domain.errors import InvalidSku
from allocation.domain.events import Allocated
from tests.integration.conftest import Start


@pytest.fixture
def after_the_lock(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Have something done once, right after the next unit of work has locked its products and before it reads on."""
    original = PostgresDialect.run

    def arrange(meanwhile: Callable[[], object]) -> None:
        waiting = [meanwhile]

        def run(self: PostgresDialect, connection: Connection, steps: Sequence[Step]) -> list[Outcome]:
            outcomes: list[Outcome] = []
            for step in steps:
                outcomes += original(self, connection, [step])
                if "FOR UPDATE" in step.sql and waiting:
                    waiting.pop()()
            return outcomes

        monkeypatch.setattr(PostgresDialect, "run", run)

    return arrange


def test_a_product_that_is_made_meanwhile_is_not_there_yet(
    start: Start, postgres_url: str, after_the_lock: Callable[[Callable[[], object]], None]
) -> None:
    shop, other = start(postgres_url), start(postgres_url)
    after_the_lock(lambda: other.bus.handle(CreateBatch("b1", "RED-CHAIR", 10)))
    answer = shop.bus.ask(shop.bus.envelope(Allocate("o1", "RED-CHAIR", 1)))
    assert answer.error == InvalidSku("RED-CHAIR")
    assert shop.bus.handle(Allocate("o1", "RED-CHAIR", 1)).batchref == "b1"


def test_what_happens_to_other_products_meanwhile_does_not_matter(
    start: Start, postgres_url: str, after_the_lock: Callable[[Callable[[], object]], None]
) -> None:
    shop, other = start(postgres_url), start(postgres_url)
    shop.bus.handle(CreateBatch("b1", "RED-CHAIR", 10))
    other.bus.handle(CreateBatch("b2", "BLUE-CHAIR", 10))
    other.bus.handle(Allocate("o1", "BLUE-CHAIR", 1))
    after_the_lock(lambda: other.bus.handle(Deallocate("o1", "BLUE-CHAIR")))
    assert shop.bus.handle(Allocate("o1", "RED-CHAIR", 1)).batchref == "b1"
    assert [event.position.seq for event in shop.views.events([], 10).events] == [1, 2, 3, 4, 5, 6]


def test_others_commit_while_the_rows_of_the_log_are_made(
    start: Start, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who has taken a position holds up everybody until it commits; stopped there, for as long as it is stopped: no
    timeout of PostgreSQL's runs in the middle of a pipeline."""
    shop, other = start(postgres_url), start(postgres_url, lock_timeout_seconds=0.2)
    shop.bus.handle(CreateBatch("b1", "RED-CHAIR", 10))
    original = appending.encode_all
    meanwhile = iter([CreateBatch("b2", "BLUE-CHAIR", 10), CreateBatch("b3", "SOFA", 1)])

    def encode(messages: Sequence[object]) -> list[str]:
        if any(isinstance(message, Allocate | Allocated) for message in messages):
            other.bus.handle(next(meanwhile))
        return original(messages)

    monkeypatch.setattr(appending, "encode_all", encode)
    assert shop.bus.handle(Allocate("o1", "RED-CHAIR", 1)).batchref == "b1"
    skus = [event.event.sku for event in shop.views.events([], 10).events]
    assert skus == ["RED-CHAIR", "BLUE-CHAIR", "SOFA", "RED-CHAIR"]


def test_a_client_that_is_gone_without_a_word_is_missed_after_a_minute(postgres_url: str) -> None:
    engine = make_engine(postgres_url)
    with engine.connect() as connection:
        idle, interval, count = (
            int(connection.exec_driver_sql(f"SHOW tcp_keepalives_{name}").scalar_one())
            for name in ("idle", "interval", "count")
        )
    engine.dispose()
    assert idle + interval * count == 60


@pytest.mark.parametrize("warm", range(2, 6))
def test_a_lock_that_was_waited_for_too_long_does_not_spoil_the_connection(
    start: Start, postgres_url: str, warm: int
) -> None:
    """The driver prepares a statement when it has seen it often enough (5 times), just when an earlier one fails."""
    shop = start(postgres_url, lock_timeout_seconds=0.03, database_pool_size=1)
    shop.bus.handle(CreateBatch("b1", "RED-CHAIR", 100))
    for n in range(warm):
        shop.bus.handle(Allocate(f"warm-{n}", "RED-CHAIR", 1))
    other = make_engine(postgres_url)
    with ThreadPoolExecutor(1) as thread, other.connect() as connection:
        connection.execute(text("BEGIN"))
        connection.execute(text("UPDATE products SET version_number = version_number"))
        asked = thread.submit(shop.bus.handle, Allocate("o1", "RED-CHAIR", 1))
        wait([asked], timeout=0.1)
        connection.execute(text("ROLLBACK"))
        assert asked.result(60).batchref == "b1"
    other.dispose()
    assert [shop.bus.handle(Allocate(f"after-{n}", "RED-CHAIR", 1)).batchref for n in range(3)] == ["b1"] * 3
