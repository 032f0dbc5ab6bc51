"""What an answer means for what was pushed, and when it is tried again."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allocation.adapters.memory import MemoryStore
from allocation.adapters.memory_subscriptions import MemorySubscriptionStore
from allocation.domain.commands import Allocate, CreateBatch
from allocation.service_layer.delivering import Destination, one_by_one
from allocation.service_layer.errors import Busy, Gone, Rejected, RejectedForGood, Unavailable
from allocation.service_layer.pushing import KEPT_SECONDS, LEASE_SECONDS, Sink, event_grid_schedule, outcome_of
from allocation.service_layer.subscriptions import Backoff, Subscription
from allocation.service_layer.worker import Worker
from tests.fakes import CountingIds, SetClock
from tests.thoroughness import examples
from tests.unit.test_subscriptions import CHAIR, Shop, chairs, tables

MEANT = {
    **dict.fromkeys((200, 201, 202, 203, 204), type(None)),
    **dict.fromkeys((400, 401, 403, 413), RejectedForGood),
    **dict.fromkeys((408, 429, 502, 503, 504), Unavailable),
    **dict.fromkeys((205, 206, 301, 302, 303, 307, 308, 404, 405, 409, 422, 500, 501, 599), Rejected),
}


@pytest.mark.parametrize("status", MEANT)
def test_each_status_means_what_event_grid_says(status: int) -> None:
    assert type(outcome_of(status)) is MEANT[status]


def test_gone_is_for_the_whole_sink() -> None:
    with pytest.raises(Gone):
        outcome_of(410)


@pytest.mark.parametrize("status", [429, 503])
def test_who_says_when_to_come_again_is_left_alone_for_so_long(status: int) -> None:
    busy = outcome_of(status, "later", 120.0)
    assert isinstance(busy, Busy)
    assert busy.retry_after_seconds == 120.0


def test_the_schedule_is_event_grids() -> None:
    schedule = event_grid_schedule(lambda: 0.0)
    minutes = [schedule.seconds(n) / 60 for n in range(1, 13)]
    assert minutes == [1 / 6, 0.5, 1, 5, 10, 30, 60, 180, 360, 720, 720, 720]
    assert event_grid_schedule(lambda: 1.0).seconds(1) == 15


def test_an_event_is_parked_after_a_day_or_thirty_attempts() -> None:
    schedule = event_grid_schedule(lambda: 0.0)
    last = next(n for n in range(1, 31) if schedule.gives_up(n))
    assert sum(schedule.seconds(n) for n in range(1, last)) <= KEPT_SECONDS
    assert sum(schedule.seconds(n) for n in range(1, last + 1)) > KEPT_SECONDS
    assert replace(schedule, attempts=3).gives_up(3)


def test_a_secret_is_not_shown() -> None:
    assert "whsec" not in repr(Sink("https://example.com", "whsec_c2VjcmV0"))


# What the lines of a subscription make of it


def pushed_shop() -> Shop:
    return Shop(backoff=event_grid_schedule(lambda: 0.0))


def test_a_subscription_may_carry_a_schedule_of_its_own() -> None:
    shop = pushed_shop()
    shop.fails["c1"] = Rejected("it answered 500")
    shop.do(*chairs("c1"))
    for seconds in (10, 30, 60, 300):
        shop.rounds()
        [lane] = shop.subscriptions.lanes()
        assert lane.due_at is not None
        assert (lane.due_at - shop.clock.now()).total_seconds() == seconds
        shop.clock.step(seconds)
    shop.fails.clear()
    shop.rounds()
    assert shop.delivered == ["c1"]


def test_what_was_rejected_for_good_is_parked_at_once_and_holds_up_no_other_key() -> None:
    shop = pushed_shop()
    shop.fails["c1"] = RejectedForGood("it answered 400")
    shop.do(*chairs("c1", "c2"), *tables("t1"))
    shop.rounds()
    [lane] = shop.subscriptions.lanes()
    assert (lane.key, lane.attempts, lane.due_at) == (CHAIR, 1, None)
    assert shop.delivered == ["t1"]


def test_a_sink_that_is_away_is_asked_by_the_schedule_and_loses_nothing() -> None:
    shop = pushed_shop()
    shop.fails["c1"] = Unavailable("connection refused")
    shop.do(*chairs("c1"), *tables("t1"))
    for seconds in (10, 30, 60, 300, 600, 1800, 3600, 10_800, 21_600, 43_200, 43_200, 43_200):
        shop.rounds()
        shop.clock.step(seconds - 1)
        assert shop.line.round(shop.lease) == (shop.lease, False), "too early"
        shop.clock.step(1)
    shop.fails.clear()
    shop.rounds()
    assert shop.delivered == ["c1", "t1"]


def test_a_busy_sink_is_left_alone_as_long_as_it_says_and_that_is_no_failure() -> None:
    clock = SetClock()
    destination = Destination.of(
        Subscription("hook", frozenset(), one_by_one(lambda logged, written: None)), clock, Backoff(lambda: 0.0)
    )
    for _ in range(9):
        destination.was_away(Busy("it answered 429", 120.0))
        clock.step(119)
        assert destination.is_away()
        clock.step(1)
        assert not destination.is_away()
    destination.was_away(Unavailable("connection refused"))
    clock.step(1)
    assert not destination.is_away(), "the first pause is the shortest"


def shop_with_lanes(count: int) -> tuple[Shop, list[str]]:
    """Products whose order was refused once and will be taken now; and these orders."""
    shop, orders = Shop(), [f"order-{n}" for n in range(count)]
    for n, orderid in enumerate(orders):
        shop.fails[orderid] = Rejected("it answered 500")
        shop.do(CreateBatch(f"batch-{n}", f"SKU-{n}", 10), Allocate(orderid, f"SKU-{n}", 1))
    shop.rounds()
    shop.fails.clear()
    return shop, orders


def test_lanes_that_take_long_do_not_outlast_the_lease() -> None:
    shop, orders = shop_with_lanes(4)
    shop.clock.step(2)
    shop.seconds_each = 6
    shop.lease = shop.take("worker-1")
    shop.lease, _ = shop.line.round(shop.lease)
    assert len(shop.delivered) == 2, "a lease is for 15 seconds, and another lane begins while a third of it is left"
    shop.lease, _ = shop.line.round(shop.lease)
    assert shop.delivered == orders


class Limited:
    """A shop whose receiver takes so many in a minute; the backlog of tables is longer than that."""

    def __init__(self, most: int, backlog: int) -> None:
        self.shop, self.most, self.left = Shop(), most, 0
        self.shop.before = self._before
        self.shop.do(*tables(*(f"t{n}" for n in range(backlog))))

    def minute(self) -> list[str]:
        """What one brings, in rounds as the worker has them."""
        shop, before = self.shop, len(self.shop.delivered)
        self.left = self.most
        shop.clock.step(60)
        shop.lease = shop.take("worker-1")
        shop.rounds()
        return shop.delivered[before:]

    def _before(self) -> None:
        if not self.left:
            raise Busy("it allows so many requests a minute", 60.0)
        self.left -= 1


@pytest.mark.parametrize("most", [3, 5, 7])
def test_a_lane_that_is_due_is_not_starved_by_a_backlog_behind_a_limited_rate(most: int) -> None:
    """Whether the limit is met in the middle of a page, which has five, or at its end."""
    limited = Limited(most, backlog=40)
    shop = limited.shop
    shop.fails["c1"] = RejectedForGood("it answered 400")
    shop.do(*chairs("c1", "c2"))
    while not shop.subscriptions.lanes():
        limited.minute()
    shop.do(*tables(*(f"later-{n}" for n in range(40))), *chairs("c3"))
    shop.fails.clear()
    shop.subscriptions.set_due("mail", CHAIR)
    brought = [limited.minute() for _ in range(3)]
    assert {"c1", "c2"} < {order for minute in brought for order in minute}
    while limited.minute():
        pass
    in_order = [f"t{n}" for n in range(40)] + [f"later-{n}" for n in range(40)]
    assert [order for order in shop.delivered if order not in ("c1", "c2", "c3")] == in_order
    assert [order for order in shop.delivered if order in ("c1", "c2", "c3")] == ["c1", "c2", "c3"]


@pytest.mark.parametrize("most", [2, 5])
def test_lanes_and_the_cursor_take_turns_behind_a_limited_rate(most: int) -> None:
    """A lane with a long backlog starves neither the cursor nor the other lanes."""
    limited = Limited(most=1000, backlog=0)
    shop, skus = limited.shop, [f"SKU-{n}" for n in range(3)]
    for sku in skus:
        shop.fails[f"0-of-{sku}"] = RejectedForGood("it answered 400")
        shop.do(CreateBatch(f"batch-of-{sku}", sku, 100), *(Allocate(f"{n}-of-{sku}", sku, 1) for n in range(30)))
    limited.minute()
    assert shop.delivered == []
    limited.most = most
    shop.fails.clear()
    shop.do(*tables(*(f"t{n}" for n in range(60))))
    for sku in skus:
        shop.subscriptions.set_due("mail", sku)
    brought = [order for _ in range(8) for order in limited.minute()]
    assert {f"0-of-{sku}" for sku in skus} < set(brought)
    assert sum(order.startswith("t") for order in brought) == 4 * most


def test_what_came_of_a_key_behind_the_cursor_is_not_lost_when_its_lane_closes_first() -> None:
    limited = Limited(most=3, backlog=0)
    shop = limited.shop
    shop.fails["c1"] = RejectedForGood("it answered 400")
    shop.do(*chairs("c1"))
    limited.minute()
    shop.fails.clear()
    shop.subscriptions.set_due("mail", CHAIR)
    shop.do(*tables("t1", "t2", "t3", "t4"), *chairs("c2"))
    assert limited.minute() == ["t1", "t2", "t3"]
    limited.most = 100
    assert limited.minute() == ["c1", "t4", "c2"]


@examples(200)
@given(
    orders=st.lists(st.tuples(st.integers(0, 2), st.booleans()), max_size=40),
    minutes=st.lists(st.tuples(st.integers(0, 8), st.integers(0, 3)), max_size=20),
)
def test_whatever_the_limit_each_event_comes_once_and_in_order(
    orders: list[tuple[int, bool]], minutes: list[tuple[int, int]]
) -> None:
    """Some are refused at first; in each minute the receiver takes so many, and somebody says retry."""
    limited = Limited(most=0, backlog=0)
    shop, skus = limited.shop, [f"SKU-{n}" for n in range(3)]
    shop.do(*(CreateBatch(f"batch-of-{sku}", sku, 100) for sku in skus))
    expected: dict[str, list[str]] = {sku: [] for sku in skus}
    commands = []
    for n, (key, is_refused) in enumerate(orders):
        commands.append(Allocate(f"{n}-of-{skus[key]}", skus[key], 1))
        expected[skus[key]].append(f"{n}-of-{skus[key]}")
        if is_refused:
            shop.fails[f"{n}-of-{skus[key]}"] = RejectedForGood("it answered 400")
    for most, retried in minutes:
        shop.do(*commands[:3])
        del commands[:3]
        limited.most = most
        limited.minute()
        if retried < len(skus) and shop.subscriptions.set_due("mail", skus[retried]):
            done = sum(order.endswith(skus[retried]) for order in shop.delivered)
            shop.fails.pop(expected[skus[retried]][done], None)
    shop.do(*commands)
    shop.fails.clear()
    limited.most = 1000
    for sku in skus:
        shop.subscriptions.set_due("mail", sku)
    limited.minute()
    assert {sku: [o for o in shop.delivered if o.endswith(sku)] for sku in skus} == expected
    assert shop.subscriptions.lanes() == []


def test_of_a_lease_that_is_half_used_up_no_more_lanes_are_delivered_than_there_is_time_for() -> None:
    shop, _ = shop_with_lanes(3)
    shop.lease = shop.take("worker-1")
    shop.clock.step(7)
    shop.seconds_each = 5
    for so_many in (1, 3):
        shop.lease, _ = shop.line.round(shop.lease)
        assert len(shop.delivered) == so_many
        assert shop.lease.until > shop.clock.now(), "renewed in time"


def test_a_subscription_whose_rounds_take_long_has_a_longer_lease() -> None:
    clock = SetClock()
    store = MemorySubscriptionStore(MemoryStore(CountingIds(), clock))
    hook = Subscription("hook", frozenset(), one_by_one(lambda logged, written: None), lease_seconds=LEASE_SECONDS)
    mail = Subscription("mail", frozenset(), one_by_one(lambda logged, written: None))
    worker = Worker([hook, mail], store, clock, Backoff(lambda: 0.0), "worker-1", lease_seconds=15)
    for subscription, seconds in ((hook, LEASE_SECONDS), (mail, 15)):
        store.join(subscription.name, from_the_beginning=True)
        lease = worker.lease(subscription, 0, None)
        assert lease is not None
        assert (lease.until - clock.now()).total_seconds() == seconds
        clock.step(seconds * 0.4)
        assert worker.lease(subscription, 0, lease) is lease, "more than half of it is left"
