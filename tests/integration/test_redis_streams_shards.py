"""Redis Streams: what somebody else does to one stream, or to its group, and what the others notice of it."""

from collections.abc import Iterator
from contextlib import closing

import pytest
import redis

from allocation.adapters.brokers.redis_client import connect
from allocation.adapters.brokers.redis_streams import Address, RedisStreamsPublisher, shard_of, stream_of
from allocation.adapters.brokers.redis_streams_receiver import RedisStreamsReceiver
from allocation.service_layer.broker import COMMANDS
from allocation.service_layer.errors import Unavailable
from tests.contracts.brokers import command, gather, ids

ADDRESS = Address.of("redis+streams://unused/0?shards=2")
HERE, THERE = (next(f"SKU-{n}" for n in range(99) if shard_of(f"SKU-{n}", 2) == shard) for shard in (0, 1))


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with connect(redis_url) as made:
        yield made


@pytest.fixture
def publisher(redis_url: str) -> Iterator[RedisStreamsPublisher]:
    with closing(RedisStreamsPublisher(connect(redis_url), "shop", ADDRESS)) as made:
        yield made


@pytest.fixture(params=[2, 3], ids=["RESP 2", "RESP 3"])
def receiver(redis_url: str, request: pytest.FixtureRequest) -> Iterator[RedisStreamsReceiver]:
    url = f"{redis_url}{'&' if '?' in redis_url else '?'}protocol={request.param}"
    with closing(RedisStreamsReceiver(connect(url, 0), "shop", "one", ADDRESS, 0.5)) as made:
        yield made


@pytest.mark.parametrize("is_listening", [False, True], ids=["from the start", "while it listens"])
def test_a_stream_that_is_none_holds_up_no_other_and_is_read_once_it_is_one(
    client: redis.Redis, publisher: RedisStreamsPublisher, receiver: RedisStreamsReceiver, is_listening: bool
) -> None:
    broken = stream_of("shop", COMMANDS, 1)
    if is_listening:
        publisher.publish(COMMANDS, [command(THERE, 0)])
        receiver.accept(gather(receiver, 1))
        client.delete(broken)
    client.set(broken, "no stream")
    publisher.publish(COMMANDS, [command(HERE, n) for n in (1, 2)])
    deliveries = gather(receiver, 2)
    assert ids(deliveries) == [f"{HERE}-1", f"{HERE}-2"]
    assert [delivery.attempts for delivery in deliveries] == [1, 1]
    receiver.accept(deliveries)
    client.delete(broken)
    publisher.publish(COMMANDS, [command(THERE, 3)])
    assert ids(gather(receiver, 1)) == [f"{THERE}-3"]


def test_what_was_handed_out_of_a_stream_that_is_none_any_more_is_acknowledged_in_vain_and_holds_up_no_other(
    client: redis.Redis, publisher: RedisStreamsPublisher, receiver: RedisStreamsReceiver
) -> None:
    publisher.publish(COMMANDS, [command(HERE, 1), command(THERE, 1)])
    deliveries = gather(receiver, 2)
    client.set(stream_of("shop", COMMANDS, 1), "no stream")
    receiver.accept(deliveries)
    assert client.xpending(stream_of("shop", COMMANDS, 0), "shop")["pending"] == 0
    publisher.publish(COMMANDS, [command(HERE, 2)])
    assert ids(gather(receiver, 1)) == [f"{HERE}-2"]


def test_where_no_stream_can_be_read_it_is_said(client: redis.Redis, receiver: RedisStreamsReceiver) -> None:
    for shard in (0, 1):
        client.set(stream_of("shop", COMMANDS, shard), "no stream")
    with pytest.raises(Unavailable, match="WRONGTYPE"):
        receiver.receive(10, 0.0)


def test_a_group_that_was_moved_on_is_waited_for_and_not_asked_again_and_again(
    client: redis.Redis, publisher: RedisStreamsPublisher, receiver: RedisStreamsReceiver
) -> None:
    receiver.receive(10, 0.0)
    publisher.publish(COMMANDS, [command(key, n) for key in (HERE, THERE) for n in (1, 2)])
    for shard in (0, 1):
        client.xgroup_setid(stream_of("shop", COMMANDS, shard), "shop", "$")
    before = client.info("stats")["total_commands_processed"]
    assert receiver.receive(10, 0.5) == []
    assert client.info("stats")["total_commands_processed"] - before < 1000
    publisher.publish(COMMANDS, [command(HERE, 3)])
    assert ids(gather(receiver, 1)) == [f"{HERE}-3"]
