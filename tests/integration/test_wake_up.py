"""A commit in one process wakes the worker in another, by Redis: a hint that may be lost, and harms nobody then."""

from queue import Queue
from threading import Event as Flag

import pytest

from allocation.adapters.brokers.redis_pubsub import connect
from allocation.adapters.brokers.redis_wake_up import RedisWakeUp
from allocation.bootstrap import bootstrap
from allocation.config import load_settings
from allocation.domain.commands import CreateBatch
from allocation.service_layer import worker
from tests.servers.redis import PrivateRedis

PATIENCE_SECONDS = 20.0


def listening(url: str) -> tuple[RedisWakeUp, Flag]:
    heard = Flag()
    wake_up = RedisWakeUp(url, "test")
    wake_up.listen(heard.set)
    while not dict(connect(url).pubsub_numsub("test:wake-up"))[b"test:wake-up"]:
        pass
    return wake_up, heard


def test_a_ring_is_heard_by_another_process(redis_url: str) -> None:
    listener, heard = listening(redis_url)
    ringer = RedisWakeUp(redis_url, "test")
    ringer.ring()
    assert heard.wait(PATIENCE_SECONDS)
    for wake_up in (ringer, listener):
        wake_up.close()


def test_a_ring_while_redis_is_away_costs_nothing_and_raises_nothing() -> None:
    with PrivateRedis() as server:
        wake_up = RedisWakeUp(server.url, "test")
        server.kill()
        for _ in range(100):
            wake_up.ring()
        wake_up.close()


def test_a_worker_on_postgres_delivers_on_the_ring_of_another_process(
    postgres_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "LONGEST_WAIT_SECONDS", 3600.0)
    monkeypatch.setattr(worker, "SHORTEST_WAIT_SECONDS", 3600.0)
    settings = load_settings(database_url=postgres_url, redis_url=redis_url)
    delivering, serving = bootstrap(settings), bootstrap(settings)
    told: Queue[bytes] = Queue()
    pubsub = connect(redis_url).pubsub()
    pubsub.subscribe(**{"allocation:wake-up": lambda message: told.put(message["data"])})
    delivering.worker.start()
    try:
        channel = "allocation:wake-up"
        while dict(connect(redis_url).pubsub_numsub(channel))[channel.encode()] < 2:
            pubsub.get_message(timeout=0.01)
        serving.bus.handle(CreateBatch("b1", "RED-CHAIR", 10))
        waited = Flag()
        for _ in range(1000):
            if delivering.views.stock([], 1).levels:
                break
            waited.wait(0.02)
        assert [level.sku for level in delivering.views.stock([], 1).levels] == ["RED-CHAIR"]
    finally:
        pubsub.close()
        serving.close()
        delivering.close()
