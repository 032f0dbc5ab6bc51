"""Deliveries in order per key; what is refused waits in its lane, alone."""

import logging
from collections.abc import Callable, Sequence

import pytest

from allocation.adapters.memory import MemoryStore, MemoryUnitOfWork
from allocation.adapters.memory_subscriptions import MemorySubscriptionStore
from allocation.domain.commands import Allocate, Command, CreateBatch
from allocation.domain.events import Allocated
from allocation.service_layer import delivering
from allocation.service_layer.delivering import (
    LONGEST_ABSENCE_SECONDS,
    LONGEST_LEASE_SECONDS,
    Destination,
    Line,
    all_together,
    one_by_one,
)
from allocation.service_layer.envelope import EventEnvelope, LogPosition
from allocation.service_layer.errors import Busy, LeaseLost, Rejected, Unavailable
from allocation.service_layer.handlers import COMMAND_HANDLERS
from allocation.service_layer.messagebus import MessageBus
from allocation.service_layer.read_models import Movements, ReadModels
from allocation.service_layer.subscriptions import Backoff, Discarded, Lease, Subscription
from allocation.service_layer.worker import Worker
from tests.fakes import NOON, CountingIds, SetClock, SetTimer

CHAIR, TABLE = "RED-CHAIR", "SMALL-TABLE"


class Shop:
    """A shop in memory with one subscription to `Allocated`, whose destination does as the test says."""

    def __init__(self, settle_seconds: float = 0.0, backoff: Backoff | None = None) -> None:
        self.clock = SetClock()
        self.store = MemoryStore(CountingIds(), self.clock)
        self.bus = MessageBus(
            lambda: MemoryUnitOfWork(self.store), COMMAND_HANDLERS, ids=CountingIds(), clock=self.clock
        )
        self.subscriptions = MemorySubscriptionStore(self.store)
        self.delivered: list[str] = []
        self.fails: dict[str, Exception] = {}
        self.seconds_each = 0.0
        self.before: Callable[[], None] = lambda: None
        subscription = Subscription(
            "mail",
            frozenset({Allocated}),
            one_by_one(self.deliver),
            page=5,
            settle_seconds=settle_seconds,
            backoff=backoff,
        )
        self.line = Line(subscription, self.subscriptions, self.clock, Backoff(lambda: 0.0, attempts=3))
        self.subscriptions.join("mail", from_the_beginning=True)
        self.lease = self.take("worker-1")
        self.do(CreateBatch("b1", CHAIR, 100), CreateBatch("b2", TABLE, 100))

    def deliver(self, logged: EventEnvelope, _read_models: ReadModels) -> None:
        assert isinstance(logged.event, Allocated)
        self.clock.step(self.seconds_each)
        self.before()
        if failure := self.fails.get(logged.event.orderid):
            raise failure
        self.delivered.append(logged.event.orderid)

    def take(self, owner: str) -> Lease:
        lease = self.subscriptions.lease("mail", 0, owner, 15)
        assert lease is not None
        return lease

    def do(self, *commands: Command) -> None:
        for command in commands:
            self.bus.handle(command)

    def rounds(self) -> None:
        """Until nothing moves."""
        moved = True
        while moved:
            self.lease, moved = self.line.round(self.lease)


@pytest.fixture
def shop() -> Shop:
    return Shop()


def chairs(*orderids: str) -> list[Command]:
    return [Allocate(orderid, CHAIR, 1) for orderid in orderids]


def tables(*orderids: str) -> list[Command]:
    return [Allocate(orderid, TABLE, 1) for orderid in orderids]


def test_events_are_delivered_in_order_and_only_those_that_are_wanted(shop: Shop) -> None:
    shop.do(*chairs("c1", "c2"), *tables("t1"), *chairs(*(f"c{n}" for n in range(3, 12))))
    shop.rounds()
    assert shop.delivered == ["c1", "c2", "t1", *(f"c{n}" for n in range(3, 12))]
    assert shop.lease.seq == len(shop.store.log[0])


