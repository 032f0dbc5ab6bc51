"""A replica in another program, over real Redis pub/sub that loses a tenth, ends equal to the source."""

import random
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event as Flag
from threading import Thread

import pytest
from werkzeug.serving import make_server

from allocation.adapters.brokers.redis_pubsub import RedisSubscriber, connect
from allocation.bootstrap import Application, bootstrap
from allocation.config import Settings
from allocation.domain.commands import Allocate, Command, CreateBatch, Deallocate
from allocation.entrypoints.flask_app import create_app
from allocation.replica import Counts, Fact, HttpFeed, Replica, SqliteReplicaStore
from allocation.service_layer.errors import Unavailable
from allocation.service_layer.subscriptions import Cursor
from tests.servers.process import LOOPBACK

CHANNEL = "allocation:facts"
LONG_SECONDS = 60.0
MOST_BEHIND = 50
SKUS = [f"SKU-{n}" for n in range(40)]


class Lossy:
    """Throws away a share of what arrives, by a seed; counts both."""

    def __init__(self, subscriber: RedisSubscriber, share: float, seed: int) -> None:
        self._subscriber, self._share, self._dice = subscriber, share, random.Random(seed)
        self.arrived = self.thrown = 0

    def receive(self, wait_seconds: float) -> Iterator[bytes]:
        for body in self._subscriber.receive(wait_seconds):
            self.arrived += 1
            if self._dice.random() < self._share:
                self.thrown += 1
            else:
                yield body


class Consumer:
    """Another program: what was promised of each sku, in a database of its own."""

    def __init__(self, redis_url: str, feed_url: str, file: Path, share: float, seed: int) -> None:
        self.file = file
        self.lossy = Lossy(RedisSubscriber(connect(redis_url), CHANNEL), share, seed)
        connection = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute("CREATE TABLE seen (n INTEGER PRIMARY KEY, sku TEXT, version INTEGER, id TEXT)")
        connection.execute("CREATE TABLE promised (sku TEXT PRIMARY KEY, qty INTEGER)")
        self.replica = Replica(SqliteReplicaStore(connection, self.apply), HttpFeed(feed_url))
        self._stopping = Flag()
        self._thread = Thread(target=self._run)

    @staticmethod
    def apply(connection: sqlite3.Connection, fact: Fact) -> None:
        connection.execute("INSERT INTO seen (sku, version, id) VALUES (?, ?, ?)", (fact.sku, fact.version, fact.id))
        qty = {"Allocated": 1, "Deallocated": -1}.get(fact.type, 0) * int(fact.data.get("qty", 0))  # type: ignore[call-overload]  # a number, as the schema has it
        connection.execute(
            "INSERT INTO promised VALUES (?, ?) ON CONFLICT (sku) DO UPDATE SET qty = qty + excluded.qty",
            (fact.sku, qty),
        )

    def _run(self) -> None:
        self.replica.run(self.lossy.receive, self._stopping, check_seconds=0.1, transport_errors=(Unavailable,))

    def __enter__(self) -> "Consumer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def ask(self, query: str) -> list[tuple[object, ...]]:
        return sqlite3.connect(self.file).execute(query).fetchall()

    def wait_for(self, events: int) -> Counts:
        pause = Flag()
        for _ in range(int(LONG_SECONDS / 0.02)):
            counts = self.replica.counts()
            if counts.by_transport + counts.by_feed >= events:
                return counts
            pause.wait(0.02)
        raise AssertionError(f"{self.replica.counts()}, of {events} events")


@pytest.fixture
def source(sqlite_url: str, redis_url: str) -> Iterator[Application]:
    publish_to = redis_url.replace("redis://", "redis+pubsub://")
    application = bootstrap(Settings(database_url=sqlite_url, publish_to=publish_to))
    application.worker.start()
    yield application
    application.close()


@pytest.fixture
def feed_url(source: Application) -> Iterator[str]:
    """The service's HTTP side."""
    server = make_server(LOOPBACK, 0, create_app(source), threaded=True)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://{LOOPBACK}:{server.server_port}"
    server.shutdown()
    thread.join()


def a_day(dice: random.Random, orders: int) -> Iterator[list[Command]]:
    """Groups of commands as a shop sends them."""
    yield [CreateBatch(f"batch-{sku}", sku, 200) for sku in SKUS]
    made: list[tuple[str, str]] = []
    for n in range(0, orders, 10):
        group: list[Command] = []
        for m in range(n, n + 10):
            sku = dice.choice(SKUS)
            made.append((f"order-{m}", sku))
            group.append(Allocate(f"order-{m}", sku, dice.randint(1, 9)))
        if dice.random() < 0.3:
            group.append(Deallocate(*made.pop(dice.randrange(len(made)))))
        yield group


def trade(source: Application, orders: int, seed: int, halfway: Callable[[], object] = lambda: None) -> int:
    """Answers how many events the log has thereafter. Goes no faster than the worker publishes: a transport that is
    slower than the grace is taken for one that loses."""
    groups, pause = list(a_day(random.Random(seed), orders)), Flag()
    for n, group in enumerate(groups):
        if n == len(groups) // 2:
            halfway()
        for answer in source.bus.handle_many([source.bus.envelope(command) for command in group]):
            answer.unwrap()
        while (published := the_publisher(source)).lag_events > MOST_BEHIND:
            pause.wait(0.002)
    return published.head


def the_publisher(source: Application) -> Cursor:
    [cursor] = [c for c in source.subscriptions.cursors() if c.subscription.startswith("publish_facts:")]
    return cursor


def equals(consumer: Consumer, source: Application) -> None:
    """The consumer saw every event of every sku once and in order, and what it made of them is what is."""
    seen = consumer.ask("SELECT sku, version, id FROM seen ORDER BY sku, n")
    logged = [e for sku in sorted(SKUS) for e in source.views.events((), 10_000, sku).events]
    assert seen == [(e.key, e.version, e.id) for e in logged]
    for sku, qty in consumer.ask("SELECT sku, qty FROM promised"):
        product = source.views.product(str(sku))
        assert product is not None
        assert qty == sum(batch.qty - batch.available for batch in product.batches)


def test_a_tenth_is_lost_and_nothing_is_missing(
    source: Application, feed_url: str, redis_url: str, tmp_path: Path, measured: Callable[[str], None]
) -> None:
    seed = 1
    with Consumer(redis_url, feed_url, tmp_path / "own.db", share=0.1, seed=seed) as consumer:
        events = trade(source, 1000, seed)
        counts = consumer.wait_for(events)
    equals(consumer, source)
    assert consumer.lossy.thrown > events * 0.05
    assert counts.by_transport + counts.by_feed == events
    assert counts.by_feed <= 0.2 * events
    assert counts.fetched <= 0.2 * events
    measured(
        f"replica over Redis pub/sub, seed {seed}: {events:,} events, {consumer.lossy.thrown / events:.1%} of the "
        f"messages thrown away; {counts.by_feed / events:.1%} came by the feed, in {counts.questions} questions"
    )


def test_a_connection_that_is_cut_loses_nothing(
    source: Application, feed_url: str, redis_url: str, tmp_path: Path
) -> None:
    def cut() -> None:
        connect(redis_url).client_kill_filter(_type="pubsub")

    with Consumer(redis_url, feed_url, tmp_path / "own.db", share=0.0, seed=0) as consumer:
        events = trade(source, 300, seed=3, halfway=cut)
        consumer.wait_for(events)
    equals(consumer, source)
