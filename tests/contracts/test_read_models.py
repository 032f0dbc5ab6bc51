"""What every read model beside the log must do: memory, SQLite and PostgreSQL alike, with the projections as wired."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from typing import Any

import pytest

from allocation.bootstrap import Application, bootstrap
from allocation.config import Settings
from allocation.domain.commands import Allocate, ChangeBatchQuantity, CreateBatch, Deallocate
from allocation.domain.errors import Available, Refused
from allocation.service_layer.delivering import Line
from allocation.service_layer.envelope import EventEnvelope, LogPosition, partition_of
from allocation.service_layer.errors import LeaseLost
from allocation.service_layer.read_models import Movements, ReadModels, StockLevel
from allocation.service_layer.subscriptions import Backoff, Lease, Outcomes, Settlement
from tests.fakes import NOON, SetClock

PARTITIONS = 2
CHAIR = "RED-CHAIR"
LEVELS, COUNTS = "project_stock_levels", "count_movements"
SPRING = date(2031, 3, 21)
TODAY, TOMORROW = NOON.date(), NOON.date() + timedelta(days=1)
LEASE_SECONDS = 15.0
NOWHERE = LogPosition(0, 0)
SKUS = [f"SKU-{n}" for n in range(12)]
FIRST, SECOND = ([sku for sku in SKUS if partition_of(sku, PARTITIONS) == p] for p in range(PARTITIONS))


class Died(Exception):
    """The worker is no more."""


@dataclass
class Projected:
    """An application whose worker is not started: the test runs its projections, line by line.

    Levels of the skus in `untold` are refused.
    """

    application: Application
    clock: SetClock
    untold: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.store = self.application.subscriptions
        for subscription in self.application.worker.subscriptions:
            self.store.join(subscription.name, subscription.from_the_beginning)

    def handle(self, *commands: Any) -> None:
        bus = self.application.bus
        for answer in bus.handle_many([bus.envelope(command) for command in commands]):
            answer.unwrap()

    def line(self, name: str, page: int = 200) -> Line:
        [subscription] = [s for s in self.application.worker.subscriptions if s.name == name]

        def deliver(events: Sequence[EventEnvelope], read_models: ReadModels) -> Outcomes:
            told = iter(subscription.deliver([e for e in events if e.key not in self.untold], read_models))
            return [ValueError("cannot be told") if e.key in self.untold else next(told) for e in events]

        return Line(replace(subscription, deliver=deliver, page=page), self.store, self.clock, Backoff(lambda: 0.0))

    def take(self, name: str, partition: int, owner: str = "worker-1") -> Lease:
        lease = self.store.lease(name, partition, owner, LEASE_SECONDS)
        assert lease is not None
        return lease

    def run(self, *names: str, owner: str = "worker-1", page: int = 200) -> None:
        """Deliver everything that is there, and that is due."""
        for name in names or (LEVELS, COUNTS):
            line = self.line(name, page)
            for partition in range(PARTITIONS):
                lease, moved = line.round(self.take(name, partition, owner))
                while moved:
                    lease, moved = line.round(lease)

    def heal(self, sku: str) -> None:
        """The level can be told again, and somebody says so."""
        self.untold.discard(sku)
        self.store.set_due(LEVELS, sku)

    def truth(self, *skus: str) -> dict[str, StockLevel]:
        """The levels as the state tables have them now."""
        found = {sku: self.application.views.product(sku) for sku in skus}
        return {sku: StockLevel(sku, p.version, NOWHERE, tuple(p.available)) for sku, p in found.items() if p}

    @property
    def moved(self) -> list[tuple[date, Movements]]:
        return self.application.views.movements(CHAIR)

    def head(self, partition: int) -> LogPosition:
        return LogPosition(partition, len(self.store.read(partition, 0, 10_000)))


class Reader:
    """Reads stock levels on and on, and keeps a copy in which the newest version wins."""

    def __init__(self, projected: Projected, limit: int) -> None:
        self._views, self._limit = projected.application.views, limit
        self._after: Sequence[LogPosition] = ()
        self.copy: dict[str, StockLevel] = {}

    def page(self) -> list[str]:
        page = self._views.stock(self._after, self._limit)
        assert len(page.levels) <= self._limit
        self._after = page.next
        for level in page.levels:
            if level.sku not in self.copy or level.version > self.copy[level.sku].version:
                self.copy[level.sku] = replace(level, position=NOWHERE)
        return [level.sku for level in page.levels]

    def read_on(self) -> list[str]:
        found: list[str] = []
        while page := self.page():
            found += page
        return found


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def projected(request: pytest.FixtureRequest) -> Iterator[Projected]:
    url = "memory:" if request.param == "memory" else request.getfixturevalue(f"empty_{request.param}_url")
    clock = SetClock()
    application = bootstrap(Settings(database_url=url, log_partitions=PARTITIONS), clock=clock)
    yield Projected(application, clock)
    application.close()


# --- what they hold -----------------------------------------------------------------------------------------------


def test_a_level_is_the_availability_of_the_product_at_its_version(projected: Projected) -> None:
    sold_out = SKUS[0]
    projected.handle(CreateBatch("b1", CHAIR, 5), CreateBatch("b2", CHAIR, 7, SPRING), CreateBatch("b3", CHAIR, 2))
    projected.handle(Allocate("o1", CHAIR, 4), CreateBatch("t1", sold_out, 1), Allocate("o1", sold_out, 1))
    projected.run()
    reader = Reader(projected, 3)
    reader.read_on()
    assert reader.copy == {
        CHAIR: StockLevel(CHAIR, 4, NOWHERE, (Available(None, 3, 2), Available(SPRING, 7, 7))),
        sold_out: StockLevel(sold_out, 2, NOWHERE, ()),
    }
    assert reader.copy == projected.truth(CHAIR, sold_out)


def test_movements_are_counted_by_the_day_on_which_they_happened(projected: Projected) -> None:
    projected.handle(CreateBatch("b1", CHAIR, 10), Allocate("o1", CHAIR, 4), Allocate("o2", CHAIR, 3))
    projected.handle(Allocate("waits", CHAIR, 9), CreateBatch("t1", "SMALL-TABLE", 1))
    projected.clock.step(24 * 3600)
    projected.handle(ChangeBatchQuantity("b1", 5), Deallocate("o1", CHAIR))
    projected.clock.step(24 * 3600)
    projected.run()
    # o2 gives way to the shrunken batch; where o1 was, it has room again.
    shrunken = Movements(allocated=3, deallocated=3 + 4, cancelled=4)
    assert projected.moved == [(TOMORROW, shrunken), (TODAY, Movements(received=10, allocated=7, backordered=9))]
    assert projected.application.views.movements(CHAIR, limit=1) == projected.moved[:1]
    assert projected.application.views.movements("NOBODYS") == []


# --- once, whatever happens ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", [1, 200])
def test_a_worker_that_dies_before_it_settles_had_no_effect_and_the_next_one_has_it_once(
    projected: Projected, page: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    projected.handle(CreateBatch("b1", CHAIR, 10), *(Allocate(f"o{n}", CHAIR, 1) for n in range(5)))

    def die(*_: object) -> Lease:
        raise Died

    with monkeypatch.context() as deadly:
        deadly.setattr(projected.store, "settle", die)
        for name in (LEVELS, COUNTS):
            with pytest.raises(Died):
                projected.run(name)
    assert (Reader(projected, 3).read_on(), projected.moved) == ([], [])
    projected.clock.step(LEASE_SECONDS + 1)
    for _ in range(2):
        projected.run(owner="worker-2", page=page)
    assert projected.moved == [(TODAY, Movements(received=10, allocated=5))]
    assert Reader(projected, 3).read_on() == [CHAIR]


def test_who_has_lost_the_lease_writes_nothing(projected: Projected) -> None:
    projected.handle(CreateBatch("b1", CHAIR, 10))
    partition = partition_of(CHAIR, PARTITIONS)
    slow = {name: (projected.line(name), projected.take(name, partition, "slow")) for name in (LEVELS, COUNTS)}
    projected.clock.step(LEASE_SECONDS + 1)
    for name in slow:
        projected.take(name, partition, "quick")
    for line, lease in slow.values():
        with pytest.raises(LeaseLost):
            line.round(lease)
    assert (Reader(projected, 3).read_on(), projected.moved) == ([], [])
    projected.run(owner="quick")
    projected.handle(Allocate("o1", CHAIR, 4))
    for line, lease in slow.values():
        with pytest.raises(LeaseLost):
            line.round(lease)
    assert projected.moved == [(TODAY, Movements(received=10))]
    reader = Reader(projected, 3)
    reader.read_on()
    assert reader.copy[CHAIR].version == 1


def test_an_older_level_never_wins(projected: Projected) -> None:
    def level(version: int, seq: int) -> StockLevel:
        return StockLevel(CHAIR, version, LogPosition(0, seq), (Available(None, version, 1),))

    lease = projected.take(LEVELS, 0)
    for told in (level(4, 9), level(3, 12), level(4, 8)):
        lease = projected.store.settle(lease, Settlement(20, read_models=ReadModels({CHAIR: told})), LEASE_SECONDS)
        assert list(projected.application.views.stock((), 5).levels) == [level(4, 9)]
    newer = ReadModels()
    for told in (level(5, 13), level(6, 14), level(5, 15)):
        newer.put_stock_level(told)
    projected.store.settle(lease, Settlement(20, read_models=newer), LEASE_SECONDS)
    assert list(projected.application.views.stock((), 5).levels) == [level(6, 14)]


# --- paging -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 5])
def test_from_an_empty_cursor_every_sku_comes_once(projected: Projected, limit: int) -> None:
    projected.handle(*(CreateBatch(f"b-{sku}", sku, 10) for sku in SKUS))
    projected.handle(*(Allocate("o1", sku, 1) for sku in SKUS[::3]))
    projected.run(page=5)
    assert sorted(Reader(projected, limit).read_on()) == sorted(SKUS)


@pytest.mark.parametrize("seed", range(2))
def test_who_reads_on_while_products_change_misses_none(projected: Projected, seed: int) -> None:
    dice = random.Random(seed)
    reader = Reader(projected, limit=3)
    bus = projected.application.bus
    for n in range(40):
        sku = dice.choice(SKUS)
        commands = [
            CreateBatch(f"b{n}", sku, dice.randint(1, 9), dice.choice([None, SPRING])),
            Allocate(f"o{n}", sku, dice.randint(1, 9)),
            Deallocate(f"o{dice.randrange(n + 1)}", sku),
        ]
        for command in dice.sample(commands, 2):
            refusal = bus.ask(bus.envelope(command)).error
            assert refusal is None or isinstance(refusal, Refused)
        if dice.random() < 0.6:
            projected.run(LEVELS, page=dice.choice([1, 2, 50]))
        reader.page()
    projected.run(LEVELS)
    reader.read_on()
    assert reader.copy == projected.truth(*SKUS)
    assert len(reader.copy) > 6


def test_a_reader_passes_no_product_whose_level_cannot_be_told(projected: Projected) -> None:
    stuck, *others = FIRST
    reader = Reader(projected, limit=1)
    projected.untold.add(stuck)
    projected.handle(CreateBatch("b0", others[0], 1), CreateBatch("b1", stuck, 1), CreateBatch("b2", others[1], 1))
    projected.handle(CreateBatch("b3", SECOND[0], 1))
    projected.run(LEVELS)
    assert reader.read_on() == [others[0], SECOND[0]], "the other partition goes on"
    projected.heal(stuck)
    projected.run(LEVELS)
    assert reader.read_on() == [stuck, others[1]]
    assert reader.copy == projected.truth(stuck, *others[:2], SECOND[0])


# --- how far they are ---------------------------------------------------------------------------------------------


def test_a_position_is_reached_when_it_is_in_the_log(projected: Projected) -> None:
    projected.handle(CreateBatch("b1", FIRST[0], 1), CreateBatch("b2", FIRST[1], 1))
    views = projected.application.views
    assert [views.reached(LogPosition(0, seq)) for seq in (0, 1, 2, 3)] == [True, True, True, False]
    assert [views.reached(LogPosition(1, seq)) for seq in (0, 1)] == [True, False]


def test_stock_has_reached_what_was_projected_its_lanes_included(projected: Projected) -> None:
    views = projected.application.views

    def waiting_since() -> datetime | None:
        return views.stock((), 1).waiting_since

    assert waiting_since() is None
    for sku in FIRST[:3]:
        projected.handle(CreateBatch(f"b-{sku}", sku, 1))
        projected.clock.step(1)
    projected.handle(CreateBatch("b-other", SECOND[0], 1))
    assert not views.stock_reached(LogPosition(0, 1))
    assert waiting_since() == NOON
    projected.untold.add(FIRST[1])
    projected.run(LEVELS)
    assert [views.stock_reached(LogPosition(0, seq)) for seq in (1, 2, 3)] == [True, False, False]
    assert views.stock_reached(projected.head(1)), "the other partition has no lane"
    assert waiting_since() == NOON + timedelta(seconds=1)
    projected.heal(FIRST[1])
    projected.run(LEVELS)
    assert views.stock_reached(projected.head(0))
    assert not views.stock_reached(LogPosition(0, 4))
    assert waiting_since() is None
