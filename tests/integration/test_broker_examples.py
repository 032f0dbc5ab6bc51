"""The commands that docs/brokers.md shows to those who send from outside are taken in as it says."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from threading import Event as Flag
from time import monotonic
from zlib import crc32

import pytest
import redis

from allocation.adapters.brokers.redis_pubsub import RedisPubSubReceiver
from allocation.bootstrap import Application, bootstrap, receivers_of
from allocation.config import load_settings
from allocation.domain.commands import CreateBatch
from allocation.entrypoints.consumer import Consumer
from allocation.service_layer.answers import Promise
from allocation.service_layer.broker import Receiver

PAGE = Path(__file__).parents[2] / "docs" / "brokers.md"
CHAIR = "RED-CHAIR"
LONG_SECONDS = 20.0


def shown(heading: str) -> list[list[str]]:
    """The arguments of each redis-cli below a heading, as a shell reads them."""
    [section] = re.findall(rf"^## {heading}\n(.*?)^## ", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    [block] = re.findall(r"^```sh\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)
    words = shlex.split(block)
    starts = [n for n, word in enumerate(words) if word == "redis-cli"]
    return [words[begin + 1 : end] for begin, end in zip(starts, [*starts[1:], len(words)], strict=True)]


@pytest.fixture
def start() -> Iterator[list[Application]]:
    made: list[Application] = []
    yield made
    for application in made:
        application.close()


def serving(made: list[Application], url: str) -> tuple[Application, Receiver]:
    application = bootstrap(load_settings(database_url="memory:", receive_from=url))
    made.append(application)
    application.bus.handle(CreateBatch("batch-1", CHAIR, 10))
    [receiver] = receivers_of(application).values()
    return application, receiver


def send(redis_url: str, commands: list[list[str]]) -> None:
    with redis.Redis.from_url(redis_url) as client:
        for command in commands:
            client.execute_command(*command)


def serve_until_promised(application: Application, receiver: Receiver) -> Promise:
    consumer, deadline = Consumer(application, receiver, Flag()), monotonic() + LONG_SECONDS
    while monotonic() < deadline:
        consumer.serve(0.5)
        assert application.dead_letters.newest() == []
        if promise := application.views.line("order-1", CHAIR):
            return promise
    raise AssertionError("the order never came")


def test_an_order_comes_in_by_a_stream_as_the_page_shows(redis_url: str, start: list[Application]) -> None:
    application, receiver = serving(start, redis_url.replace("redis:", "redis+streams:", 1))
    [order] = commands = shown("Redis Streams")
    assert order[1] == f"allocation:commands:{crc32(CHAIR.encode()) % 4}"
    with closing(receiver):
        send(redis_url, commands)
        assert serve_until_promised(application, receiver).batchref == "batch-1"


def test_an_order_and_a_quantity_come_in_by_pubsub_as_the_page_shows(redis_url: str, start: list[Application]) -> None:
    application, receiver = serving(start, redis_url.replace("redis:", "redis+pubsub:", 1))
    assert isinstance(receiver, RedisPubSubReceiver)
    order, change = shown("Redis pub/sub")
    with closing(receiver):
        while not receiver.is_subscribed():
            assert receiver.receive(1, 0.1) == []
        send(redis_url, [order])
        assert serve_until_promised(application, receiver).batchref == "batch-1"
        send(redis_url, [change])
        consumer, deadline = Consumer(application, receiver, Flag()), monotonic() + LONG_SECONDS
        while (batch := application.views.batch("batch-1")) and batch.qty != 1 and monotonic() < deadline:
            consumer.serve(0.5)
        assert batch is not None
        assert batch.qty == 1
        assert application.dead_letters.newest() == []