def test_what_is_refused_waits_in_its_lane_and_nothing_overtakes_its_key(shop: Shop) -> None:
    shop.fails["c1"] = Rejected("no such address")
    shop.do(*chairs("c1", "c2"), *tables("t1", "t2"))
    shop.rounds()
    assert shop.delivered == ["t1", "t2"]
    [lane] = shop.subscriptions.lanes("mail")
    assert (lane.key, lane.attempts, lane.reason) == (CHAIR, 1, "Rejected: no such address")
    shop.do(*chairs("c3"), *tables("t3"))
    shop.rounds()
    assert shop.delivered == ["t1", "t2", "t3"]
    shop.fails.clear()
    shop.clock.step(2)
    shop.rounds()
    assert shop.delivered == ["t1", "t2", "t3", "c1", "c2", "c3"]
    assert shop.subscriptions.lanes() == []


def test_a_lane_is_parked_after_its_attempts_and_tried_again_when_told(shop: Shop) -> None:
    shop.fails["c1"] = Rejected("no such address")
    shop.do(*chairs("c1", "c2"))
    for _ in range(5):
        shop.rounds()
        shop.clock.step(3600)
    [lane] = shop.subscriptions.lanes()
    assert (lane.attempts, lane.due_at) == (3, None)
    shop.fails.clear()
    shop.rounds()
    assert shop.delivered == []
    assert shop.subscriptions.set_due("mail", CHAIR)
    shop.rounds()
    assert shop.delivered == ["c1", "c2"]


def test_only_a_recorded_discard_skips_an_event(shop: Shop) -> None:
    shop.fails["c1"] = Rejected("no such address")
    shop.do(*chairs("c1", "c2"))
    shop.rounds()
    assert shop.subscriptions.set_due("mail", CHAIR, discard=("anna", "the customer is gone"))
    shop.rounds()
    assert shop.delivered == ["c2"]
    assert shop.subscriptions.discarded(0, 1, 9) == [Discarded("mail", 0, 3, "anna", "the customer is gone")]


def test_a_lane_stands_at_the_event_that_is_refused_not_at_one_that_nobody_wants(shop: Shop) -> None:
    shop.fails["c1"] = Rejected("no such address")
    shop.do(*chairs("c1"), CreateBatch("of-no-interest", CHAIR, 1), *chairs("c2"))
    shop.rounds()
    shop.fails = {"c2": Rejected("no such address")}
    shop.clock.step(2)
    shop.rounds()
    assert [lane.next_seq for lane in shop.subscriptions.lanes()] == [5]
    assert shop.subscriptions.set_due("mail", CHAIR, discard=("anna", "the customer is gone"))
    shop.rounds()
    assert shop.delivered == ["c1"]
    assert shop.subscriptions.discarded(0, 1, 9) == [Discarded("mail", 0, 5, "anna", "the customer is gone")]


def test_a_destination_that_is_away_holds_the_line_and_uses_up_no_attempt(shop: Shop) -> None:
    shop.fails["c2"] = Unavailable("connection refused")
    shop.do(*chairs("c1", "c2"), *tables("t1"))
    shop.rounds()
    shop.rounds()
    assert shop.delivered == ["c1"]
    assert shop.subscriptions.lanes() == []
    shop.fails.clear()
    shop.rounds()
    assert shop.delivered == ["c1"]
    shop.clock.step(2)
    shop.rounds()
    assert shop.delivered == ["c1", "c2", "t1"]


def test_an_owner_whose_lease_ran_out_moves_the_cursor_no_more(shop: Shop) -> None:
    shop.do(*chairs("c1"))
    assert shop.subscriptions.lease("mail", 0, "worker-2", 15) is None
    shop.clock.step(60)
    second = shop.take("worker-2")
    assert second.epoch == shop.lease.epoch + 1
    with pytest.raises(LeaseLost):
        shop.rounds()
    assert shop.take("worker-2").seq == second.seq


def test_a_new_subscription_starts_at_the_head_unless_told_otherwise(shop: Shop) -> None:
    shop.subscriptions.join("late", from_the_beginning=False)
    lease = shop.subscriptions.lease("late", 0, "worker-1", 15)
    assert lease is not None
    assert lease.seq == len(shop.store.log[0])


