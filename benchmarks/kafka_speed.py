"""A backlog published to a real Apache Kafka by the worker's own path, beside a bare producer with the same bytes."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice

from confluent_kafka import Consumer, Message, Producer, TopicPartition

from allocation.adapters.brokers.kafka.address import USUAL_ROOM_BYTES, address_of
from allocation.adapters.brokers.kafka.publisher import settings_of
from allocation.bootstrap import Application, bootstrap
from allocation.config import load_settings
from allocation.entrypoints.garbage import rare_collection
from allocation.service_layer.broker import FACTS
from allocation.service_layer.delivering import Line
from allocation.service_layer.handlers import EVENT_HANDLERS
from allocation.service_layer.injection import PAGE, SETTLE_SECONDS
from allocation.service_layer.subscriptions import Backoff, Subscription
from benchmarks import orders, seeding
from benchmarks.databases import Database, Databases, Kind
from benchmarks.measure import Table, median, spread_of, take_turns
from benchmarks.over_http import PIECES
from tests.servers.kafka import PrivateKafka

NAMESPACE, SKUS, PARTITIONS = "bench", 1_000, 4
NAME = "publish_facts:kafka"
LONG_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Size:
    rounds: int = 5
    """The first one more is a warm-up and does not count."""
    backlog: int = 10_000


def tables(databases: Databases, kinds: tuple[Kind, ...], size: Size) -> list[Table]:
    """Runs everything; answers one table. Raises `ServerError` where no real Kafka can be had."""
    rows: list[list[str | float | int | None]] = []
    with PrivateKafka(durable=True) as server:
        for kind in kinds:
            with databases.fresh(kind) as database:
                _stock(database, size)
                rates = _side_by_side(database, server, size, f"{NAMESPACE}-{kind}")
            ours, bare = median(rates["worker"]), median(rates["bare"])
            spreads = spread_of(rates["worker"]), spread_of(rates["bare"])
            rows.append([f"{kind}, Line and publisher", ours, spreads[0], bare, spreads[1], ours / bare])
        source = server.source
    header = ["backlog to Kafka", "events/s", "lowest to highest", "bare producer/s", "lowest to highest", "ratio"]
    notes = [
        f"{size.backlog:,} allocations and {SKUS:,} batches in the log, published to the facts topic with "
        f"{PARTITIONS} partitions in the worker's own way: pages read from the log, each published and confirmed, the "
        f"cursor moved in a transaction; {size.rounds} rounds, alternating in one process; medians. Compared with one "
        "confluent-kafka producer with the same settings (acks=all, idempotent) and the same keys, values and headers, "
        f"queued without a pause and confirmed at the end. {source}, on disk; broker and clients share the processors.",
        "Aims: at least 10,000 events/s; 0.5 of the bare producer.",
    ]
    return [Table("kafka", "A backlog to Apache Kafka", header, rows, notes)]


def _stock(database: Database, size: Size) -> None:
    with seeding.application(database) as app:
        seeding.create_batches(app, [(f"batch-{n}", f"SMALL-TABLE-{n}", PIECES, None) for n in range(SKUS)])
    seeding.fill(database, islice(orders.spread("o", SKUS), size.backlog), "kafka: backlog")
    database.analyze()


def _side_by_side(database: Database, server: PrivateKafka, size: Size, namespace: str) -> dict[str, list[float]]:
    url, events = f"kafka://{server.bootstrap}?partitions={PARTITIONS}", size.backlog + SKUS
    app = bootstrap(load_settings(database_url=database.url, publish_to=url, namespace=namespace))
    try:
        drained(app)
        records = told(server, f"{namespace}.{FACTS}")
        if len(records) != events:
            raise RuntimeError(f"{len(records):,} of {events:,} events were published")
        subjects = {
            "worker": lambda _: events / drained(app),
            "bare": lambda _: events / produced(url, f"{namespace}.{FACTS}", records),
        }
        with rare_collection():
            samples = take_turns(subjects, size.rounds + 1, "kafka")
    finally:
        app.close()
    return {name: rates[1:] for name, rates in samples.items()}


def drained(app: Application) -> float:
    """The seconds in which the whole log is published, as a worker's thread does it."""
    app.subscriptions.join(NAME, from_the_beginning=True)
    app.subscriptions.rewind(NAME, ())
    deliver = partial(app.bus.react, NAME)
    subscription = Subscription(NAME, frozenset(EVENT_HANDLERS), deliver, page=PAGE, settle_seconds=SETTLE_SECONDS)
    line = Line(subscription, app.subscriptions, app.clock, Backoff(lambda: 0.0))
    lease = app.subscriptions.lease(NAME, 0, "benchmark", LONG_SECONDS)
    if lease is None:
        raise RuntimeError("another worker is publishing")
    started, moved = time.perf_counter(), True
    while moved:
        lease, moved = line.round(lease)
    lease = line.finish(lease)
    seconds = time.perf_counter() - started
    app.subscriptions.release(lease)
    return seconds


def produced(url: str, topic: str, records: Sequence[Message]) -> float:
    """The seconds in which the plainest program has the same records confirmed."""
    parts = [(record.key(), record.value(), record.headers()) for record in records]
    producer, confirmed = Producer(settings_of(address_of(url), USUAL_ROOM_BYTES)), []
    producer.list_topics(topic, LONG_SECONDS)  # connected, as ours is
    started = time.perf_counter()
    for number, (key, value, headers) in enumerate(parts):
        producer.produce(topic, value, key, headers=headers, on_delivery=lambda error, _: confirmed.append(error))  # type: ignore[arg-type]  # as they were received
        if number % 1_000 == 0:
            producer.poll(0)
    producer.flush(LONG_SECONDS)
    seconds = time.perf_counter() - started
    if confirmed != [None] * len(records):
        raise RuntimeError("the bare producer failed")
    return seconds


def told(server: PrivateKafka, topic: str) -> list[Message]:
    """Every record of the topic."""
    consumer = Consumer({"bootstrap.servers": server.bootstrap, "group.id": "benchmark", "enable.partition.eof": True})
    open_ends, found = set(range(PARTITIONS)), []
    consumer.assign([TopicPartition(topic, number, 0) for number in open_ends])
    while open_ends:
        for record in consumer.consume(10_000, 1.0):
            if record.error() is None:
                found.append(record)
            else:
                open_ends.discard(record.partition())  # type: ignore[arg-type]  # the end of a partition names it
    consumer.close()
    return found
