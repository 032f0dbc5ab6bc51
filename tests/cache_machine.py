"""Commits, readers, the keeper, zombies and losses in any order, on any cache.

The oracle keeps every state that the database ever had, with the heads of the log then. It knows nothing of caches.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from itertools import product, takewhile

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from allocation.adapters.cached_views import CachedViews
from allocation.domain.commands import (
    Allocate,
    ChangeBatchEta,
    ChangeBatchQuantity,
    Command,
    CreateBatch,
    Deallocate,
    IfShort,
)
from allocation.service_layer.answers import Promise
from allocation.service_layer.envelope import LogPosition, partition_of
from allocation.views import ProductView
from tests.caches import CachedShop, TurnBack

PARTITIONS = 2
SKUS = ["RED-CHAIR", "SMALL-TABLE", "LAMP"]
ORDERS = ["o1", "o2", "o3"]
BATCHES = [f"{sku}-{n}" for sku in SKUS for n in range(2)]
READERS = 2

orderids, skus, refs = st.sampled_from(ORDERS), st.sampled_from(SKUS), st.sampled_from(BATCHES)
readers, partitions = st.integers(0, READERS - 1), st.integers(0, PARTITIONS - 1)
etas = st.sampled_from([None, date(2031, 3, 21), date(2031, 6, 21)])
commands: st.SearchStrategy[Command] = st.one_of(
    st.builds(Allocate, orderids, skus, st.integers(1, 3), st.just(IfShort.WAIT)),
    st.builds(Deallocate, orderids, skus),
    st.builds(ChangeBatchEta, refs, etas),
    st.builds(ChangeBatchQuantity, refs, st.integers(0, 8)),
)

State = tuple[list[int], dict[str, list[Promise]], dict[str, ProductView | None]]


def _lines_in(partition: int, lines: list[Promise]) -> list[Promise]:
    return [line for line in lines if partition_of(line.sku, PARTITIONS) == partition]


class CacheMachine(RuleBasedStateMachine):
    """`told` holds, for each reader, the furthest place in each partition that it was told to be reached."""

    def new_cache(self, most_marks: int) -> TurnBack:
        raise NotImplementedError

    @initialize(most_marks=st.sampled_from([3, 6, 100]))
    def open(self, most_marks: int) -> None:
        self.turned = self.new_cache(most_marks)
        self.shop = CachedShop(self.turned.cache, PARTITIONS, page=2)
        self.readers: list[CachedViews] = [self.shop.another_process() for _ in range(READERS)]
        self.told = [[0] * PARTITIONS for _ in range(READERS)]
        self.states: list[State] = []
        for ref in BATCHES:
            self.do(CreateBatch(ref, ref.rpartition("-")[0], 4))
        for orderid, sku in product(ORDERS, SKUS):
            self.do(Allocate(orderid, sku, 1))
        self.shop.keep()
        self.read()
        self.saved = self.turned.save()

    # What happens

    @rule(command=commands)
    def do(self, command: Command) -> None:
        self.shop.bus.ask(self.shop.bus.envelope(command))  # a refusal is fine: it changes nothing
        database = self.shop.database
        heads = [len(log) for log in self.shop.store.log]
        orders = {orderid: database.order(orderid) for orderid in ORDERS}
        self.states.append((heads, orders, {sku: database.product(sku) for sku in SKUS}))

    @rule(partition=partitions)
    def keep_a_page(self, partition: int) -> None:
        self.shop.keep_a_page(partition)

    @rule()
    def keep(self) -> None:
        self.shop.keep()

    @rule(holds=st.booleans())
    def hold_fills(self, holds: bool) -> None:
        """Slow readers: what they read from now on arrives whenever it likes."""
        self.shop.cache.holds_fills = holds

    @rule(n=st.integers(0, 100))
    @precondition(lambda self: self.shop.cache.held)
    def let_a_held_fill_go(self, n: int) -> None:
        held = self.shop.cache.held
        self.turned.cache.fill(*held.pop(n % len(held)))

    @rule(before=commands, after=commands)
    def overtake_slow_readers(self, before: Command, after: Command) -> None:
        """They look after one change, and fill after another."""
        self.do(before)
        self.shop.keep()
        self.shop.cache.holds_fills = True
        self.read()
        self.shop.cache.holds_fills = False
        self.do(after)
        self.shop.keep()
        self._let_all_fills_go()

    @rule(
        trouble=st.sampled_from(["late word", "late word", "save", "turn back", "turn back", "lose", "away"]),
        data=st.data(),
    )
    def get_into_trouble(self, trouble: str, data: st.DataObject) -> None:
        told = self.shop.cache.told
        match trouble:
            case "late word":  # of a worker that lost its lease and does not know
                told[-data.draw(st.integers(1, min(12, len(told))))]()
            case "save":
                self.saved = self.turned.save()
            case "turn back":  # restarted from what was on the disk, or from a copy that had not heard everything
                self.turned.put_back(self.saved)
            case "lose":  # emptied, evicted, or its keeper was silent for too long
                self.turned.cache.forget([data.draw(partitions)])
            case "away":
                self.shop.cache.is_away = True
                self.do(data.draw(commands))
                self.shop.keep()
                self.read()
                self.shop.cache.is_away = False
                self.shop.clock.step(100)

    def _let_all_fills_go(self) -> None:
        while self.shop.cache.held:
            self.turned.cache.fill(*self.shop.cache.held.pop())

    # What readers see

    @rule(reader=readers, partition=partitions, back=st.sampled_from([0, 0, 0, 1, 2]))
    def ask_whether_reached(self, reader: int, partition: int, back: int) -> None:
        seq = max(0, len(self.shop.store.log[partition]) - back)
        if self.readers[reader].reached(LogPosition(partition, seq)):
            self.told[reader][partition] = max(self.told[reader][partition], seq)

    @invariant()
    def read(self) -> None:
        """Everything, by everybody."""
        for reader, views in enumerate(self.readers):
            for orderid in ORDERS:
                self.expect_an_order(reader, orderid, views.order(orderid))
            for sku in SKUS:
                self.expect_a_product(reader, sku, views.product(sku))

    def expect_an_order(self, reader: int, orderid: str, lines: list[Promise]) -> None:
        assert any(lines == orders[orderid] for _, orders, _ in reversed(self.states)), "no such order ever was"
        for partition in range(PARTITIONS):
            here = _lines_in(partition, lines)
            self.expect_known(
                reader, partition, lambda state, here=here, n=partition: _lines_in(n, state[1][orderid]) == here
            )

    def expect_a_product(self, reader: int, sku: str, found: ProductView | None) -> None:
        self.expect_known(reader, partition_of(sku, PARTITIONS), lambda state: state[2][sku] == found)

    def expect_known(self, reader: int, partition: int, agrees: Callable[[State], bool]) -> None:
        told = self.told[reader][partition]
        new_enough = takewhile(lambda state: state[0][partition] >= told, reversed(self.states))
        assert any(map(agrees, new_enough)), f"older than {partition}-{told}, which was said to be reached"

    def teardown(self) -> None:
        """After the keeper has caught up, every answer is the database's."""
        if not hasattr(self, "shop"):
            return
        self.shop.cache.is_away = False
        self.shop.clock.step(10_000)
        self.shop.keep()
        self._let_all_fills_go()
        self.shop.cache.holds_fills = False
        heads = [len(log) for log in self.shop.store.log]
        for views in [*self.readers, *self.readers]:
            assert all(views.reached(LogPosition(n, head)) for n, head in enumerate(heads))
            assert {o: views.order(o) for o in ORDERS} == {o: self.shop.database.order(o) for o in ORDERS}
            assert {s: views.product(s) for s in SKUS} == {s: self.shop.database.product(s) for s in SKUS}
