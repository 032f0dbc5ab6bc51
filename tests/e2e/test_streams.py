"""The book's flow over Redis Streams: a quantity change comes in, the reallocation goes out; each side is a process."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

import msgspec
import pytest
import redis

from allocation.adapters.brokers.redis_streams import Address, RedisStreamsPublisher, stream_of
from allocation.service_layer.broker import COMMANDS, FACTS, Message
from tests.e2e.service import PATIENCE_SECONDS, Service
from tests.fakes import NOON

SHARDS = 2


@contextmanager
def consumer(service: Service) -> Iterator[subprocess.Popen[str]]:
    """`allocation consumer` with the settings of the service; told to stop at the end, and it ends well."""
    process = subprocess.Popen(
        [sys.executable, "-m", "allocation.entrypoints.cli", "consumer"],
        env=service.environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=PATIENCE_SECONDS)
        assert process.returncode == 0, said
        assert "Traceback" not in said
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def streams(redis_url: str) -> str:
    return f"{redis_url.replace(':', '+streams:', 1)}?shards={SHARDS}"


@pytest.fixture
def service(streams: str) -> Iterator[Service]:
    with Service(publish_to=streams, receive_from=streams, namespace="shop") as started:
        yield started


def wait_for_fact(client: redis.Redis, kind: str, **fields: object) -> None:
    """Until a fact of that type with these fields has gone out."""
    last: dict[str | bytes, str | bytes] = {stream_of("shop", FACTS, shard): "0" for shard in range(SHARDS)}
    deadline = monotonic() + PATIENCE_SECONDS
    while monotonic() < deadline:
        for stream, entries in client.xread(last, block=500):  # type: ignore[arg-type]  # dict is invariant
            for name, content in entries:
                last[stream.decode()] = name
                event = msgspec.json.decode(content[b"event"])
                if event["type"] == f"allocation.{kind}" and fields.items() <= event["data"].items():
                    return
    raise AssertionError(f"no {kind} with {fields}")


@pytest.mark.slow
def test_a_change_of_quantity_comes_in_by_a_stream_and_the_reallocation_goes_out(
    service: Service, streams: str, redis_url: str
) -> None:
    for ref, eta in (("early", None), ("late", "2031-01-02")):
        assert service.ask("POST", "/add_batch", {"ref": ref, "sku": "LAMP", "qty": 100, "eta": eta})[0] == 201
    assert service.ask("POST", "/allocate", {"orderid": "o1", "sku": "LAMP", "qty": 100})[0] == 202
    publisher = RedisStreamsPublisher(redis.Redis.from_url(redis_url), "shop", Address.of(streams))
    change = Message("m-1", "allocation.ChangeBatchQuantity", "LAMP", NOON, {"ref": "early", "qty": 5})
    with redis.Redis.from_url(redis_url) as client, consumer(service):
        assert list(publisher.publish(COMMANDS, [change, change])) == [None, None]
        wait_for_fact(client, "Deallocated", orderid="o1", batchref="early")
        wait_for_fact(client, "Allocated", orderid="o1", batchref="late")
        assert service.ask("GET", "/allocations/o1") == (200, [{"sku": "LAMP", "batchref": "late"}])
        client.xadd(stream_of("shop", COMMANDS, 0), {"event": '{"batchref": "late", "qty": 1}'})
        wait_for_fact(client, "Deallocated", orderid="o1", batchref="late")
    events = service.ask("GET", "/v1/events?sku=LAMP&limit=1000")[1]["events"]
    changes = [event["data"]["qty"] for event in events if event["type"] == "allocation.BatchQuantityChanged"]
    assert changes == [5, 1], "the message that came twice was done once"
    publisher.close()
