"""The contract when several work at once: in several threads, and through several openings as other processes would."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Event
from typing import TypeVar

import pytest

from allocation.domain.commands import Allocate, ChangeBatchQuantity, Command, CreateBatch, IfShort
from allocation.domain.errors import BatchExists, NotEnoughStock
from allocation.service_layer.answers import Answer
from allocation.service_layer.errors import Conflict
from tests.contracts.harness import Store, decide
from tests.contracts.logs import check_log

PATIENCE_SECONDS = 60
T = TypeVar("T")


def at_once(count: int, work: Callable[[int], T]) -> list[T]:
    """Run `work(0)` to `work(count - 1)` in threads that begin together."""
    barrier = Barrier(count, timeout=PATIENCE_SECONDS)

    def begin(n: int) -> T:
        barrier.wait()
        return work(n)

    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(begin, range(count), timeout=PATIENCE_SECONDS))


class ConcurrencyContract:
    def test_two_units_of_work_on_one_product_run_one_after_the_other(self, store: Store) -> None:
        mine, theirs = store.open(), store.open()
        mine.handle(CreateBatch("b1", "RED-CHAIR", 10))
        began = Event()

        def second() -> int:
            with theirs.unit_of_work() as uow:
                uow.begin([theirs.bus.envelope(Allocate("o2", "RED-CHAIR", 1))])
                began.set()
                product = uow.products.get("RED-CHAIR")
                assert product is not None
                return product.version_number

        envelope = mine.bus.envelope(Allocate("o1", "RED-CHAIR", 10))
        with ThreadPoolExecutor(1) as thread:
            with mine.unit_of_work() as uow:
                uow.begin([envelope])
                seen = thread.submit(second)
                done = decide(uow, envelope)
                assert not began.wait(0.2), "the second began while the first had the product"
                uow.commit([done])
            assert seen.result(PATIENCE_SECONDS) == 2

    def test_who_waits_too_long_for_a_product_is_told_of_a_conflict(self, store: Store) -> None:
        mine, theirs = store.open(), store.open(lock_timeout_seconds=0.05)
        mine.handle(CreateBatch("b1", "RED-CHAIR", 10))
        with mine.unit_of_work() as uow:
            uow.begin([mine.bus.envelope(Allocate("o1", "RED-CHAIR", 1))])
            with pytest.raises(Conflict), theirs.unit_of_work() as other:
                other.begin([theirs.bus.envelope(Allocate("o2", "RED-CHAIR", 1))])
        assert theirs.handle(Allocate("o2", "RED-CHAIR", 1)).batchref == "b1"

    def test_threads_and_processes_never_sell_what_is_not_there(self, store: Store) -> None:
        opened = [store.open() for _ in range(3)]
        opened[0].handle(CreateBatch("b1", "RED-CHAIR", 30))

        def client(name: int) -> list[Answer]:
            mine = opened[name % 3]
            return [mine.ask(Allocate(f"o-{name}-{n}", "RED-CHAIR", 1, IfShort.REFUSE)) for n in range(8)]

        answers = [answer for mine in at_once(9, client) for answer in mine]
        assert sum(answer.error is None for answer in answers) == 30
        assert {type(answer.error) for answer in answers} == {type(None), NotEnoughStock}
        check_log(opened[0].log())
        assert len(opened[0].log()) == 31
        batch = opened[0].views.batch("b1")
        assert batch is not None
        assert batch.available == 0

    def test_changes_and_allocations_at_once_keep_every_line_and_promise_nothing_twice(self, store: Store) -> None:
        opened = [store.open() for _ in range(2)]
        opened[0].handle(CreateBatch("b1", "RED-CHAIR", 20))

        def client(name: int) -> list[Answer]:
            mine = opened[name % 2]
            if name < 2:
                return [mine.ask(ChangeBatchQuantity("b1", qty)) for qty in (5, 15, 3 + name, 12)]
            return [mine.ask(Allocate(f"o-{name}-{n}", "RED-CHAIR", 2)) for n in range(5)]

        answers = [answer for mine in at_once(6, client) for answer in mine]
        assert [answer.error for answer in answers] == [None] * 28
        view = opened[0].views.product("RED-CHAIR", waiting_limit=100)
        assert view is not None
        [batch] = view.batches
        lines = [line for name in range(2, 6) for n in range(5) for line in opened[0].views.order(f"o-{name}-{n}")]
        assert len(lines) == 20
        assert batch.qty - batch.available == sum(line.qty for line in lines if line.batchref == "b1") == 12
        assert view.waiting_lines == 14
        check_log(opened[0].log())

    def test_groups_that_name_the_same_products_crosswise_all_succeed(self, store: Store) -> None:
        opened = [store.open() for _ in range(4)]
        skus = [f"CHAIR-{n}" for n in range(6)]
        opened[0].group(*(CreateBatch(f"b-{sku}", sku, 1000) for sku in skus))

        def client(name: int) -> list[Answer]:
            order = skus if name % 2 else skus[::-1]
            groups = [[Allocate(f"o-{name}-{n}", sku, 1) for sku in order] for n in range(6)]
            return [answer for group in groups for answer in opened[name].group(*group)]

        answers = [answer for mine in at_once(4, client) for answer in mine]
        assert [answer.error for answer in answers] == [None] * 144
        check_log(opened[0].log())

    def test_the_same_message_at_once_is_done_once_and_answered_alike(self, store: Store) -> None:
        opened = [store.open() for _ in range(4)]
        opened[0].handle(CreateBatch("b1", "RED-CHAIR", 100))
        answers = at_once(4, lambda name: opened[name].ask(Allocate("o1", "RED-CHAIR", 5), "id-1"))
        assert len({answer.position for answer in answers}) == 1
        assert sorted(answer.repeated for answer in answers) == [False, True, True, True]
        assert len(opened[0].log()) == 2

    def test_a_new_product_is_made_once_though_many_make_it_at_once(self, store: Store) -> None:
        opened = [store.open() for _ in range(4)]
        answers = at_once(4, lambda name: opened[name].ask(CreateBatch(f"b{name}", "RED-CHAIR", 1)))
        assert sorted(answer.unwrap().version for answer in answers) == [1, 2, 3, 4]  # type: ignore[union-attr]  # a batch's state
        check_log(opened[0].log())

    def test_one_of_those_who_claim_a_reference_at_once_gets_it(self, store: Store) -> None:
        opened = [store.open() for _ in range(4)]
        claims: list[Command] = [CreateBatch("b1", f"CHAIR-{n}", 10) for n in range(4)]
        answers = at_once(4, lambda name: opened[name].ask(claims[name]))
        assert sorted(type(answer.error) is BatchExists for answer in answers) == [False, True, True, True]
        batch = opened[0].views.batch("b1")
        assert batch is not None
        skus = [f"CHAIR-{n}" for n in range(4)]
        assert [sku for sku in skus if opened[0].views.product(sku)] == [batch.sku]
