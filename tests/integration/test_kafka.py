"""Kafka where it hurts: its own limits, fences, brokers that die, consumers that die or come and go under load."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Event as Flag
from uuid import uuid4

import msgspec
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # it exports them without saying so
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

import allocation
from allocation.adapters.brokers import kafka
from allocation.adapters.cloudevents import structured
from allocation.bootstrap import Application, bootstrap
from allocation.config import load_settings
from allocation.domain.commands import Allocate, CreateBatch
from allocation.service_layer.broker import COMMANDS, FACTS, STOCK_LEVEL, Message, Receiver
from allocation.service_layer.errors import Rejected, Unavailable
from tests.contracts.brokers import command, event_in, gather, ids, nothing_comes
from tests.fakes import NOON
from tests.integration.kafka_tools import LONG_SECONDS, Told, everything, versions
from tests.integration.serving import Serving
from tests.servers.kafka import Kafka, PrivateKafka
from tests.servers.kafka_mock import MockKafka

CHAIR, TABLE = "RED-CHAIR", "SMALL-TABLE"


@pytest.fixture
def server(kafka_server: Kafka) -> Kafka:
    """A real one: what is tested here the mock cannot show."""
    if not kafka_server.is_real:
        pytest.skip(kafka_server.source)
    return kafka_server


@pytest.fixture
def namespace() -> str:
    return f"t{uuid4().hex[:12]}"


def url(server: Kafka | MockKafka, **settings: object) -> str:
    chosen = {"patience_seconds": 3, "session.timeout.ms": 6000} | settings
    return f"kafka://{server.bootstrap}?" + "&".join(f"{name}={value}" for name, value in chosen.items())


def published(server: Kafka, namespace: str, *messages: Message, topic: str = COMMANDS) -> None:
    with closing(kafka.publisher(url(server), namespace)) as publisher:
        assert not any(publisher.publish(topic, messages))


Receive = Callable[..., Receiver]


@pytest.fixture
def receive(server: Kafka, namespace: str) -> Iterator[Receive]:
    made: list[Receiver] = []

    def make(owner: str = "one", **settings: object) -> Receiver:
        made.append(kafka.receiver(url(server, **settings), namespace, owner))
        return made[-1]

    yield make
    for one in made:
        one.close()


# On the wire


def test_a_fact_is_a_cloud_event_in_binary_mode_keyed_by_sku(server: Kafka, namespace: str) -> None:
    message = Message("m-1", "allocation.Tested", CHAIR, NOON, {"qty": 2}, 7, {"productversion": 7, "partition": 0})
    published(server, namespace, message, topic=FACTS)
    [told] = everything(server.bootstrap, f"{namespace}.{FACTS}")
    assert (told.key, told.body) == (CHAIR, b'{"qty":2}')
    assert told.attributes == {
        "content-type": "application/json",
        "specversion": "1.0",
        "id": "m-1",
        "source": "/allocation",
        "type": "allocation.Tested",
        "subject": CHAIR,
        "time": "2031-03-01T12:00:00Z",
        "productversion": "7",
        "partition": "0",
    }


def test_a_key_is_where_a_producer_in_java_would_put_it(server: Kafka, namespace: str) -> None:
    published(server, namespace, *(command(f"SKU-{n}") for n in range(20)), topic=FACTS)
    ours = {told.key: told.partition for told in everything(server.bootstrap, f"{namespace}.{FACTS}")}
    assert {key: murmur2(key.encode()) % 4 for key in ours} == ours


def murmur2(data: bytes) -> int:
    """As Kafka's Java client computes it, without the sign."""
    mask, m = 0xFFFFFFFF, 0x5BD1E995
    h = (0x9747B28C ^ len(data)) & mask
    whole = len(data) // 4 * 4
    for at in range(0, whole, 4):
        k = int.from_bytes(data[at : at + 4], "little") * m & mask
        h = (h * m ^ (k ^ k >> 24) * m) & mask
    if tail := data[whole:]:
        h = (h ^ int.from_bytes(tail, "little")) * m & mask
    h = (h ^ h >> 13) * m & mask
    return (h ^ h >> 15) & 0x7FFFFFFF


