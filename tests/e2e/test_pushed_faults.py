"""Receivers of webhooks with faults, defined by users and run by the worker: each as specified, the others unharmed.

The clock is the tests': an hour of the schedule passes in no time, and nothing is tried before it is due.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from threading import Event

import pytest

from allocation.adapters.clock import SystemTimer
from allocation.bootstrap import Application, bootstrap, push_of
from allocation.config import Settings
from allocation.domain.commands import Allocate, CreateBatch
from allocation.entrypoints.flask_app import create_app
from allocation.service_layer.broker import Message
from allocation.service_layer.pushing import Push, Sink
from allocation.service_layer.waiting import wait_until
from tests.e2e.conforming import ConformingClient
from tests.fakes import SetClock
from tests.servers.process import LOOPBACK
from tests.servers.webhook import Reply, Request, WebhookReceiver

CHAIR, TABLE = "RED-CHAIR", "SMALL-TABLE"
MOST_JITTER = 1.5
ANSWER_SECONDS, PATIENCE_SECONDS = 0.5, 10.0


class Hasty(Push):
    """Gives no sink more than `ANSWER_SECONDS`."""

    def __init__(self, push: Push) -> None:
        self._push = push

    def check(self, sink: Sink) -> None:
        self._push.check(sink)

    def push(self, sink: Sink, messages: Sequence[Message]) -> Sequence[Exception | None]:
        return self._push.push(replace(sink, answer_seconds=ANSWER_SECONDS), messages)

    def forget(self, sink: Sink) -> None:
        self._push.forget(sink)

    def finish(self) -> None:
        self._push.finish()

    def close(self) -> None:
        self._push.close()


class Shop:
    """A shop whose worker runs, with two subscriptions: to a receiver that is the test's, and to one that is well."""

    def __init__(self, faulty: WebhookReceiver, well: WebhookReceiver) -> None:
        self.faulty, self.well = faulty, well
        self.answers: Callable[[Request], Reply] = lambda request: Reply()
        self.acknowledged: list[Request] = []
        faulty.answers = self._answer
        self.clock = SetClock(datetime.now(UTC))
        settings = Settings(database_url="memory:", push_to_private=LOOPBACK)
        push = Hasty(push_of(settings, self.clock, SystemTimer()))
        self.application: Application = bootstrap(settings, clock=self.clock, push=push)
        self.client = ConformingClient(create_app(self.application).test_client())
        for sku in (CHAIR, TABLE):
            self.application.bus.handle(CreateBatch(f"batch-of-{sku}", sku, 1000))
        for name, receiver in (("faulty", faulty), ("well", well)):
            wanted = {"delivery": "push", "sink": {"url": receiver.url}}
            assert self.client.put(f"/v1/subscriptions/{name}", json=wanted).status_code == 201
        self.application.worker.start()
        self.application.pushers.start()

    def _answer(self, request: Request) -> Reply:
        reply = self.answers(request)
        if reply.status == 204 and reply.after is None:
            self.acknowledged.append(request)
        return reply

    def order(self, orderid: str, sku: str = CHAIR) -> None:
        """One is ordered, and the receiver that is well hears of it at once."""
        self.application.bus.handle(Allocate(orderid, sku, 1))
        assert self.well.wait_for(lambda: orderid in orders(self.well.posts())), "the other subscription was harmed"

    def later(self, seconds: float) -> None:
        self.clock.step(seconds)
        self.application.worker.wake()

    def comes_to(self, *lanes: tuple[str, int, bool]) -> bool:
        """Whether these become the lanes of the faulty one: sku, attempts, whether it is parked."""

        def so() -> bool:
            there = self.application.subscriptions.lanes("faulty")
            return sorted((lane.key, lane.attempts, lane.due_at is None) for lane in there) == sorted(lanes)

        return wait_until(so, SystemTimer(), PATIENCE_SECONDS)

    def hears(self, *orderids: str) -> bool:
        """Whether the faulty one acknowledges these, in this order, each once."""
        return self.faulty.wait_for(lambda: orders(self.acknowledged) == list(orderids))

    def close(self) -> None:
        self.application.close()


