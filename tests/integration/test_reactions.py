"""After the commit: programs hear of it over Redis, people by mail. Real Redis, a real SMTP server."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from email import message_from_bytes
from email.message import Message
from queue import Queue
from threading import Event as Flag
from threading import Thread
from typing import Any

import msgspec
import pytest
from aiosmtpd.controller import Controller

from allocation.adapters.brokers.redis_pubsub import BOOK_CHANNEL, RedisSubscriber, connect
from allocation.adapters.notifications import SmtpNotifications
from allocation.bootstrap import Application, bootstrap, receivers_of
from allocation.config import load_settings
from allocation.domain.commands import Allocate, CreateBatch
from allocation.entrypoints.consumer import serve_all
from tests.servers.process import LOOPBACK, free_port

CHAIR = "RED-CHAIR"
LONG_SECONDS = 20.0


class Postbox:
    """What a mail server was handed; `refuse` makes it refuse for good."""

    def __init__(self) -> None:
        self.mails: Queue[Message] = Queue()
        self.refuse = False

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802  # aiosmtpd's name
        if self.refuse:
            return "554 no such thing here"
        self.mails.put(message_from_bytes(envelope.content))
        return "250 kept"


@pytest.fixture
def postbox() -> Postbox:
    return Postbox()


@pytest.fixture
def smtp_url(postbox: Postbox) -> Iterator[str]:
    controller = Controller(postbox, hostname=LOOPBACK, port=free_port())
    controller.start()
    yield f"smtp://{LOOPBACK}:{controller.port}"
    controller.stop()


StartWorker = Callable[..., Application]


@pytest.fixture
def start_worker(database_url: str) -> Iterator[StartWorker]:
    """An application with its worker running; arguments are settings."""
    applications: list[Application] = []

    def start(**settings: object) -> Application:
        application = bootstrap(load_settings(database_url=database_url, **settings))
        application.worker.start()
        applications.append(application)
        return application

    yield start
    for application in applications:
        application.close()


@pytest.fixture
def listener(redis_url: str) -> Iterator["Queue[dict[str, Any]]"]:
    """Hears `line_allocated`."""
    heard: Queue[dict[str, Any]] = Queue()
    subscriber, stopping, ready = RedisSubscriber(connect(redis_url), "line_allocated", "ready"), Flag(), Flag()

    def listen() -> None:
        while not stopping.is_set():
            for data in subscriber.receive(0.05):
                if data == b"ready":
                    ready.set()
                else:
                    heard.put(msgspec.json.decode(data))

    thread = Thread(target=listen)
    thread.start()
    while not ready.wait(0.02):
        connect(redis_url).publish("ready", "ready")
    yield heard
    stopping.set()
    thread.join()


def test_a_line_that_is_allocated_is_told_on_the_channel(
    start_worker: StartWorker, redis_url: str, listener: "Queue[dict[str, Any]]"
) -> None:
    application = start_worker(redis_url=redis_url)
    application.bus.handle(CreateBatch("b1", CHAIR, 10))
    answer = application.bus.ask(application.bus.envelope(Allocate("o1", CHAIR, 3)))
    message = listener.get(timeout=LONG_SECONDS)
    assert {name: message[name] for name in ("orderid", "sku", "qty", "batchref")} == {
        "orderid": "o1",
        "sku": CHAIR,
        "qty": 3,
        "batchref": "b1",
    }
    logged = application.views.events((), 10).events[-1]
    assert (message["id"], message["version"], message["position"]) == (logged.id, 2, str(answer.position))


def test_the_buyers_are_told_once_that_somebody_waits(
    start_worker: StartWorker, smtp_url: str, postbox: Postbox
) -> None:
    application = start_worker(smtp_url=smtp_url)
    application.bus.handle(CreateBatch("b1", CHAIR, 1))
    application.bus.handle(Allocate("o1", CHAIR, 3))
    mail = postbox.mails.get(timeout=LONG_SECONDS)
    logged = application.views.events((), 10).events[-1]
    assert (mail["To"], mail["Subject"]) == ("stock@made.com", f"Out of stock: {CHAIR}")
    assert mail["Message-ID"] == f"<{logged.id}@made.com>"
    assert "allocation stock RED-CHAIR" in mail.get_payload()


def test_a_mail_server_that_refuses_opens_a_lane_and_harms_nobody_else(
    start_worker: StartWorker, smtp_url: str, postbox: Postbox, redis_url: str, listener: "Queue[dict[str, Any]]"
) -> None:
    postbox.refuse = True
    application = start_worker(smtp_url=smtp_url, redis_url=redis_url)
    application.bus.handle(CreateBatch("b1", CHAIR, 1))
    application.bus.handle(Allocate("waits", CHAIR, 3))
    application.bus.handle(Allocate("o1", CHAIR, 1))
    assert listener.get(timeout=LONG_SECONDS)["orderid"] == "o1"
    while not (lanes := application.subscriptions.lanes()):
        application.worker.wake()
    assert (lanes[0].key, lanes[0].attempts) == (CHAIR, 1)
    assert "no such thing here" in lanes[0].reason
    postbox.refuse = False
    application.subscriptions.set_due(lanes[0].subscription, CHAIR)
    application.worker.wake()
    assert postbox.mails.get(timeout=LONG_SECONDS)["Subject"] == f"Out of stock: {CHAIR}"


def test_a_mail_server_that_is_away_is_waited_for(start_worker: StartWorker, postbox: Postbox) -> None:
    port = free_port()
    application = start_worker(smtp_url=f"smtp://{LOOPBACK}:{port}")
    application.bus.handle(CreateBatch("b1", CHAIR, 1))
    application.bus.handle(Allocate("waits", CHAIR, 3))
    controller = Controller(postbox, hostname=LOOPBACK, port=port)
    controller.start()
    try:
        assert postbox.mails.get(timeout=LONG_SECONDS)["Subject"] == f"Out of stock: {CHAIR}"
        assert application.subscriptions.lanes() == []
    finally:
        controller.stop()


def test_a_mail_that_was_taken_is_not_sent_again_whatever_the_server_says_then(
    smtp_url: str, postbox: Postbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def grumpy(_self: Any, _server: Any, _session: Any, _envelope: Any) -> str:
        return "421 not now"

    monkeypatch.setattr(Postbox, "handle_QUIT", grumpy, raising=False)
    SmtpNotifications(smtp_url, "shop@example.org").send("anna@example.org", "Out of stock", "all gone", "m-1")
    assert postbox.mails.get(timeout=LONG_SECONDS)["Subject"] == "Out of stock"


@pytest.fixture
def consumer(application: Application, redis_url: str) -> Iterator[Application]:
    """An application behind the pub/sub entry, listening."""
    stopping = Flag()
    by_pubsub = application.settings.model_copy(update={"receive_from": redis_url.replace(":", "+pubsub:", 1)})
    receivers = receivers_of(replace(application, settings=by_pubsub))
    thread = Thread(target=serve_all, args=(application, receivers, stopping))
    thread.start()
    while not dict(connect(redis_url).pubsub_numsub(BOOK_CHANNEL))[BOOK_CHANNEL.encode()]:
        pass
    yield application
    stopping.set()
    connect(redis_url).publish(BOOK_CHANNEL, "the last word, to wake it")
    thread.join()


def wait_until(true: Callable[[], bool]) -> None:
    waited = Flag()
    for _ in range(1000):
        if true():
            return
        waited.wait(0.02)
    raise AssertionError("it did not come true")


def test_a_quantity_change_comes_in_by_the_channel(consumer: Application, redis_url: str) -> None:
    consumer.bus.handle(CreateBatch("b1", CHAIR, 10))
    consumer.bus.handle(Allocate("o1", CHAIR, 8))
    connect(redis_url).publish(BOOK_CHANNEL, '{"batchref": "b1", "qty": 5}')
    wait_until(lambda: [line.status for line in consumer.views.order("o1")] == ["waiting"])


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("{not json", "JSON"),
        ('{"batchref": "b1"}', "qty"),
        ('{"batchref": "nowhere", "qty": 5}', "There is no batch nowhere"),
        ('{"batchref": "b1", "qty": "5"}', "qty"),
        ('{"batchref": "b1", "qty": -5}', "qty"),
        ('{"batchref": "b\\u0000", "qty": 5}', "batchref"),
        (b"\xff\xfe\x00", "JSON"),
        ("[]", "message"),
    ],
)
def test_a_message_that_cannot_be_handled_is_parked_and_the_next_is_served(
    consumer: Application, redis_url: str, message: str | bytes, reason: str
) -> None:
    consumer.bus.handle(CreateBatch("b1", CHAIR, 10))
    connect(redis_url).publish(BOOK_CHANNEL, message)
    connect(redis_url).publish(BOOK_CHANNEL, '{"batchref": "b1", "qty": 7}')
    wait_until(lambda: (batch := consumer.views.batch("b1")) is not None and batch.qty == 7)
    wait_until(lambda: len(consumer.dead_letters.newest()) > 0)  # of one page the good are answered first
    [letter] = consumer.dead_letters.newest()
    assert reason in letter.reason
    assert letter.source == "redis change_batch_quantity"


def test_a_message_with_an_id_is_done_once(consumer: Application, redis_url: str) -> None:
    consumer.bus.handle(CreateBatch("b1", CHAIR, 10))
    for qty in (7, 8):
        connect(redis_url).publish(BOOK_CHANNEL, f'{{"batchref": "b1", "qty": {qty}, "id": "m-{qty}"}}')
    connect(redis_url).publish(BOOK_CHANNEL, '{"batchref": "b1", "qty": 7, "id": "m-7"}')
    connect(redis_url).publish(BOOK_CHANNEL, '{"batchref": "b1", "qty": 9, "id": "m-9"}')
    wait_until(lambda: (batch := consumer.views.batch("b1")) is not None and batch.qty == 9)
    changes = [e.event.qty for e in consumer.views.events((), 10).events[1:]]  # type: ignore[union-attr]  # all of them have one
    assert changes == [7, 8, 9]
