"""The cache in a real Redis: emptied, killed, restarted, turned back. Readers never notice but by the time it takes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from itertools import count

import pytest
import redis
from click.testing import CliRunner
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from allocation.adapters.redis_cache import RedisCache, connect
from allocation.bootstrap import Application
from allocation.domain.commands import Allocate, ChangeBatchQuantity, CreateBatch, Deallocate
from allocation.entrypoints.cli import main
from allocation.service_layer.errors import Unavailable
from tests.cache_machine import CacheMachine
from tests.caches import RedisTurnBack, TurnBack
from tests.fakes import CountingIds, SetTimer
from tests.integration.conftest import Start
from tests.integration.damage import execute
from tests.integration.test_reactions import wait_until
from tests.servers.process import LOOPBACK, free_port
from tests.servers.redis import PrivateRedis
from tests.thoroughness import examples

CHAIR = "RED-CHAIR"


def test_whatever_happens_no_answer_is_older_than_its_reader_was_told(redis_url: str) -> None:
    client, numbers = redis.Redis.from_url(redis_url), count()

    class CacheInRedis(CacheMachine):
        def new_cache(self, most_marks: int) -> TurnBack:
            return RedisTurnBack(client, f"example-{next(numbers)}", most_marks)

    run_state_machine_as_test(CacheInRedis, settings=settings(examples(15, steps=30)))  # type: ignore[no-untyped-call]  # untyped in hypothesis


def test_a_redis_that_does_not_answer_is_left_alone_for_a_moment() -> None:
    timer = SetTimer()
    cache = RedisCache(connect(f"redis://{LOOPBACK}:{free_port()}"), "test", CountingIds(), timer)
    for _ in range(2):
        with pytest.raises(Unavailable, match="does not answer"):
            cache.look("order:o1", [0])
        with pytest.raises(Unavailable, match="a moment ago"):
            cache.places([0])
        timer.now += 2


def test_what_redis_refuses_is_told_and_asked_again(redis_url: str) -> None:
    cache = RedisCache(connect(redis_url), "test", CountingIds(), SetTimer())
    redis.Redis.from_url(redis_url).set("{test:cache}:marks:0", "no sorted set")
    for _ in range(2):
        with pytest.raises(Unavailable, match="answered with an error"):
            cache.look("order:o1", [0])


# The whole application


@pytest.fixture(params=["keeps all", "forgets all"])
def private_redis(request: pytest.FixtureRequest) -> Iterator[PrivateRedis]:
    """A Redis to kill: when it comes back it has everything, or nothing."""
    with PrivateRedis(durable=request.param == "keeps all") as server:
        yield server


@pytest.fixture
def durable_redis() -> Iterator[PrivateRedis]:
    with PrivateRedis(durable=True) as server:
        yield server


def cached(start: Start, url: str, server: PrivateRedis) -> Application:
    """An application with its worker running, an order in its cache."""
    application = start(url, cache="redis", redis_url=server.url)
    application.worker.start()
    application.bus.handle(CreateBatch("b1", CHAIR, 10))
    application.bus.handle(Allocate("o1", CHAIR, 4))
    expect_hits(application)
    return application


def expect_hits(application: Application) -> None:
    """The order comes out of the cache, as it is in the database."""

    def hit() -> bool:
        before = application.cache_counters.hits
        application.views.order("o1")
        return application.cache_counters.hits > before

    wait_until(hit)


def reads(application: Application) -> tuple[str | None, int, int]:
    """Where the order's line is, and what is free."""
    lines, product = application.views.order("o1"), application.views.product(CHAIR)
    assert product is not None
    return lines[0].batchref if lines else None, product.available_now, product.version


def test_a_redis_that_is_killed_and_comes_back(start: Start, sqlite_url: str, private_redis: PrivateRedis) -> None:
    application = cached(start, sqlite_url, private_redis)
    assert reads(application) == ("b1", 6, 2)
    private_redis.kill()
    answer = application.bus.ask(application.bus.envelope(ChangeBatchQuantity("b1", 3)))
    assert answer.position is not None
    assert application.views.reached(answer.position)
    assert reads(application) == (None, 3, 5), "out of the database"
    application.bus.handle(ChangeBatchQuantity("b1", 7))
    private_redis.start()
    expect_hits(application)
    assert reads(application) == ("b1", 3, 7)


def test_a_redis_that_is_emptied_under_way(start: Start, sqlite_url: str) -> None:
    with PrivateRedis() as server:
        application = cached(start, sqlite_url, server)
        server.empty()
        application.bus.handle(Deallocate("o1", CHAIR))
        assert reads(application)[0] is None
        application.bus.handle(Allocate("o1", CHAIR, 1))
        expect_hits(application)
        assert reads(application) == ("b1", 9, 5)


def test_a_redis_that_is_restored_from_what_it_was(start: Start, sqlite_url: str, durable_redis: PrivateRedis) -> None:
    """Nothing happens afterwards: only the keeper, which has nothing to tell, can notice."""
    application = cached(start, sqlite_url, durable_redis)
    kept, old = durable_redis.folder / "appendonlydir", durable_redis.folder / "old"
    durable_redis.stop()
    shutil.copytree(kept, old)
    durable_redis.start()
    expect_hits(application)
    position = application.bus.ask(application.bus.envelope(Deallocate("o1", CHAIR))).position
    assert position is not None
    wait_until(lambda: reads(application) == (None, 10, 4))
    durable_redis.stop()
    shutil.rmtree(kept)
    shutil.copytree(old, kept)
    durable_redis.start()
    another = start(sqlite_url, cache="redis", redis_url=durable_redis.url)
    wait_until(lambda: another.views.reached(position))
    assert reads(another) == (None, 10, 4)


def test_after_a_rebuild_what_is_cached_is_read_anew(start: Start, sqlite_url: str, redis_url: str) -> None:
    """The tables were wrong, and so was what was read of them; the repair is no event that anybody hears of."""
    application = start(sqlite_url, cache="redis", redis_url=redis_url)
    application.worker.start()
    application.bus.handle(CreateBatch("b1", CHAIR, 10))
    execute(sqlite_url, "UPDATE batches SET purchased_quantity = 99")

    def wrong_answer_is_cached() -> bool:
        hits = application.cache_counters.hits
        product = application.views.product(CHAIR)
        return product is not None and product.available_now == 99 and application.cache_counters.hits > hits

    wait_until(wrong_answer_is_cached)
    environment = {
        "ALLOCATION_DATABASE_URL": sqlite_url,
        "ALLOCATION_CACHE": "redis",
        "ALLOCATION_REDIS_URL": redis_url,
    }
    told = CliRunner().invoke(main, ["rebuild"], env=environment)
    assert (told.exit_code, "repaired" in told.output) == (0, True), told.output
    product = application.views.product(CHAIR)
    assert product is not None
    assert product.available_now == 10
