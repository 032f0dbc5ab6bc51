"""What a command costs, in statements: a fixed number, however much history there is."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from allocation.adapters.sql.dialects import Outcome, PostgresDialect, SqliteDialect, Step
from allocation.adapters.sql.repository import Session
from allocation.bootstrap import Application
from allocation.domain.commands import Allocate, ChangeBatchQuantity, Command, CreateBatch, Deallocate
from allocation.domain.errors import BatchExists
from allocation.service_layer.envelope import CommandEnvelope, EventEnvelope
from allocation.service_layer.errors import SetupError
from tests.integration.conftest import Start

SETTEE = "ADORABLE-SETTEE"

# BEGIN, lock, open batches, named lines; lines, batches, products, log head, events, inbox, COMMIT
ALLOCATE_STATEMENTS = 11
# the same, with a delete in place of the insert, and one look at the first who wait
DEALLOCATE_STATEMENTS = 12


@contextmanager
def statements() -> Iterator[list[str]]:
    """The statements of every unit of work meanwhile."""
    seen: list[str] = []
    originals = {dialect: dialect.run for dialect in (SqliteDialect, PostgresDialect)}

    def noted(steps: Iterable[Step]) -> Iterator[Step]:
        for step in steps:
            seen.append(step.sql)
            yield step

    def noting(original: Any) -> Any:
        def run(self: object, connection: object, steps: Iterable[Step]) -> list[Outcome]:
            return original(self, connection, noted(steps))  # type: ignore[no-any-return]

        return run

    with pytest.MonkeyPatch.context() as patch:
        for dialect, original in originals.items():
            patch.setattr(dialect, "run", noting(original))
        yield seen


def trips(application: Application, *envelopes: CommandEnvelope) -> int:
    """How often a group goes to the database."""
    seen: list[object] = []
    original = Session.run

    def noted(session: Session, steps: Iterable[Step]) -> list[Outcome]:
        seen.append(session)
        return original(session, steps)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Session, "run", noted)
        for answer in application.bus.handle_many(envelopes):
            answer.unwrap()
    return len(seen)


def cost(application: Application, *commands: Command) -> int:
    envelopes = [application.bus.envelope(command) for command in commands]
    with statements() as seen:
        for answer in application.bus.handle_many(envelopes):
            answer.unwrap()
    return len(seen)


def test_an_allocate_takes_the_same_statements_with_ten_lines_and_with_a_thousand(application: Application) -> None:
    application.bus.handle(CreateBatch("b1", SETTEE, 100_000))
    costs = []
    for size in (10, 1000):
        application.bus.handle_many([application.bus.envelope(Allocate(f"{size}-{n}", SETTEE, 1)) for n in range(size)])
        costs.append(cost(application, Allocate(f"one-more-than-{size}", SETTEE, 1)))
    assert costs == [ALLOCATE_STATEMENTS] * 2


def test_a_group_takes_two_trips_whether_or_not_its_commands_bring_ids(application: Application) -> None:
    make = application.bus.envelope
    assert trips(application, make(CreateBatch("b1", SETTEE, 100))) == 2
    assert trips(application, *(make(Allocate(f"o{n}", SETTEE, 1)) for n in range(3))) == 2
    brought = [make(Allocate(f"p{n}", SETTEE, 1), f"id-{n}") for n in range(3)]
    assert trips(application, *brought) == 2
    assert trips(application, *brought) == 1, "what was handled already is found with what it names"


def test_a_reference_that_is_another_products_locks_nothing_of_that(application: Application) -> None:
    application.bus.handle(CreateBatch("b1", SETTEE, 100))
    with statements() as seen:
        answer = application.bus.ask(application.bus.envelope(CreateBatch("b1", "TABLE", 100)))
    assert answer.error == BatchExists("b1")
    assert sum("p.version_number" in sql for sql in seen) == 1, "it locks the product it names"


def test_a_group_takes_the_same_statements_as_one(application: Application) -> None:
    for n in range(20):
        application.bus.handle(CreateBatch(f"b{n}", f"CHAIR-{n}", 100))
    group = [Allocate(f"o{n}", f"CHAIR-{n % 20}", 1) for n in range(200)]
    assert cost(application, *group) == ALLOCATE_STATEMENTS


@pytest.mark.parametrize("waiting", [10, 1000])
def test_a_deallocate_takes_the_same_statements_however_many_wait_in_vain(
    application: Application, waiting: int
) -> None:
    application.bus.handle(CreateBatch("b1", SETTEE, 5))
    application.bus.handle(Allocate("small", SETTEE, 5))
    application.bus.handle_many([application.bus.envelope(Allocate(f"w{n}", SETTEE, 6)) for n in range(waiting)])
    assert cost(application, Deallocate("small", SETTEE)) == DEALLOCATE_STATEMENTS


def test_a_refused_command_writes_nothing(application: Application) -> None:
    with statements() as seen:
        application.bus.ask(application.bus.envelope(Allocate("o1", "NO-SUCH-SKU", 1)))
    assert seen[0].startswith("BEGIN")
    assert "COMMIT" not in seen
    assert not [s for s in seen if s.startswith(("INSERT", "UPDATE", "DELETE"))]


def test_serving_many_who_wait_reads_them_page_by_page(application: Application) -> None:
    application.bus.handle(CreateBatch("b1", SETTEE, 1))
    application.bus.handle_many([application.bus.envelope(Allocate(f"w{n}", SETTEE, 2)) for n in range(350)])
    taken = cost(application, ChangeBatchQuantity("b1", 700))
    product = application.views.product(SETTEE)
    assert product is not None
    assert product.waiting_lines == 0
    assert taken < 20


def test_many_batches_take_the_same_statements_as_one_while_nobody_waits_for_as_little(
    application: Application,
) -> None:
    first = [CreateBatch(f"a{n}", f"CHAIR-{n}", 5) for n in range(100)]
    wait = [Allocate(f"o{n}", f"CHAIR-{n}", 9) for n in range(50)]
    more = [CreateBatch(f"b{n}", f"CHAIR-{n}", 5) for n in range(100)]
    cost(application, *first, *wait)
    # BEGIN, new products, lock, open batches, first who wait, named batches;
    # batches, products, log head, log, inbox, COMMIT
    assert cost(application, *more) == 12


def test_many_batches_take_the_same_statements_as_one_though_each_serves_a_few_who_wait(
    application: Application,
) -> None:
    first = [CreateBatch(f"a{n}", f"CHAIR-{n}", 5) for n in range(100)]
    wait = [Allocate(f"o{n}-{m}", f"CHAIR-{n}", 9) for n in range(100) for m in range(3)]
    more = [CreateBatch(f"b{n}", f"CHAIR-{n}", 20) for n in range(100)]
    cost(application, *first, *wait)
    # as above, and the lines that got a batch
    assert cost(application, *more) == 13


def test_commands_of_every_partition_there_may_be_are_told_where_their_events_stand(
    start: Start, empty_database_url: str
) -> None:
    with pytest.raises(SetupError, match="LOG_PARTITIONS"):
        start(empty_database_url, log_partitions=65)
    shop = start(empty_database_url, log_partitions=64)
    made = [shop.bus.envelope(CreateBatch(f"b-{n}", f"SKU-{n}", 1), f"id-{n}", source="test") for n in range(600)]
    positions = {answer.position for answer in shop.bus.handle_many(made)}
    assert {position.partition for position in positions if position} == set(range(64))
    assert positions == {logged.position for logged in events_of(shop)}
    assert positions == {answer.position for answer in shop.bus.handle_many(made) if answer.repeated}, "in the inbox"


def events_of(shop: Application) -> Iterator[EventEnvelope]:
    page = shop.views.events([], 200)
    while page.events:
        yield from page.events
        page = shop.views.events(page.next, 200)
