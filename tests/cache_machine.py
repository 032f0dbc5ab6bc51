"""Commits, readers, the keeper, zombies and losses in any order, on any cache.

The oracle keeps every state that the database ever had, with the heads of the log then. It knows nothing of caches.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

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


class CacheMachine(RuleBasedStateMachine):
    """`told` holds, for each reader, the furthest place in each partition that it was told to be reached."""

    def new_cache(self) -> TurnBack:
        raise NotImplementedError

    @initialize()
    def open(self) -> None:
        self.turned = self.new_cache()
        self.shop = CachedShop(self.turned.cache, PARTITIONS, page=2)
        self.readers: list[CachedViews] = [self.shop.another_process() for _ in range(READERS)]
        self.told = [[0] * PARTITIONS for _ in range(READERS)]
        self.states: list[State] = []
        self.saved = self.turned.save()
        for ref in BATCHES:
            self.do(CreateBatch(ref, ref.rpartition("-")[0], 4))

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

    @rule(n=st.integers(1, 12))
    @precondition(lambda self: self.shop.cache.told)
    def say_again_what_a_keeper_said_before(self, n: int) -> None:
        """Another worker, which lost its lease and does not know."""
        self.shop.cache.told[-min(n, len(self.shop.cache.told))]()

    @rule()
    def hold_fills_from_now_on(self) -> None:
        self.shop.cache.holds_fills = True

    @rule(n=st.integers(0, 100))
    @precondition(lambda self: self.shop.cache.held)
    def let_a_held_fill_go(self, n: int) -> None:
        held = self.shop.cache.held
        self.turned.cache.fill(*held.pop(n % len(held)))
        self.shop.cache.holds_fills = bool(held)

    @rule(partition=partitions)
    def lose_a_partition(self, partition: int) -> None:
        """Emptied, evicted, or its keeper was silent for too long."""
        self.turned.cache.forget([partition])

    @rule()
    def save(self) -> None:
        self.saved = self.turned.save()

    @rule()
    def turn_back(self) -> None:
        """Restarted from what was on the disk, or another server that had not heard everything."""
        self.turned.put_back(self.saved)

    @rule(is_away=st.booleans())
    def go_away_or_come_back(self, is_away: bool) -> None:
        self.shop.cache.is_away = is_away
        self.shop.clock.step(100)

    # What readers see

    @rule(reader=readers, orderid=orderids, partition=partitions, back=st.integers(0, 3), asks=st.booleans())
    def read_an_order(self, reader: int, orderid: str, partition: int, back: int, asks: bool) -> None:
        if asks:
            self.ask_whether_reached(reader, partition, back)
        lines = self.readers[reader].order(orderid)
        assert any(lines == orders[orderid] for _, orders, _ in self.states), "no such order ever was"
        for n in range(PARTITIONS):

            def here(promises: list[Promise], n: int = n) -> list[Promise]:
                return [line for line in promises if partition_of(line.sku, PARTITIONS) == n]

            self.expect_known(reader, n, lambda state, here=here: here(state[1][orderid]) == here(lines))

    @rule(reader=readers, sku=skus, back=st.integers(0, 3), asks=st.booleans())
    def read_a_product(self, reader: int, sku: str, back: int, asks: bool) -> None:
        partition = partition_of(sku, PARTITIONS)
        if asks:
            self.ask_whether_reached(reader, partition, back)
        product = self.readers[reader].product(sku)
        self.expect_known(reader, partition, lambda state: state[2][sku] == product)

    def ask_whether_reached(self, reader: int, partition: int, back: int) -> None:
        seq = max(0, len(self.shop.store.log[partition]) - back)
        if self.readers[reader].reached(LogPosition(partition, seq)):
            self.told[reader][partition] = max(self.told[reader][partition], seq)

    def expect_known(self, reader: int, partition: int, agrees: Callable[[State], bool]) -> None:
        told = self.told[reader][partition]
        new_enough = [state for state in self.states if state[0][partition] >= told]
        assert any(map(agrees, new_enough)), f"older than {partition}-{told}, which was said to be reached"

    def teardown(self) -> None:
        """After the keeper has caught up, every answer is the database's."""
        if not hasattr(self, "shop"):
            return
        self.shop.cache.is_away = False
        self.shop.clock.step(10_000)
        self.shop.keep()
        for key, entry in self.shop.cache.held:
            self.turned.cache.fill(key, entry)
        self.shop.cache.holds_fills = False
        heads = [len(log) for log in self.shop.store.log]
        for views in [*self.readers, *self.readers]:
            assert all(views.reached(LogPosition(n, head)) for n, head in enumerate(heads))
            assert {o: views.order(o) for o in ORDERS} == {o: self.shop.database.order(o) for o in ORDERS}
            assert {s: views.product(s) for s in SKUS} == {s: self.shop.database.product(s) for s in SKUS}
