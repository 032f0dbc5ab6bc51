"""Redis Streams where it hurts: abandoned entries, trimming, zombies, dead and silent connections, lost data."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from threading import Event as Flag
from threading import Thread

import pytest
import redis

from allocation.adapters.brokers import redis_streams, redis_streams_receiver
from allocation.adapters.brokers.redis_client import connect
from allocation.adapters.brokers.redis_pubsub import RedisSubscriber
from allocation.adapters.brokers.redis_streams import Address, RedisStreamsPublisher, Trimmer, shard_of, stream_of
from allocation.adapters.brokers.redis_streams_receiver import RedisStreamsReceiver
from allocation.adapters.cloudevents import structured
from allocation.bootstrap import Application, bootstrap, receivers_of
from allocation.config import load_settings
from allocation.domain.commands import Allocate, CreateBatch
from allocation.entrypoints.consumer import serve_all
from allocation.service_layer.broker import COMMANDS, FACTS, STOCK_LEVEL, Delivery
from allocation.service_layer.errors import SetupError, Unavailable
from tests.contracts.brokers import command, drain, event_in, gather, ids, nothing_comes
from tests.servers.redis import PrivateRedis

CHAIR, TABLE = "RED-CHAIR", "SMALL-TABLE"
LONG_SECONDS = 20.0
ONE_SHARD = "redis+streams://unused/0?shards=1"


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with connect(redis_url) as made:
        yield made


@pytest.fixture
def publisher(redis_url: str) -> Iterator[RedisStreamsPublisher]:
    with closing(RedisStreamsPublisher(connect(redis_url), "shop", Address.of(ONE_SHARD))) as made:
        yield made


Receive = Callable[..., RedisStreamsReceiver]


@pytest.fixture
def receive(redis_url: str) -> Iterator[Receive]:
    """Makes receivers of the one shard; `lease_seconds` is short where a test waits for its end."""
    made: list[RedisStreamsReceiver] = []

    def make(owner: str, lease_seconds: float = 10.0) -> RedisStreamsReceiver:
        made.append(RedisStreamsReceiver(connect(redis_url, 0), "shop", owner, Address.of(ONE_SHARD), lease_seconds))
        return made[-1]

    yield make
    for one in made:
        one.close()


STREAM = stream_of("shop", COMMANDS, 0)


def say(publisher: RedisStreamsPublisher, *numbers: int) -> None:
    assert not any(publisher.publish(COMMANDS, [command(CHAIR, n) for n in numbers]))


def names(*numbers: int) -> list[str]:
    return [f"{CHAIR}-{n}" for n in numbers]


# Abandoned entries


def test_all_that_a_dead_receiver_left_is_taken_over_however_much_it_is(
    publisher: RedisStreamsPublisher, receive: Receive, client: redis.Redis
) -> None:
    count = 2 * redis_streams_receiver.CLAIM_PAGE + 7
    say(publisher, *range(count))
    dead = receive("dead", lease_seconds=0.2)
    assert len(gather(dead, count)) == count
    heir = receive("heir")
    assert ids(gather(heir, count)) == names(*range(count))


def test_what_was_pending_comes_before_what_is_new_and_is_counted(
    publisher: RedisStreamsPublisher, receive: Receive
) -> None:
    say(publisher, 1, 2)
    dead = receive("dead", lease_seconds=0.2)
    gather(dead, 2)
    say(publisher, 3)
    deliveries = gather(receive("heir"), 3)
    assert ids(deliveries) == names(1, 2, 3)
    assert [d.attempts for d in deliveries] == [2, 2, 1]


def test_an_entry_that_somebody_trimmed_before_it_was_settled_is_told_and_stops_nobody(
    publisher: RedisStreamsPublisher, receive: Receive, client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    say(publisher, 1, 2)
    dead = receive("dead", lease_seconds=0.2)
    lost, _ = gather(dead, 2)
    client.xdel(STREAM, lost.id)
    assert ids(gather(receive("heir"), 1)) == names(2)
    assert lost.id in caplog.text


def test_what_is_released_keeps_its_order_however_it_is_released(
    publisher: RedisStreamsPublisher, receive: Receive
) -> None:
    receiver = receive("one")
    say(publisher, *range(4))
    for delivery in reversed(gather(receiver, 4)):
        receiver.release([delivery])
    assert ids(gather(receiver, 4)) == names(0, 1, 2, 3)


# Zombies


def test_a_receiver_that_slept_through_its_lease_reads_nothing_past_its_successor(
    publisher: RedisStreamsPublisher, receive: Receive, client: redis.Redis
) -> None:
    say(publisher, 1, 2)
    zombie = receive("zombie", lease_seconds=0.2)
    in_hand = gather(zombie, 2)
    heir = receive("heir")
    assert ids(gather(heir, 2)) == names(1, 2)
    say(publisher, 3)
    zombie._renew_at = time.monotonic() + LONG_SECONDS  # it has just asked, and fell asleep before it read on
    assert list(zombie.receive(10, 0.0)) == []
    zombie.release(in_hand)
    assert nothing_comes(zombie)
    assert ids(gather(heir, 1)) == names(3)


def test_a_late_acknowledgement_of_a_zombie_harms_nobody(
    publisher: RedisStreamsPublisher, receive: Receive, client: redis.Redis
) -> None:
    say(publisher, 1)
    zombie = receive("zombie", lease_seconds=0.2)
    in_hand = gather(zombie, 1)
    heir = receive("heir")
    again = gather(heir, 1)
    zombie.accept(in_hand)
    heir.accept(again)
    assert client.xpending(STREAM, "shop")["pending"] == 0


def test_what_a_zombie_publishes_late_is_not_appended_again(
    publisher: RedisStreamsPublisher, redis_url: str, client: redis.Redis
) -> None:
    said = [command(CHAIR, n, version=n) for n in range(1, 6)]
    publisher.publish(FACTS, said)
    with closing(RedisStreamsPublisher(connect(redis_url), "shop", Address.of(ONE_SHARD))) as zombie:
        assert list(zombie.publish(FACTS, said[1:4])) == [None] * 3
    assert client.xlen(stream_of("shop", FACTS, 0)) == 5


# Publishing


def test_versions_that_were_lost_are_taken_when_they_are_said_again_and_no_others(
    publisher: RedisStreamsPublisher, client: redis.Redis
) -> None:
    said = {n: command(CHAIR, n, version=n) for n in range(1, 10)}
    for pages in ([5, 6], [9], [1, 2], [2, 3], [4, 5, 6], [7, 8, 9], [1, 9]):
        assert not any(publisher.publish(FACTS, [said[n] for n in pages]))
    entries = client.xrange(stream_of("shop", FACTS, 0))
    told = [event_in(Delivery(fields[b"event"], "", "")).id for _, fields in entries]
    assert told == names(5, 6, 9, 7, 8)


def test_of_what_is_not_gapless_only_the_newest_is_taken(publisher: RedisStreamsPublisher, client: redis.Redis) -> None:
    for version in (3, 7, 5, 7, 9):
        assert not any(publisher.publish(STOCK_LEVEL, [command(CHAIR, version, version=version)]))
    assert client.xlen(stream_of("shop", STOCK_LEVEL, 0)) == 3


def test_a_stream_that_takes_nothing_fails_its_shard_from_there_on_and_no_other(redis_url: str) -> None:
    address = Address.of("redis+streams://unused/0?shards=2")
    here = [f"SKU-{n}" for n in range(20) if shard_of(f"SKU-{n}", 2) == 0][:2]
    there = next(f"SKU-{n}" for n in range(20) if shard_of(f"SKU-{n}", 2) == 1)
    with connect(redis_url) as client, closing(RedisStreamsPublisher(connect(redis_url), "shop", address)) as publisher:
        client.set(stream_of("shop", FACTS, 0), "no stream")
        said = [command(key, 1, version=1) for key in (here[0], there, here[1])]
        outcomes = publisher.publish(FACTS, said)
        assert [type(outcome) for outcome in outcomes] == [Unavailable, type(None), Unavailable]
        assert "WRONGTYPE" in str(outcomes[0])
        client.delete(stream_of("shop", FACTS, 0))
        assert list(publisher.publish(FACTS, said)) == [None] * 3
        assert [client.xlen(stream_of("shop", FACTS, shard)) for shard in (0, 1)] == [2, 1]


def test_a_server_that_forgot_the_scripts_is_sent_them_again(
    publisher: RedisStreamsPublisher, receive: Receive, client: redis.Redis
) -> None:
    receiver = receive("one")
    say(publisher, 1)
    assert drain(receiver, 1) == names(1)
    client.script_flush()
    say(publisher, 2)
    assert drain(receiver, 1) == names(2)


@pytest.mark.parametrize("options", ["shards=0", "shards=many", "shards=257", "keep_hours=-1", "shard=4"])
def test_wrong_options_are_refused_at_the_start(options: str) -> None:
    with pytest.raises(SetupError, match="shards"):
        Address.of(f"redis+streams://localhost/0?{options}")


# Trimming


@pytest.fixture
def trim(client: redis.Redis) -> Callable[[], int]:
    """Trims all that may go, however young; answers how many entries stay."""

    def trimmed() -> int:
        Trimmer(client, Address("unused", 1, keep_hours=0)).trim([STREAM])
        return int(client.xlen(STREAM))

    return trimmed


def test_a_stream_that_nobody_reads_is_not_trimmed(publisher: RedisStreamsPublisher, trim: Callable[[], int]) -> None:
    say(publisher, *range(10))
    assert trim() == 10


def test_what_is_unread_or_unsettled_by_any_group_stays(
    publisher: RedisStreamsPublisher, client: redis.Redis, trim: Callable[[], int]
) -> None:
    say(publisher, *range(10))
    client.xgroup_create(STREAM, "quick", id="0")
    client.xgroup_create(STREAM, "slow", id="0")
    read = client.xreadgroup("quick", "c", {STREAM: ">"}, count=10)[0][1]
    client.xack(STREAM, "quick", *(name for name, _ in read))
    assert trim() == 10, "the slow group has read nothing"
    client.xreadgroup("slow", "c", {STREAM: ">"}, count=6)
    client.xack(STREAM, "slow", *(name for name, _ in read[:3]))
    assert trim() == 7, "3 of 6 are settled; the other 3 are in somebody's hand"
    client.xack(STREAM, "slow", *(name for name, _ in read[3:6]))
    assert trim() == 5, "the last one that was given, and 4 that nobody was given"
    unread = client.xreadgroup("slow", "c", {STREAM: ">"}, count=10)[0][1]
    assert [fields[b"key"] for _, fields in unread] == [CHAIR.encode()] * 4


def test_what_is_young_stays(publisher: RedisStreamsPublisher, receive: Receive, client: redis.Redis) -> None:
    say(publisher, *range(10))
    drain(receive("one"), 10)
    Trimmer(client, Address("unused", 1, keep_hours=1)).trim([STREAM])
    assert client.xlen(STREAM) == 10


def test_the_publisher_trims_now_and_then(redis_url: str, receive: Receive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_streams, "TRIM_EVERY_SECONDS", 0.0)
    address = Address("unused", 1, keep_hours=0)
    with closing(RedisStreamsPublisher(connect(redis_url), "shop", address)) as publisher, connect(redis_url) as client:
        say(publisher, *range(10))
        drain(receive("one"), 10)
        say(publisher, 10)
        assert client.xlen(STREAM) == 2, "the last one that was read, and the new one"


# Connections and servers


def test_a_connection_that_dies_is_replaced_and_nothing_is_lost(
    publisher: RedisStreamsPublisher, receive: Receive, client: redis.Redis
) -> None:
    receiver = receive("one")
    say(publisher, 1, 2)
    first, second = gather(receiver, 2)
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(receiver.receive, 10, LONG_SECONDS)
        while not is_blocked(client):
            pass
        client.client_kill_filter(_type="normal", skipme=True)
        with pytest.raises(Unavailable):
            waiting.result()
    receiver.accept([first])
    say(publisher, 3)
    assert ids(gather(receiver, 1)) == names(3)  # and not what is in hand
    receiver.accept([second])
    assert client.xpending(STREAM, "shop")["pending"] == 1


def is_blocked(client: redis.Redis) -> bool:
    """Whether somebody waits for news."""
    return int(client.info("clients")["blocked_clients"]) > 0


def test_an_acknowledgement_that_failed_is_repeated_and_its_entry_does_not_come_again(
    publisher: RedisStreamsPublisher, receive: Receive, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver = receive("one")
    say(publisher, 1, 2)
    deliveries = gather(receiver, 2)
    with monkeypatch.context() as away:
        away.setattr(receiver, "_acknowledge", fail)
        with pytest.raises(Unavailable):
            receiver.accept(deliveries)
    assert nothing_comes(receiver)
    assert client.xpending(STREAM, "shop")["pending"] == 0


def fail() -> None:
    raise redis.ConnectionError("gone")


def test_an_answer_that_got_lost_with_entries_in_it_is_looked_for(
    publisher: RedisStreamsPublisher, receive: Receive, client: redis.Redis
) -> None:
    receiver = receive("one")
    assert nothing_comes(receiver)
    with ThreadPoolExecutor(1) as threads, client.pipeline(transaction=True) as at_once:
        waiting = threads.submit(receiver.receive, 10, LONG_SECONDS)
        while not is_blocked(client):
            pass
        at_once.xadd(STREAM, {"key": CHAIR, "event": structured(command(CHAIR, 1))})
        at_once.xreadgroup("shop", redis_streams_receiver.CONSUMER, {STREAM: ">"})  # it was read, and never heard of
        at_once.client_kill_filter(_type="normal", skipme=True)
        at_once.execute()
        with pytest.raises(Unavailable):
            waiting.result()
    assert ids(gather(receiver, 1)) == names(1)


def test_a_group_that_is_gone_is_made_again_from_the_beginning(
    publisher: RedisStreamsPublisher, receive: Receive, client: redis.Redis
) -> None:
    receiver = receive("one")
    say(publisher, 1)
    assert drain(receiver, 1) == names(1)
    client.flushall()
    say(publisher, 2)
    assert drain(receiver, 1) == names(2)
    client.xgroup_destroy(STREAM, "shop")
    say(publisher, 3)
    assert drain(receiver, 2) == names(2, 3), "the inbox knows what was done"


@contextmanager
def silent(server: PrivateRedis) -> Iterator[None]:
    """It keeps its connections, and says nothing."""
    assert server._process is not None
    os.kill(server._process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server._process.pid, signal.SIGCONT)


def test_a_subscription_that_fell_silent_is_noticed_and_replaced() -> None:
    with PrivateRedis() as server, closing(RedisSubscriber(connect(server.url), "news", silence_seconds=0.1)) as heard:
        assert heard.next(0.5) is None  # with a living server silence is just silence
        with silent(server), pytest.raises(Unavailable, match="silent"):
            heard.next(LONG_SECONDS)
        deadline = time.monotonic() + LONG_SECONDS
        while time.monotonic() < deadline:
            with connect(server.url) as client:
                client.publish("news", "it speaks again")
            if (told := heard.next(0.05)) is not None:
                assert told == ("news", b"it speaks again")
                return
        raise AssertionError("it was never heard again")


# The application on both ends


@pytest.fixture
def application(sqlite_url: str, redis_url: str) -> Iterator[Application]:
    """A service whose facts and stock levels go to streams, and whose commands come from them."""
    streams = redis_url.replace(":", "+streams:", 1)
    settings = load_settings(database_url=sqlite_url, publish_to=streams, receive_from=streams, namespace="shop")
    made = bootstrap(settings)
    made.worker.start()
    yield made
    made.close()


def facts(client: redis.Redis) -> list[str]:
    """Type and version of every fact in the streams, by the order within its shard."""
    entries = [entry for shard in range(4) for entry in client.xrange(stream_of("shop", FACTS, shard))]
    events = [event_in(Delivery(fields[b"event"], "facts", "")) for _, fields in entries]
    return [f"{e.type.removeprefix('allocation.')} {e.attributes['productversion']}" for e in events]


def wait_for(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LONG_SECONDS
    while not true():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.01)


def test_what_redis_lost_is_said_again_when_the_subscription_goes_back(
    application: Application, client: redis.Redis
) -> None:
    application.bus.handle(CreateBatch("b1", CHAIR, 10))
    application.bus.handle(Allocate("o1", CHAIR, 1))
    wait_for(lambda: facts(client) == ["BatchCreated 1", "Allocated 2"])
    client.flushall()
    application.bus.handle(Allocate("o2", CHAIR, 1))
    wait_for(lambda: facts(client) == ["Allocated 3"])
    application.subscriptions.rewind("publish_facts:redis+streams", ())
    application.bus.handle(Allocate("o3", CHAIR, 1))
    wait_for(lambda: len(facts(client)) == 4)
    assert sorted(facts(client)) == ["Allocated 2", "Allocated 3", "Allocated 4", "BatchCreated 1"]


def test_a_poisonous_message_goes_to_the_dead_letters_and_the_consumer_goes_on(
    application: Application, client: redis.Redis
) -> None:
    stopping = Flag()
    thread = Thread(target=serve_all, args=(application, receivers_of(application), stopping))
    thread.start()
    try:
        application.bus.handle(CreateBatch("b1", CHAIR, 10))
        for body in ("{", '{"batchref": "nowhere", "qty": 1}', '{"batchref": "b1", "qty": 7}'):
            client.xadd(stream_of("shop", COMMANDS, 2), {"event": body})
        client.xadd(stream_of("shop", COMMANDS, 2), {"something": "else"})
        client.xadd(stream_of("shop", COMMANDS, 3), {"event": '{"batchref": "b1", "qty": 6}'})
        wait_for(lambda: len(application.dead_letters.newest()) == 3)
        wait_for(lambda: "BatchQuantityChanged 3" in facts(client))
        wait_for(lambda: client.xpending(stream_of("shop", COMMANDS, 2), "shop")["pending"] == 0)
    finally:
        stopping.set()
        thread.join()
    assert {letter.source for letter in application.dead_letters.newest()} == {"redis shop:commands:2"}
