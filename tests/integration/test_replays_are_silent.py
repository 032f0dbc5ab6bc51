"""Whoever asks the past, or imagines something, tells nobody outside and changes nothing here."""

from collections.abc import Iterator, Mapping
from datetime import date
from typing import Any

import pytest
from sqlalchemy import create_engine, select

from allocation.adapters.sql.tables import metadata
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
from allocation.service_layer.envelope import LogPosition
from allocation.service_layer.history.audit import history_of_batch, history_of_order, history_of_product
from allocation.service_layer.history.explain import explain
from allocation.service_layer.history.trace import trace
from allocation.service_layer.history.what_if import products_named
from allocation.service_layer.ports import Channel, Notifications
from allocation.views import PastViews

CHAIR = "RED-CHAIR"


class Outside(Notifications, Channel):
    """Counts what reaches the world."""

    def __init__(self) -> None:
        self.mails: list[str] = []
        self.messages: list[str] = []

    def send(self, destination: str, subject: str, body: str, message_id: str) -> None:
        self.mails.append(message_id)

    def publish(self, name: str, message: Mapping[str, object]) -> None:
        self.messages.append(str(message["id"]))

    def count(self) -> tuple[int, int]:
        return len(self.mails), len(self.messages)


@pytest.fixture
def outside() -> Outside:
    return Outside()


@pytest.fixture
def application(database_url: str, outside: Outside) -> Iterator[Application]:
    """A shop whose worker has told of everything, and then was stopped."""
    app = bootstrap(load_settings(database_url=database_url), notifications=outside, channel=outside)
    app.worker.start()
    for command in (
        CreateBatch("b1", CHAIR, 10),
        *(Allocate(f"o{n}", CHAIR, 3) for n in range(6)),
        ChangeBatchQuantity("b1", 4),
        CreateBatch("b2", CHAIR, 9, date(2031, 5, 1)),
        Deallocate("o0", CHAIR),
    ):
        app.bus.handle(command)
    [head] = app.history.now().heads
    while any(cursor.seq < head for cursor in app.subscriptions.cursors()):
        app.worker.wake()
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
        assert history_of_order(history, orderid)
        assert explain(history, orderid, CHAIR)
    [first, *_] = history_of_product(history, CHAIR, 0, 99)
    assert history_of_batch(history, "b1", 0, 99)
    assert first.command is not None
    assert trace(history, application.subscriptions, {}, first.command.envelope.correlation_id)
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