def test_structured_events_and_bare_messages_are_received_too(server: Kafka, namespace: str, receive: Receive) -> None:
    receiver = receive()
    nothing_comes(receiver)  # it makes the topic
    by_hand = Producer({"bootstrap.servers": server.bootstrap, "log_level": 0})
    topic = f"{namespace}.{COMMANDS}"
    by_hand.produce(topic, structured(command(CHAIR, 1)), headers={"Content-Type": "application/cloudevents+json"})
    by_hand.produce(topic, b'{"batchref": "b1", "qty": 3}', CHAIR, headers={"ce_odd": b"\xff", "nothing": None})
    by_hand.produce(topic, None, b"\xff\xfe")
    by_hand.flush(LONG_SECONDS)
    found = {delivery.key: delivery for delivery in gather(receiver, 3)}
    assert event_in(found[None]).id == f"{CHAIR}-1"
    assert found[CHAIR].body == b'{"batchref": "b1", "qty": 3}'
    assert found[CHAIR].headers == {"ce-odd": "\ufffd"}
    assert found["\ufffd\ufffd"].body == b""


# Publishing


def test_a_topic_that_takes_less_than_it_did_rejects_the_large_one_and_no_other(server: Kafka, namespace: str) -> None:
    """The broker rejects a whole batch, while `flush()` returns as if all were well."""
    topic = f"{namespace}.{FACTS}"
    with closing(kafka.publisher(url(server, partitions=1), namespace)) as publisher:
        assert list(publisher.publish(FACTS, [command(CHAIR, 1)])) == [None]
        limit(server, topic, 3_000)
        large = Message("large", "allocation.Tested", CHAIR, NOON, "x" * 5_000)
        said = [command(TABLE, 1), large, command(CHAIR, 2), command(TABLE, 2)]
        outcomes = publisher.publish(FACTS, said)
        assert [type(outcome) for outcome in outcomes] == [type(None), Rejected, Rejected, type(None)]
    told = [one.attributes["id"] for one in everything(server.bootstrap, topic)]
    assert told == [f"{CHAIR}-1", f"{TABLE}-1", f"{TABLE}-2"]


