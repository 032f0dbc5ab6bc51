"""The book's flow over the brokers that are Redis' channels and plain memory: a quantity change comes in, the
reallocation goes out. (The others have theirs where they are tested.)"""

import uuid
from queue import Queue
from typing import Any

from allocation.adapters.brokers import registry
from allocation.adapters.brokers.memory import _topics
from allocation.adapters.brokers.redis_pubsub import BOOK_CHANNEL, connect
from allocation.bootstrap import Application
from allocation.domain.commands import Allocate, CreateBatch
from allocation.service_layer.broker import COMMANDS, FACTS, Message
from tests.fakes import NOON
from tests.integration.conftest import Start
from tests.integration.serving import serving
from tests.integration.test_reactions import CHAIR, LONG_SECONDS, listener, wait_until  # noqa: F401  # a fixture

MOVED = [
    ("allocation.Deallocated", "sooner"),
    ("allocation.BatchQuantityChanged", None),
    ("allocation.Allocated", "later"),
]


def promise_fifteen_chairs(application: Application) -> None:
    application.bus.handle(CreateBatch("sooner", CHAIR, 20))
    application.bus.handle(CreateBatch("later", CHAIR, 50, NOON.date()))
    application.bus.handle(Allocate("o1", CHAIR, 15))


def test_over_the_broker_in_memory(start: Start, sqlite_url: str) -> None:
    url, namespace = "memory:", f"t{uuid.uuid4().hex[:12]}"
    application = start(sqlite_url, publish_to=url, receive_from=url, namespace=namespace)
    [publisher] = registry.publishers(url, namespace).values()
    application.worker.start()
    with serving(application):
        promise_fifteen_chairs(application)
        change = {"ref": "sooner", "qty": 5}
        publisher.publish(COMMANDS, [Message("c1", "allocation.ChangeBatchQuantity", CHAIR, NOON, change)])
        topic = f"{url} {namespace} {FACTS}"  # there from the first that is published
        wait_until(lambda: topic in _topics and len(_topics[topic].kept) == 6)
    facts = _topics[topic].kept.values()
    told = [(fact.message.type, getattr(fact.message.data, "batchref", None)) for fact in facts]
    assert told[3:] == MOVED


def test_over_the_channels_of_the_book(
    start: Start,
    sqlite_url: str,
    redis_url: str,
    listener: "Queue[dict[str, Any]]",  # noqa: F811  # the fixture
) -> None:
    by_pubsub = redis_url.replace(":", "+pubsub:", 1)
    application = start(sqlite_url, redis_url=redis_url, receive_from=by_pubsub)
    application.worker.start()
    with serving(application):
        wait_until(lambda: bool(dict(connect(redis_url).pubsub_numsub(BOOK_CHANNEL))[BOOK_CHANNEL.encode()]))
        promise_fifteen_chairs(application)
        first = listener.get(timeout=LONG_SECONDS)
        connect(redis_url).publish(BOOK_CHANNEL, '{"batchref": "sooner", "qty": 5}')
        second = listener.get(timeout=LONG_SECONDS)
        assert [(one["orderid"], one["batchref"]) for one in (first, second)] == [("o1", "sooner"), ("o1", "later")]
        connect(redis_url).publish(BOOK_CHANNEL, "the last word, to wake it")
