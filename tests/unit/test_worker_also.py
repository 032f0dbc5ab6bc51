"""Subscriptions that come and go while the worker runs."""

from collections.abc import Iterator, Sequence
from threading import Event as Flag
from threading import enumerate as threads

import pytest

from allocation.adapters.clock import SystemClock
from allocation.adapters.memory import MemoryStore, MemoryUnitOfWork
from allocation.adapters.memory_subscriptions import MemorySubscriptionStore
from allocation.domain.commands import Allocate, CreateBatch
from allocation.domain.events import Allocated
from allocation.service_layer.envelope import EventEnvelope
from allocation.service_layer.handlers import COMMAND_HANDLERS
from allocation.service_layer.messagebus import MessageBus
from allocation.service_layer.read_models import ReadModels
from allocation.service_layer.subscriptions import Backoff, Outcomes, Subscription
from allocation.service_layer.worker import Worker
from tests.fakes import CountingIds, SetClock

LONG_SECONDS = 10


class Destination:
    """Takes everything; `opens` lets a delivery end."""

    def __init__(self, name: str = "hook") -> None:
        self.began, self.opens, self.got = Flag(), Flag(), Flag()
        self.opens.set()
        self.delivered: list[str] = []
        self.subscription = Subscription(name, frozenset({Allocated}), self.deliver)

    def deliver(self, events: Sequence[EventEnvelope], _read_models: ReadModels) -> Outcomes:
        self.began.set()
        assert self.opens.wait(LONG_SECONDS)
        self.delivered += [logged.event.orderid for logged in events if isinstance(logged.event, Allocated)]
        self.got.set()
        return [None] * len(events)


class Shop:
    def __init__(self) -> None:
        store = MemoryStore(CountingIds(), SetClock())
        self.subscriptions = MemorySubscriptionStore(store)
        self.worker = Worker([], self.subscriptions, SystemClock(), Backoff(lambda: 0.0), "w")
        self.bus = MessageBus(
            lambda: MemoryUnitOfWork(store), COMMAND_HANDLERS, CountingIds(), SetClock(), committed=self.worker.wake
        )
        self.bus.handle(CreateBatch("b1", "RED-CHAIR", 100))
        self.subscriptions.join("hook", from_the_beginning=True)

    def order(self, orderid: str) -> None:
        self.bus.handle(Allocate(orderid, "RED-CHAIR", 1))


@pytest.fixture
def shop() -> Iterator[Shop]:
    made = Shop()
    yield made
    made.worker.stop()


def running() -> list[str]:
    return [thread.name for thread in threads() if thread.name == "subscription hook"]


def until_none_runs() -> None:
    for thread in threads():
        if thread.name == "subscription hook":
            thread.join(LONG_SECONDS)
    assert running() == []


def test_one_that_comes_is_delivered_to_at_once(shop: Shop) -> None:
    hook = Destination()
    shop.order("o1")
    shop.worker.deliver_also([hook.subscription])
    assert hook.got.wait(LONG_SECONDS)
    shop.worker.deliver_also([hook.subscription])
    assert running() == ["subscription hook"]
    assert hook.delivered == ["o1"]


def test_what_is_not_named_any_more_ends(shop: Shop) -> None:
    hook = Destination()
    shop.order("o1")
    shop.worker.deliver_also([hook.subscription])
    assert hook.got.wait(LONG_SECONDS)
    [thread] = [thread for thread in threads() if thread.name == "subscription hook"]
    shop.worker.deliver_also([])
    thread.join(LONG_SECONDS)
    assert not thread.is_alive()


def test_one_that_takes_the_place_of_another_waits_for_its_delivery(shop: Shop) -> None:
    old, new = Destination(), Destination()
    old.opens.clear()
    shop.order("o1")
    shop.worker.deliver_also([old.subscription])
    assert old.began.wait(LONG_SECONDS)
    shop.worker.deliver_also([new.subscription])
    assert running() == ["subscription hook"]
    old.opens.set()
    until_none_runs()
    shop.order("o2")
    shop.worker.deliver_also([new.subscription])
    assert new.got.wait(LONG_SECONDS)
    assert (old.delivered, new.delivered) == (["o1"], ["o2"])


def test_one_that_was_removed_in_the_middle_does_no_harm(shop: Shop) -> None:
    hook = Destination()
    hook.opens.clear()
    shop.order("o1")
    shop.worker.deliver_also([hook.subscription])
    assert hook.began.wait(LONG_SECONDS)
    shop.subscriptions.forget("hook")
    shop.worker.deliver_also([])
    hook.opens.set()
    until_none_runs()
    assert shop.subscriptions.cursors() == []


def test_the_others_go_on_when_one_was_removed_in_the_middle(shop: Shop) -> None:
    """Its lease is nobody's any more: counted still, it would be the one too many, and another would be given back."""
    hook, other = Destination(), Destination("other")
    hook.opens.clear()
    shop.subscriptions.join("other", from_the_beginning=True)
    shop.order("o1")
    shop.worker.deliver_also([hook.subscription, other.subscription])
    assert hook.began.wait(LONG_SECONDS)
    assert other.got.wait(LONG_SECONDS)
    shop.subscriptions.forget("hook")
    shop.worker.deliver_also([other.subscription])
    hook.opens.set()
    until_none_runs()
    other.got.clear()
    shop.order("o2")
    assert other.got.wait(LONG_SECONDS)
    assert other.delivered == ["o1", "o2"]