def limit(server: Kafka, topic: str, size_bytes: int) -> None:
    admin = AdminClient({"bootstrap.servers": server.bootstrap})
    entry = ConfigEntry("max.message.bytes", str(size_bytes), incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    admin.incremental_alter_configs([resource])[resource].result()


def test_stock_levels_are_compacted_and_facts_are_kept(server: Kafka, namespace: str) -> None:
    published(server, namespace, command(CHAIR), topic=FACTS)
    published(server, namespace, command(CHAIR), topic=STOCK_LEVEL)
    admin = AdminClient({"bootstrap.servers": server.bootstrap})
    policies = {}
    for topic in (FACTS, STOCK_LEVEL):
        resource = ConfigResource(ResourceType.TOPIC, f"{namespace}.{topic}")
        policies[topic] = admin.describe_configs([resource])[resource].result()["cleanup.policy"].value
    assert policies == {FACTS: "delete", STOCK_LEVEL: "compact"}


def level(version: int) -> Message:
    data = {"sku": CHAIR, "version": version}
    return Message(f"l-{version}", "allocation.StockLevel", CHAIR, NOON, data, version, {"productversion": version})


def test_an_old_word_of_a_worker_that_was_replaced_is_never_the_last(server: Kafka, namespace: str) -> None:
    zombie = kafka.publisher(url(server, patience_seconds=10), namespace)
    heir = kafka.publisher(url(server, patience_seconds=10), namespace)
    with closing(zombie), closing(heir):
        assert list(zombie.publish(STOCK_LEVEL, [level(1)])) == [None]
        assert list(heir.publish(STOCK_LEVEL, [level(3)])) == [None]
        [late] = zombie.publish(STOCK_LEVEL, [level(2)])
        assert isinstance(late, Unavailable)
    told = everything(server.bootstrap, f"{namespace}.{STOCK_LEVEL}")
    assert [one.version for one in told] == [1, 3]


# Receiving


def committed(server: Kafka, namespace: str, partition: int = 0) -> int:
    with closing(Consumer({"bootstrap.servers": server.bootstrap, "group.id": namespace})) as onlooker:
        [place] = onlooker.committed([TopicPartition(f"{namespace}.{COMMANDS}", partition)], LONG_SECONDS)
        return place.offset


def test_an_offset_is_committed_when_all_before_it_is_settled(server: Kafka, namespace: str, receive: Receive) -> None:
    published(server, namespace, *(command(CHAIR, n) for n in range(3)))
    receiver = receive()
    first, second, third = gather(receiver, 3)
    place = partition_of(first.id)
    assert committed(server, namespace, place) < 0, "nothing is settled"
    receiver.accept([second, third])
    assert committed(server, namespace, place) < 0, "what is before them is not settled"
    receiver.release([first])
    [again] = gather(receiver, 1)
    assert (again.id, again.attempts) == (first.id, 1)
    receiver.accept([again])
    assert committed(server, namespace, place) == 3


def partition_of(name: str) -> int:
    return int(name.split("-")[0])


def test_what_a_zombie_settles_late_moves_no_offset_of_its_successor(
    server: Kafka, namespace: str, receive: Receive
) -> None:
    if not isinstance(server, PrivateKafka):
        pytest.skip("a broker of others does not let a receiver be taken for dead so soon")
    heartbeats = {"heartbeat.interval.ms": 200}  # which tell a member that another one came or went
    quick = heartbeats | {"session.timeout.ms": 1000, "max.poll.interval.ms": 1500}
    published(server, namespace, *(command(CHAIR, n) for n in range(4)))
    zombie = receive("zombie", **quick)
    in_hand = gather(zombie, 4)
    heir = receive("heir", **heartbeats)
    again = gather(heir, 4)  # once the zombie is taken for dead, for it asks no more
    assert ids(again) == ids(in_hand)
    heir.accept(again)
    place = partition_of(again[0].id)
    assert committed(server, namespace, place) == 4
    deadline, number = time.monotonic() + LONG_SECONDS, 0
    while not (late := zombie.receive(5, 0.1)):  # until it is of the group again, so that Kafka takes its word
        assert time.monotonic() < deadline
        number += 1
        published(server, namespace, command(f"NEW-{number}"))
        heir.accept(heir.receive(5, 0.1))
    before = committed(server, namespace, place)
    zombie.accept(in_hand[:2])
    assert committed(server, namespace, place) == before >= 4
    zombie.accept(late)


# Brokers that die


def test_with_a_broker_down_of_three_the_other_keys_go_on_and_nothing_is_lost(namespace: str) -> None:
    keys = [f"SKU-{n}" for n in range(12)]
    homes = {key: murmur2(key.encode()) % 3 for key in keys}
    topic = f"{namespace}.{FACTS}"
    with MockKafka(brokers=3) as cluster, closing(kafka.publisher(url(cluster), namespace)) as publisher:
        cluster.make_topic(topic, 3)
        for partition in range(3):
            cluster.lead(topic, partition, partition + 1)

        def said(version: int) -> list[Message]:
            return [command_of(key, version) for key in keys]

        assert not any(publisher.publish(FACTS, said(1)))
        cluster.down(2)
        outcomes = dict(zip(keys, publisher.publish(FACTS, said(2) + said(3))[: len(keys)], strict=True))
        assert {key for key, outcome in outcomes.items() if outcome is None} == {k for k in keys if homes[k] != 1}
        assert all(isinstance(outcome, Unavailable) for outcome in outcomes.values() if outcome is not None)
        cluster.up(2)
        deadline = time.monotonic() + LONG_SECONDS
        while any(publisher.publish(FACTS, said(2) + said(3))):  # from where the line stood still
            assert time.monotonic() < deadline
        told = everything(cluster.bootstrap, topic)
    assert versions(told) == {key: [1, 2, 3] for key in keys}


def command_of(key: str, version: int) -> Message:
    return Message(f"{key}-{version}", "allocation.Tested", key, NOON, {}, version, {"productversion": version})


@contextmanager
def shop(database_url: str, server: Kafka, namespace: str, **settings: object) -> Iterator[Application]:
    """A service that tells Kafka everything, with its worker running."""
    place = url(server, **settings)
    chosen = load_settings(database_url=database_url, publish_to=place, receive_from=place, namespace=namespace)
    application = bootstrap(chosen)
    try:
        application.worker.start()
        yield application
    finally:
        application.close()


def wait_for(true: Callable[[], bool], seconds: float = 2 * LONG_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.02)


def versions_in_the_log(application: Application) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for one in application.views.events((), 100_000).events:
        found.setdefault(one.key, []).append(one.version)
    return found


def all_is_told(application: Application) -> bool:
    cursors = [c for c in application.subscriptions.cursors() if c.subscription == "publish_facts:kafka"]
    return bool(cursors) and not any(cursor.lag_events for cursor in cursors)


def test_a_real_broker_that_is_killed_under_load_loses_nothing_and_keeps_the_order(
    server: Kafka, namespace: str, sqlite_url: str
) -> None:
    if not isinstance(server, PrivateKafka):
        pytest.skip("a broker of others is not to be killed")
    skus, stopping = [f"SKU-{n}" for n in range(20)], Flag()
    with shop(sqlite_url, server, namespace, patience_seconds=2) as application:
        for sku in skus:
            application.bus.handle(CreateBatch(f"batch-{sku}", sku, 1_000_000))

        def go_on() -> None:
            number = 0
            while not stopping.is_set():
                application.bus.handle(Allocate(f"o-{number}", skus[number % len(skus)], 1))
                number += 1

        with ThreadPoolExecutor(1) as threads:
            load = threads.submit(go_on)
            try:
                wait_for(lambda: len(versions(told_facts(server, namespace))) > 0)
                server.kill()
                time.sleep(0.5)  # some are refused while it is gone
                server.start()
                wait_for(lambda: grows(lambda: len(told_facts(server, namespace))))
            finally:
                stopping.set()
            load.result()
        wait_for(lambda: all_is_told(application))
        told = told_facts(server, namespace)
        assert versions(told) == versions_in_the_log(application)


def told_facts(server: Kafka, namespace: str) -> list[Told]:
    try:
        return everything(server.bootstrap, f"{namespace}.{FACTS}")
    except KeyError:  # nobody has made it yet
        return []


def grows(count: Callable[[], int]) -> bool:
    before = count()
    time.sleep(0.1)
    return count() > before


# Consumers that die, and that come and go


def quantity_changes(count: int, skus: int) -> Iterator[Message]:
    """Commands, each with an id of its own: a number of changes for each batch, the last of which is what stays."""
    for n in range(count):
        data = {"ref": f"batch-SKU-{n % skus}", "qty": 1000 + n}
        yield Message(f"c-{n}", "allocation.ChangeBatchQuantity", f"SKU-{n % skus}", NOON, data)


def assert_each_was_done_once_and_in_order(application: Application, count: int, skus: int) -> None:
    changes: dict[str, list[int]] = {}
    for one in application.views.events((), 100_000).events:
        if type(one.event).__name__ == "BatchQuantityChanged":
            changes.setdefault(one.key, []).append(one.event.qty)  # type: ignore[union-attr]  # it has one
    assert changes == {f"SKU-{sku}": list(range(1000 + sku, 1000 + count, skus)) for sku in range(skus)}


def is_done(application: Application, count: int, skus: int) -> bool:
    return len(application.views.events((), 100_000).events) >= count + skus


@contextmanager
def consumer_process(database_url: str, server: Kafka, namespace: str) -> Iterator[subprocess.Popen[bytes]]:
    settings = {
        "ALLOCATION_DATABASE_URL": database_url,
        "ALLOCATION_RECEIVE_FROM": url(server, **{"session.timeout.ms": quickest(server)}),
        "ALLOCATION_NAMESPACE": namespace,
        "PYTHONPATH": str(Path(allocation.__file__).parents[1]),
    }
    command_line = [sys.executable, "-m", "allocation.entrypoints.cli", "consumer"]
    process = subprocess.Popen(command_line, env=os.environ | settings, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def quickest(server: Kafka) -> int:
    """How soon a member of a group may be taken for dead, in milliseconds."""
    return 1000 if isinstance(server, PrivateKafka) else 6000


def test_a_consumer_that_is_killed_in_the_middle_loses_nothing_and_doubles_nothing(
    server: Kafka, namespace: str, postgres_url: str
) -> None:
    count, skus = 3_000, 10
    with closing_application(postgres_url) as application:
        for sku in range(skus):
            application.bus.handle(CreateBatch(f"batch-SKU-{sku}", f"SKU-{sku}", 10))
        published(server, namespace, *quantity_changes(count, skus))
        with consumer_process(postgres_url, server, namespace) as first:
            wait_for(lambda: len(application.views.events((), 100_000).events) > skus)
            first.send_signal(signal.SIGKILL)
            first.wait()
        assert not is_done(application, count, skus), "it was killed too late to show anything"
        with consumer_process(postgres_url, server, namespace):
            wait_for(lambda: is_done(application, count, skus))
        assert_each_was_done_once_and_in_order(application, count, skus)


@contextmanager
def closing_application(database_url: str, **settings: object) -> Iterator[Application]:
    application = bootstrap(load_settings(database_url=database_url, **settings))
    try:
        yield application
    finally:
        application.close()


def test_receivers_that_come_and_go_under_load_lose_nothing_and_double_nothing(
    server: Kafka, namespace: str, sqlite_url: str
) -> None:
    count, skus = 2_000, 20
    place = url(server, partitions=6, **{"session.timeout.ms": 6000})
    with closing_application(sqlite_url, receive_from=place, namespace=namespace) as application:
        for sku in range(skus):
            application.bus.handle(CreateBatch(f"batch-SKU-{sku}", f"SKU-{sku}", 10))
        with closing(kafka.publisher(place, namespace)) as publisher:
            running = [Serving(application)]
            changes = list(quantity_changes(count, skus))
            for at in range(0, count, 200):
                assert not any(publisher.publish(COMMANDS, changes[at : at + 200]))
                running.append(Serving(application))
                if len(running) > 3:
                    running.pop(0).end()
            wait_for(lambda: is_done(application, count, skus))
            for serving in running:
                serving.end()
        assert_each_was_done_once_and_in_order(application, count, skus)


# The book's flow


def test_a_quantity_change_comes_in_by_kafka_and_the_reallocation_goes_out_by_it(
    server: Kafka, namespace: str, sqlite_url: str
) -> None:
    with shop(sqlite_url, server, namespace) as application:
        for ref, qty, sku in (("sooner", 20, CHAIR), ("later", 50, CHAIR)):
            application.bus.handle(CreateBatch(ref, sku, qty, None if ref == "sooner" else NOON.date()))
        application.bus.handle(Allocate("o1", CHAIR, 15))
        serving = Serving(application)
        try:
            by_hand = Producer({"bootstrap.servers": server.bootstrap, "log_level": 0})
            wait_for(lambda: f"{namespace}.{COMMANDS}" in by_hand.list_topics(timeout=LONG_SECONDS).topics)
            by_hand.produce(f"{namespace}.{COMMANDS}", b'{"batchref": "sooner", "qty": 5}', CHAIR)
            by_hand.flush(LONG_SECONDS)
            wait_for(lambda: len(told_facts(server, namespace)) == 6)
        finally:
            serving.end()
        told = told_facts(server, namespace)
        moved = [(one.attributes["type"], msgspec.json.decode(one.body).get("batchref")) for one in told[2:]]
        assert moved == [
            ("allocation.Allocated", "sooner"),
            ("allocation.Deallocated", "sooner"),
            ("allocation.BatchQuantityChanged", None),
            ("allocation.Allocated", "later"),
        ]
        assert versions(told) == versions_in_the_log(application)
        wait_for(lambda: told_level(server, namespace) == [6])


def told_level(server: Kafka, namespace: str) -> list[int]:
    """The version of the last level told of each sku."""
    try:
        told = everything(server.bootstrap, f"{namespace}.{STOCK_LEVEL}")
    except KeyError:
        return []
    return list({one.key: one.version for one in told}.values())
