"""Whoever asks the past, or imagines something, tells nobody outside and changes nothing here."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date
from typing import Any

import pytest
from sqlalchemy import create_engine, select

from allocation.adapters.addresses import Reachable
from allocation.adapters.brokers.memory import MemoryPublisher
from allocation.adapters.clock import SystemClock, SystemTimer
from allocation.adapters.guarded import Guarded
from allocation.adapters.sql.tables import metadata
from allocation.adapters.webhooks import Webhooks
from allocation.bootstrap import Application, bootstrap, memory_image
from allocation.config import load_settings
from allocation.domain.commands import (
    Allocate,
    ChangeBatchEta,
    ChangeBatchQuantity,
    Command,
    CreateBatch,
    Deallocate,
)
from allocation.service_layer.broker import Message, Publisher
from allocation.service_layer.envelope import LogPosition
from allocation.service_layer.history.explain import explain
from allocation.service_layer.history.steps import history_of_batch, history_of_order, history_of_product
from allocation.service_layer.history.trace import trace
from allocation.service_layer.history.what_if import products_named
from allocation.service_layer.ports import Channel, Notifications
from allocation.service_layer.pushing import Sink
from allocation.service_layer.verify import Walk
from allocation.views import PastViews
from tests.integration.damage import execute
from tests.patience import wait_until
from tests.servers.process import LOOPBACK
from tests.servers.webhook import WebhookReceiver

CHAIR = "RED-CHAIR"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


class Broker(Publisher):
    """Counts what a broker is given; what it is given it hands on, if there is somebody to hand it to."""

    capabilities = MemoryPublisher.capabilities

    def __init__(self, deliver: Callable[[Sequence[Message]], Sequence[Exception | None]] | None = None) -> None:
        self.deliver = deliver
        self.given: list[tuple[str, str]] = []

    def publish(self, topic: str, messages: Sequence[Message]) -> Sequence[Exception | None]:
        self.given += [(topic, message.id) for message in messages]
        return [None] * len(messages) if self.deliver is None else self.deliver(messages)

    def close(self) -> None:
        pass


class Outside(Notifications, Channel):
    """Counts what reaches the world: mails, messages on a channel and at a broker, requests to a webhook."""

    def __init__(self, receiver: WebhookReceiver) -> None:
        self.mails: list[str] = []
        self.messages: list[str] = []
        self.receiver, reachable, timer = receiver, Reachable.of(LOOPBACK), SystemTimer()
        guarded = Guarded(reachable.securely, reachable.plainly, timer)
        self.webhooks = Webhooks(guarded, SystemClock(), timer, "shop.example.com", has_plain_http=True)
        sink = Sink(receiver.url, SECRET)
        self.brokers = {"broker": Broker(), "webhook": Broker(lambda messages: self.webhooks.push(sink, messages))}

    def send(self, destination: str, subject: str, body: str, message_id: str) -> None:
        self.mails.append(message_id)

    def publish(self, name: str, message: Mapping[str, object]) -> None:
        self.messages.append(str(message["id"]))

    def count(self) -> tuple[int, ...]:
        return len(self.mails), len(self.messages), len(self.brokers["broker"].given), len(self.receiver.posts())


@pytest.fixture
def outside() -> Iterator[Outside]:
    with WebhookReceiver() as receiver:
        world = Outside(receiver)
        yield world
        world.webhooks.close()


def start(database_url: str, outside: Outside) -> Application:
    app = bootstrap(
        load_settings(database_url=database_url), notifications=outside, channel=outside, publishers=outside.brokers
    )
    app.worker.start()
    return app


def wait_until_all_is_told(app: Application) -> None:
    wait_until(lambda: not any(cursor.lag_events for cursor in app.subscriptions.cursors()))


@pytest.fixture
def application(database_url: str, outside: Outside) -> Iterator[Application]:
    """A shop whose worker has told of everything, and then was stopped."""
    app = start(database_url, outside)
    for command in (
        CreateBatch("b1", CHAIR, 10),
        *(Allocate(f"o{n}", CHAIR, 3) for n in range(6)),
        ChangeBatchQuantity("b1", 4),
        CreateBatch("b2", CHAIR, 9, date(2031, 5, 1)),
        Deallocate("o0", CHAIR),
    ):
        app.bus.handle(command)
    wait_until_all_is_told(app)
    app.worker.stop()
    yield app
    app.close()


def tables(url: str) -> dict[str, list[tuple[Any, ...]]]:
    engine = create_engine(url)
    with engine.connect() as connection:
        found = {
            table.name: sorted(map(tuple, connection.execute(select(table))), key=str)
            for table in metadata.sorted_tables
        }
    engine.dispose()
    return found


def test_replays_repeat_no_outside_effect_and_move_no_cursor(
    application: Application, outside: Outside, database_url: str
) -> None:
    told, kept = outside.count(), tables(database_url)
    assert min(told) > 0
    assert kept["subscriptions"]
    history = application.history
    [head] = history.now().heads
    for seq in range(head + 1):
        past = PastViews(history, LogPosition(0, seq))
        past.product(CHAIR), past.order("o1"), past.line("o1", CHAIR), past.batch("b1"), list(past.shop())
    for orderid in ("o0", "o5"):
        assert history_of_order(history, orderid, (), 99).steps
        assert explain(history, orderid, CHAIR, 0, 99)
    [first, *_] = history_of_product(history, CHAIR, 0, 99)
    assert history_of_batch(history, "b1", 0, 99)
    assert first.command is not None
    traced = trace(
        history, application.subscriptions, {}, first.command.envelope.correlation_id, application.clock.now()
    )
    assert traced.commands
    imagined: list[Command] = [
        ChangeBatchEta("b2", date(2031, 9, 1)),
        ChangeBatchQuantity("b2", 1),
        Allocate("rush", CHAIR, 300),
        CreateBatch("b3", CHAIR, 400),
    ]
    for at in (None, LogPosition(0, 5)):
        assert application.what_if.of(products_named(history, imagined, history.cut(at)), imagined).changes
    image = memory_image(application)
    assert application.what_if.of(image.products_named(imagined), imagined).changes
    image.catch_up()
    assert outside.count() == told
    assert tables(database_url) == kept


def test_a_rebuild_repeats_no_outside_effect_and_moves_no_cursor(
    application: Application, outside: Outside, database_url: str
) -> None:
    """Nor does it leave anything that a worker would tell later: the next thing told is the next that happens."""
    told, kept = outside.count(), tables(database_url)
    assert min(told) > 0
    damaged = ["products", "batches", "order_lines", "stock_levels", "movements"]
    execute(database_url, *(f"DELETE FROM {table}" for table in damaged))
    rebuilt = [difference for step in Walk(application.books, 1, repair=True).run() for difference in step.differences]
    assert {difference.table for difference in rebuilt} == set(damaged)
    assert all(difference.repaired for difference in rebuilt)
    application.forget_cache()
    while application.audits.read().last is None:
        application.self_audit.step()
    assert outside.count() == told
    after = tables(database_url)
    assert {name: after[name] for name in after if name != "self_audit"} == {
        name: kept[name] for name in kept if name != "self_audit"
    }
    again = start(database_url, outside)
    again.bus.handle(CreateBatch("b3", "SMALL-TABLE", 5))
    wait_until_all_is_told(again)
    again.close()
    mails, messages, published, posted = told
    assert outside.count() == (mails, messages, published + 2, posted + 2)  # the fact, and the stock level