def test_a_long_lane_is_drained_page_by_page(shop: Shop) -> None:
    shop.fails["c0"] = Rejected("not yet")
    shop.do(*chairs(*(f"c{n}" for n in range(23))), CreateBatch("b3", CHAIR, 5))
    shop.rounds()
    shop.fails.clear()
    shop.clock.step(2)
    shop.rounds()
    assert shop.delivered == [f"c{n}" for n in range(23)]
    assert shop.subscriptions.lanes() == []


def test_no_more_lanes_are_drained_in_a_round_than_can_be_settled_at_once(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    skus = [f"SKU-{n}" for n in range(5)]
    for sku in skus:
        shop.fails[sku] = Rejected("no such mailbox")
        shop.do(CreateBatch(f"b-{sku}", sku, 10), Allocate(sku, sku, 1))
    shop.rounds()
    assert [lane.key for lane in shop.subscriptions.lanes()] == skus
    monkeypatch.setattr(delivering, "LANES_A_ROUND", 2)
    shop.fails.clear()
    shop.clock.step(60)
    for so_many in (2, 4, 5):
        shop.lease, _ = shop.line.round(shop.lease)
        assert shop.delivered == skus[:so_many]
    assert shop.subscriptions.lanes() == []


def test_a_destination_that_is_back_after_hours_is_noticed_within_seconds(shop: Shop) -> None:
    shop.fails["c1"] = Unavailable("connection refused")
    shop.do(*chairs("c1"))
    for _ in range(20):
        shop.rounds()
        shop.clock.step(3600)
    shop.rounds()
    shop.fails.clear()
    shop.clock.step(LONGEST_ABSENCE_SECONDS)
    shop.rounds()
    assert shop.delivered == ["c1"]


def test_a_clock_that_is_set_back_does_not_prolong_an_absence(shop: Shop) -> None:
    shop.do(*chairs("c1"))
    shop.fails["c1"] = Unavailable("no route to host")
    shop.rounds()
    assert shop.line.round(shop.lease) == (shop.lease, False), "left alone for a moment"
    shop.fails.clear()
    shop.clock.step(-3600)
    shop.rounds()
    assert shop.delivered == ["c1"]


def test_a_destination_that_goes_away_is_told_once_with_the_reason_and_once_more_when_it_is_back(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    shop.fails["c2"] = Unavailable("connection refused")
    shop.do(*chairs("c1", "c2"))
    for _ in range(5):
        shop.rounds()
        shop.clock.step(LONGEST_ABSENCE_SECONDS)
    away = ("WARNING", "mail: its destination cannot be reached: connection refused")
    assert [(line.levelname, line.message) for line in caplog.records] == [away]
    shop.fails.clear()
    shop.rounds()
    shop.do(*chairs("c3"))
    shop.rounds()
    back = ("INFO", "mail: its destination can be reached again")
    assert [(line.levelname, line.message) for line in caplog.records] == [away, back]


def test_who_says_when_to_come_again_is_not_told_to_be_away(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    shop.fails["c1"] = Busy("it allows 60 requests a minute", 1.0)
    shop.do(*chairs("c1"))
    shop.rounds()
    shop.fails.clear()
    shop.clock.step(1.0)
    shop.rounds()
    assert shop.delivered == ["c1"]
    assert caplog.records == []


def test_a_destination_that_is_away_is_away_in_every_partition(shop: Shop) -> None:
    destination = Destination("mail", shop.clock, Backoff(lambda: 0.0))
    subscription = Subscription("mail", frozenset({Allocated}), one_by_one(shop.deliver))
    line = Line(subscription, shop.subscriptions, shop.clock, Backoff(lambda: 0.0), destination=destination)
    shop.do(*chairs("c1"))
    destination.was_away(Unavailable("connection refused"))
    assert line.round(shop.lease) == (shop.lease, False)
    shop.clock.step(2)
    assert line.round(shop.lease)[1]


def page_of(shop: Shop) -> list[EventEnvelope]:
    shop.do(*chairs("c1"), *tables("t1"), *chairs("c2"))
    return shop.subscriptions.read(0, 2, 10)


def test_a_page_that_cannot_be_handled_as_one_is_handled_one_by_one(shop: Shop) -> None:
    """So that only the one to blame is parked, and what the others wrote is written once."""
    page = page_of(shop)

    def handle(events: Sequence[EventEnvelope], read_models: ReadModels) -> None:
        for logged in events:
            read_models.add_movements(logged.key, NOON.date(), Movements(allocated=1))
        if any(logged.event == Allocated("c1", CHAIR, 1, "b1") for logged in events):
            raise ValueError("cannot be counted")

    written = ReadModels()
    outcomes = all_together(handle)(page, written)
    assert [type(outcome) for outcome in outcomes] == [ValueError, type(None), ValueError], "c2 waits behind c1"
    assert written.movements == {(TABLE, NOON.date()): Movements(allocated=1)}


def test_a_page_whose_destination_is_away_wrote_nothing(shop: Shop) -> None:
    def handle(events: Sequence[EventEnvelope], read_models: ReadModels) -> None:
        read_models.add_movements(CHAIR, NOON.date(), Movements(allocated=1))
        raise Unavailable("connection refused")

    written = ReadModels()
    outcomes = all_together(handle)(page_of(shop), written)
    assert [type(outcome) for outcome in outcomes] == [Unavailable] * 3
    assert written == ReadModels()


class Died(BaseException):
    """As a process does."""


def test_what_a_worker_had_not_delivered_when_it_died_is_delivered_by_the_next(shop: Shop) -> None:
    shop.fails["c1"] = Died()  # type: ignore[assignment]  # what no handler catches
    shop.do(*chairs("c1", "c2"))
    with pytest.raises(Died):
        shop.rounds()
    shop.fails.clear()
    shop.clock.step(16)
    shop.lease = shop.take("worker-2")
    shop.rounds()
    assert shop.delivered == ["c1", "c2"]


# A cursor that lags behind what was delivered


@pytest.fixture
def broker_shop() -> Shop:
    """A shop whose destination knows what it was given: the cursor is written now and then."""
    return Shop(settle_seconds=0.1)


def cursor(shop: Shop) -> int:
    [there] = shop.subscriptions.cursors()
    return there.seq


def test_a_cursor_may_be_written_a_moment_later_than_its_events_are_delivered(broker_shop: Shop) -> None:
    shop = broker_shop
    shop.do(*chairs("c1"))
    shop.rounds()
    assert shop.delivered == ["c1"]
    assert cursor(shop) == 0
    shop.clock.step(0.1)
    shop.rounds()
    assert cursor(shop) == shop.lease.seq == 3
    assert shop.delivered == ["c1"]


def test_a_clock_that_is_set_back_does_not_keep_the_cursor_where_it_is(broker_shop: Shop) -> None:
    shop = broker_shop
    shop.do(*chairs("c1"))
    shop.rounds()
    shop.clock.step(-3600)
    shop.rounds()
    assert cursor(shop) == shop.lease.seq == 3
    assert shop.delivered == ["c1"]


def test_what_was_not_settled_is_delivered_again_by_the_next_owner(broker_shop: Shop) -> None:
    shop = broker_shop
    shop.do(*chairs("c1"))
    shop.rounds()
    shop.clock.step(16)
    shop.lease = shop.take("worker-2")
    shop.rounds()
    assert shop.delivered == ["c1", "c1"]


def test_who_stops_settles_first(broker_shop: Shop) -> None:
    shop = broker_shop
    shop.do(*chairs("c1"))
    shop.rounds()
    shop.subscriptions.release(shop.line.finish(shop.lease))
    shop.lease = shop.take("worker-2")
    shop.rounds()
    assert shop.delivered == ["c1"]


def test_who_takes_its_lease_anew_settles_first(broker_shop: Shop) -> None:
    shop = broker_shop
    mail = Subscription("mail", frozenset({Allocated}), lambda events, _: [None] * len(events))
    worker = Worker([mail], shop.subscriptions, shop.clock, Backoff(lambda: 0.0), "worker-1")
    shop.clock.step(7.45)
    shop.do(*chairs("c1"))
    shop.rounds()
    shop.clock.step(0.06)  # half of the lease is used up, and what was delivered is not settled yet
    lease = worker.lease(mail, 0, shop.lease, shop.line.finish)
    assert lease is not None
    shop.lease = lease
    shop.rounds()
    assert shop.delivered == ["c1"]


def test_who_gives_its_lease_back_for_another_worker_settles_first(broker_shop: Shop) -> None:
    shop = broker_shop
    shop.subscriptions.join("more", from_the_beginning=True)
    mail, more = (Subscription(name, frozenset(), lambda events, _: [None] * len(events)) for name in ("mail", "more"))
    worker = Worker([mail, more], shop.subscriptions, shop.clock, Backoff(lambda: 0.0), "worker-1")
    shop.lease, other = (worker.lease(subscription, 0, None) or shop.lease for subscription in (mail, more))
    assert other.subscription == "more"
    shop.do(*chairs("c1"))
    shop.rounds()
    shop.clock.step(5)
    shop.subscriptions.live("worker-2", 15)
    assert worker.lease(mail, 0, shop.lease, shop.line.finish) is None, "one of two is its fair share"
    shop.lease = shop.take("worker-2")
    shop.rounds()
    assert shop.delivered == ["c1"]


def test_behind_a_slow_destination_two_workers_do_not_deliver_by_turns_for_ever(shop: Shop) -> None:
    mail = Subscription("mail", frozenset({Allocated}), lambda events, _: [None] * len(events))
    worker = Worker([mail], shop.subscriptions, shop.clock, Backoff(lambda: 0.0), "worker-1")
    taken: list[Lease | None] = []
    shop.before = lambda: taken.append(shop.subscriptions.lease("mail", 0, "worker-2", 15))
    shop.seconds_each = 28
    shop.do(*chairs("c1"))
    with pytest.raises(LeaseLost):
        shop.rounds()
    shop.clock.step(15)
    lease = worker.lease(mail, 0, None, shop.line.finish, shop.line.lease_seconds)
    assert lease is not None
    shop.lease = lease
    shop.rounds()
    assert shop.delivered == ["c1", "c1"]
    assert [one is not None for one in taken] == [True, False]


def test_a_lease_does_not_grow_beyond_measure(shop: Shop) -> None:
    def another_takes_over() -> None:
        shop.take("worker-2")

    shop.do(*chairs("c1"))
    shop.seconds_each, shop.before = 8 * 3600, another_takes_over
    with pytest.raises(LeaseLost):
        shop.rounds()
    assert shop.line.lease_seconds == LONGEST_LEASE_SECONDS


def test_a_lane_is_written_at_once(broker_shop: Shop) -> None:
    shop = broker_shop
    shop.fails["t1"] = Rejected("no such topic")
    shop.do(*chairs("c1"), *tables("t1"))
    shop.rounds()
    assert [lane.key for lane in shop.subscriptions.lanes()] == [TABLE]
    assert cursor(shop) == 4


def test_who_lost_the_lease_hears_of_it_though_only_the_cursor_was_to_be_written(broker_shop: Shop) -> None:
    shop = broker_shop
    shop.do(*chairs("c1"))
    shop.rounds()
    shop.subscriptions.rewind("mail", [])
    shop.clock.step(0.1)
    with pytest.raises(LeaseLost):
        shop.line.round(shop.lease)


def test_a_page_that_takes_too_long_is_left_to_the_next_round_where_it_stands() -> None:
    timer = SetTimer()
    delivered: list[str] = []

    def slowly(logged: EventEnvelope, read_models: ReadModels) -> None:
        delivered.append(logged.id)
        timer.pause(2.0)

    deliver = one_by_one(slowly, timer, 5.0)
    events = [
        EventEnvelope(Allocated("o1", CHAIR, 1, "b1"), f"e{n}", NOON, LogPosition(0, n), n, "c", None)
        for n in range(1, 6)
    ]
    outcomes = deliver(events, ReadModels())
    assert delivered == [event.id for event in events[:3]]
    assert outcomes[:3] == [None] * 3
    for left in outcomes[3:]:
        assert isinstance(left, Busy)
        assert left.retry_after_seconds == 0.0
    assert one_by_one(slowly, timer, 0.0)(events[3:], ReadModels())[0] is None, "the first is always tried"