def orders(requests: Sequence[Request]) -> list[str]:
    told = [event["data"] for request in requests for event in request.events()]
    return [data["orderid"] for data in told if "orderid" in data]


@pytest.fixture
def shop() -> Iterator[Shop]:
    with WebhookReceiver() as faulty, WebhookReceiver() as well:
        made = Shop(faulty, well)
        yield made
        made.close()


def test_one_that_fails_three_times_is_tried_again_by_the_schedule(shop: Shop) -> None:
    fails = [Reply(500), Reply(404), Reply(500)]
    shop.answers = lambda request: fails.pop(0) if fails and CHAIR in request.body.decode() else Reply()
    shop.order("c1")
    assert shop.comes_to((CHAIR, 1, False))
    shop.order("t1", TABLE)
    shop.order("c2")
    assert shop.hears("t1")
    for attempts, pause_seconds in ((2, 10), (3, 30)):
        shop.later(pause_seconds * MOST_JITTER)
        assert shop.comes_to((CHAIR, attempts, False))
    shop.later(60 * MOST_JITTER)
    assert shop.hears("t1", "c1", "c2")
    assert shop.comes_to()


def test_one_that_is_slow_holds_up_the_sku_and_no_other(shop: Shop) -> None:
    done = Event()
    slow = [Reply(after=done)]
    shop.answers = lambda request: slow.pop(0) if slow and CHAIR in request.body.decode() else Reply()
    shop.order("c1")
    shop.order("t1", TABLE)
    assert shop.comes_to((CHAIR, 1, False))
    assert shop.hears("t1")
    done.set()
    shop.later(10 * MOST_JITTER)
    assert shop.hears("t1", "c1")
    assert shop.comes_to()


def test_one_that_redirects_is_not_followed(shop: Shop) -> None:
    with WebhookReceiver() as elsewhere:
        moved = [Reply(307, {"Location": elsewhere.url})]
        shop.answers = lambda request: moved.pop(0) if moved else Reply()
        shop.order("c1")
        assert shop.comes_to((CHAIR, 1, False))
        shop.later(10 * MOST_JITTER)
        assert shop.hears("c1")
        assert elsewhere.requests == []


def test_one_that_is_gone_is_stopped(shop: Shop) -> None:
    shop.answers = lambda request: Reply(410)
    shop.order("c1")

    def stopped() -> bool:
        return shop.client.get("/v1/subscriptions/faulty").json["stopped"] is not None

    assert wait_until(stopped, SystemTimer(), PATIENCE_SECONDS)
    shop.later(86_400)
    shop.order("c2")
    assert orders(shop.faulty.posts()) == ["c1"]


def test_one_that_disappears_is_waited_for_and_misses_nothing(shop: Shop) -> None:
    shop.order("c1")
    assert shop.hears("c1")
    shop.faulty.stop()
    for orderid, sku in (("c2", CHAIR), ("t1", TABLE), ("c3", CHAIR)):
        shop.order(orderid, sku)
    shop.later(10 * MOST_JITTER)
    shop.order("c4")
    shop.faulty.start()
    for _ in range(3):  # it is tried again after 10, 30 and 60 seconds, at the latest
        shop.later(60 * MOST_JITTER)
    assert shop.faulty.wait_for(lambda: len(orders(shop.acknowledged)) == 5)
    heard = orders(shop.acknowledged)
    assert [orderid for orderid in heard if orderid.startswith("c")] == ["c1", "c2", "c3", "c4"]
    assert shop.comes_to()


def test_one_that_asks_for_a_pause_has_it(shop: Shop) -> None:
    busy = [Reply(429, {"Retry-After": "120"})]
    shop.answers = lambda request: busy.pop(0) if busy else Reply()
    shop.order("c1")
    assert shop.faulty.wait_for(lambda: len(shop.faulty.posts()) == 1)
    shop.later(10 * MOST_JITTER)
    shop.order("c2")
    assert len(shop.faulty.posts()) == 1
    shop.later(120)
    assert shop.hears("c1", "c2")
    assert shop.comes_to()
