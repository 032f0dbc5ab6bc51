"""A replica ends equal to its source, whatever the transport does, and fetches no more than was lost."""

from __future__ import annotations

import random
import sqlite3
import tracemalloc
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Event as Flag
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allocation.replica import (
    AnotherLog,
    Fact,
    Feed,
    FeedUnavailable,
    MemoryReplicaStore,
    NotAFact,
    OutOfTurn,
    Replica,
    ReplicaStore,
    SqliteReplicaStore,
    fact_from,
    message_from,
)
from allocation.replica.facts import BEYOND
from allocation.replica.feed import Message
from allocation.replica.marks import MOST_RANGES, Marks
from tests.thoroughness import examples

GRACE_SECONDS = 2.0
Log = list[list[dict[str, Any]]]


class Source(Feed):
    """An allocation service: the log, by partition, and its feed. `away`: it does not answer. `lags`: so many events
    at the end of each partition it does not know yet, as a copy that follows."""

    def __init__(self, partitions: int = 1) -> None:
        self.log: Log = [[] for _ in range(partitions)]
        self.versions: dict[str, int] = {}
        self.away, self.lags = False, 0
        self.asked: list[str] = []

    def happens(self, sku: str) -> dict[str, Any]:
        """The next event of a sku, as its message."""
        partition = sum(map(ord, sku)) % len(self.log)
        log = self.log[partition]
        version = self.versions[sku] = self.versions.get(sku, 0) + 1
        message = {
            "specversion": "1.0",
            "id": f"{sku}-{version}",
            "source": "/allocation",
            "type": "allocation.BatchCreated",
            "subject": sku,
            "time": "2031-03-01T12:00:00Z",
            "data": {"ref": f"b-{sku}-{version}", "sku": sku, "qty": 1, "eta": None},
            "partition": partition,
            "sequence": f"{len(log) + 1:020d}",
            "productversion": version,
        }
        log.append(message)
        return message

    def known(self) -> Log:
        return [log[: len(log) - self.lags] for log in self.log]

    def behind_version(self, sku: str, version: int, limit: int) -> Sequence[Message]:
        self.asked.append(f"{sku} behind version {version}: {limit}")
        return self.answer([e for log in self.known() for e in log if e["subject"] == sku][version : version + limit])

    def behind(self, positions: Mapping[int, int], limit: int) -> Sequence[Message]:
        self.asked.append(f"behind {dict(positions)}: {limit}")
        for partition, seq in positions.items():
            if len(self.log[partition]) < seq < BEYOND:
                raise AnotherLog(f"no place {partition}-{seq}")
        return self.answer([e for p, log in enumerate(self.known()) for e in log[positions.get(p, 0) :]][:limit])

    def answer(self, events: Sequence[Message]) -> Sequence[Message]:
        if self.away:
            raise FeedUnavailable("nobody there")
        return events


@dataclass
class Consumer:
    """A program with a replica: its own data are the facts, in the order in which they were applied."""

    source: Source
    store: ReplicaStore = field(init=False)
    replica: Replica = field(init=False)
    time: float = 1000.0
    applied: list[Fact] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.store = MemoryReplicaStore(self.applied.append)
        self.start()

    def start(self) -> None:
        """The program comes back: of the replica only the store is left."""
        self.replica = Replica(self.store, self.source, GRACE_SECONDS, lambda: self.time)

    def versions(self, sku: str) -> list[int]:
        return [fact.version for fact in self.applied if fact.sku == sku]

    def wait(self) -> None:
        """A grace passes, with the checks that a program makes."""
        for _ in range(2):
            self.replica.check()
            self.time += GRACE_SECONDS
        self.replica.check()

    def equals_the_source(self) -> None:
        for sku, version in self.source.versions.items():
            assert self.versions(sku) == list(range(1, version + 1)), sku
        told = {(f.partition, f.seq): f.id for f in self.applied}
        assert told == {(e["partition"], int(e["sequence"])): e["id"] for log in self.source.log for e in log}


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def consumer(source: Source) -> Consumer:
    return Consumer(source)


# --- one product --------------------------------------------------------------------------------------------------


def test_what_arrives_in_order_is_applied_and_nobody_is_asked(source: Source, consumer: Consumer) -> None:
    assert [consumer.replica.take(source.happens("A")) for _ in range(5)] == [1] * 5
    assert consumer.versions("A") == [1, 2, 3, 4, 5]
    assert consumer.applied[4] == Fact(
        "A", 5, 0, 5, "A-5", "BatchCreated", "2031-03-01T12:00:00Z", source.log[0][4]["data"]
    )
    assert source.asked == []


def test_a_missing_version_is_fetched_at_once_and_exactly_it(source: Source, consumer: Consumer) -> None:
    messages = [source.happens("A") for _ in range(6)]
    consumer.replica.take(messages[0])
    assert consumer.replica.take(messages[3]) == 3
    assert source.asked == ["A behind version 1: 2"]
    assert consumer.versions("A") == [1, 2, 3, 4]
    counts = consumer.replica.counts()
    assert (counts.by_transport, counts.by_feed, counts.fetched, counts.gaps) == (2, 2, 2, 1)


def test_duplicates_are_dropped(source: Source, consumer: Consumer) -> None:
    messages = [source.happens("A") for _ in range(4)]
    for message in [messages[0], messages[0], messages[2], messages[1], messages[2], messages[3], messages[0]]:
        consumer.replica.take(message)
    assert consumer.versions("A") == [1, 2, 3, 4]
    assert consumer.replica.counts().duplicates == 4


def test_whoever_only_ever_catches_up_keeps_no_more_each_time(source: Source, consumer: Consumer) -> None:
    source.happens("A")
    tracemalloc.start()
    for _ in range(50):
        consumer.replica.catch_up()
    before, _ = tracemalloc.get_traced_memory()
    for _ in range(500):
        consumer.replica.catch_up()
        source.asked.clear()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert after - before < 10_000


def test_a_lost_tail_is_fetched_after_a_grace_and_exactly_it(source: Source, consumer: Consumer) -> None:
    messages = [source.happens("A") for _ in range(5)]
    for message in messages[:3]:
        consumer.replica.take(message)
    assert consumer.replica.check() == 0
    assert consumer.versions("A") == [1, 2, 3], "the others may be on their way"
    consumer.time += GRACE_SECONDS
    assert consumer.replica.check() == 2
    assert consumer.versions("A") == [1, 2, 3, 4, 5]
    assert consumer.replica.counts().fetched == 2
    assert consumer.replica.check() == 0


def test_a_product_of_which_nothing_came_is_found_by_the_numbers_of_the_log(source: Source, consumer: Consumer) -> None:
    for n in range(9):
        message = source.happens("LOST" if n in (3, 4, 7) else "A")
        if message["subject"] == "A":
            consumer.replica.take(message)
    consumer.replica.check()
    consumer.replica.take(source.happens("A"))
    consumer.time += GRACE_SECONDS / 2
    consumer.replica.check()
    assert consumer.versions("LOST") == []
    consumer.time += GRACE_SECONDS / 2
    consumer.replica.take(source.happens("A"))
    consumer.replica.check()
    assert consumer.versions("LOST") == [1, 2, 3]
    assert consumer.replica.counts().fetched == 3
    assert "behind {0: 3}: 2" in source.asked
    assert "behind {0: 7}: 1" in source.asked


def test_a_transport_that_is_busy_is_not_asked_after_what_is_on_its_way(source: Source, consumer: Consumer) -> None:
    on_their_way: list[dict[str, Any]] = []
    for n in range(50):
        on_their_way.append(source.happens(f"SKU-{n % 5}"))
        if len(on_their_way) > 10:
            consumer.replica.take(on_their_way.pop(0))
        consumer.time += GRACE_SECONDS / 4
        consumer.replica.check()
    assert consumer.replica.counts().fetched <= 10, "before the first one came it had been quiet"


def test_a_first_copy_comes_in_pages(source: Source, consumer: Consumer) -> None:
    for n in range(2500):
        source.happens(f"SKU-{n % 100}")
    assert consumer.replica.catch_up() == 2500
    assert len(source.asked) == 3
    consumer.equals_the_source()


# --- when things fail ---------------------------------------------------------------------------------------------


def test_while_the_feed_is_away_facts_wait_for_those_before_them(source: Source, consumer: Consumer) -> None:
    messages = [source.happens("A") for _ in range(7)]
    source.away = True
    for n in (0, 3, 5):
        consumer.replica.take(messages[n])
    assert consumer.versions("A") == [1]
    assert len(source.asked) == 1, "it is not asked again and again"
    with pytest.raises(FeedUnavailable):
        consumer.replica.check()
    source.away, source.asked = False, []
    consumer.time += GRACE_SECONDS
    consumer.replica.take(messages[6])
    assert consumer.versions("A") == [1, 2, 3, 4, 5, 6, 7]
    assert source.asked == ["A behind version 1: 2", "A behind version 4: 1"]
    assert consumer.replica.counts().by_feed == 3


def test_a_feed_that_follows_itself_is_asked_again(source: Source, consumer: Consumer) -> None:
    messages = [source.happens("A") for _ in range(4)]
    source.lags = 2
    consumer.replica.take(messages[3])
    assert consumer.versions("A") == [1, 2]
    source.lags = 0
    assert consumer.replica.check() == 2
    assert consumer.versions("A") == [1, 2, 3, 4]


def test_a_log_that_is_another_one_ends_it(source: Source, consumer: Consumer) -> None:
    """As after a restore from a backup: what this replica has seen is gone, and its numbers are given anew."""
    for _ in range(3):
        consumer.replica.take(source.happens("A"))
    del source.log[0][1:]
    with pytest.raises(AnotherLog):
        consumer.replica.catch_up()
    with pytest.raises(AnotherLog):
        consumer.wait()
    with pytest.raises(AnotherLog):
        consumer.replica.run(lambda _: [], Flag())
    assert consumer.versions("A") == [1, 2, 3]


def test_what_the_consumer_cannot_apply_is_not_passed(source: Source) -> None:
    applied: list[Fact] = []
    fails = iter([True])

    def apply(fact: Fact) -> None:
        if fact.version == 3 and next(fails, False):
            raise OSError("the disk is full")
        applied.append(fact)

    replica = Replica(MemoryReplicaStore(apply), source)
    messages = [source.happens("A") for _ in range(4)]
    replica.take(messages[0])
    with pytest.raises(OSError, match="disk"):
        replica.take(messages[3])
    assert replica.take(messages[3]) == 2
    assert [fact.version for fact in applied] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "change",
    [
        {"specversion": None, "position": None},
        {"subject": ""},
        {"subject": 7},
        {"productversion": 0},
        {"productversion": True},
        {"productversion": "1.0"},
        {"productversion": "\u0661"},
        {"partition": -1},
        {"sequence": None},
        {"type": "allocation.StockLevel"},
        {"type": "com.example.BatchCreated"},
        {"data": [1]},
    ],
)
def test_a_message_without_a_fact_is_refused_and_changes_nothing(
    source: Source, consumer: Consumer, change: dict[str, Any]
) -> None:
    message = source.happens("A")
    wrong = {name: value for name, value in (message | change).items() if value is not None}
    with pytest.raises(NotAFact):
        consumer.replica.take(wrong)
    assert consumer.replica.take(message) == 1


def test_bytes_that_are_no_object_are_refused() -> None:
    for body in (b"", b"{", b"[]", b"\xff", b"[" * 100_000):
        with pytest.raises(NotAFact):
            message_from(body)


def test_a_fact_comes_also_as_redis_channels_and_as_headers_have_it(source: Source) -> None:
    message = source.happens("A")
    plain = {
        **message["data"],
        "id": "A-1",
        "type": "BatchCreated",
        "time": message["time"],
        "position": "0-1",
        "version": 1,
        "correlation_id": "c",
        "causation_id": None,
    }
    as_text = message | {"productversion": "1", "partition": "0"}
    assert fact_from(plain) == fact_from(as_text) == fact_from(message)


def test_the_loop_catches_up_takes_checks_and_goes_on_after_trouble(source: Source) -> None:
    applied: list[Fact] = []
    replica = Replica(MemoryReplicaStore(applied.append), source, grace_seconds=0.0)
    stopping = Flag()
    for _ in range(3):
        source.happens("A")
    arriving: list[Any] = [b"no JSON", source.happens("B"), ConnectionResetError("gone"), source.happens("B"), b"[]"]
    arriving.append(source.happens("C"))

    def receive(_wait_seconds: float) -> Iterator[Any]:
        while arriving:
            arrived = arriving.pop(0)
            if isinstance(arrived, Exception):
                raise arrived
            yield arrived
        source.happens("LOST")
        if source.versions["LOST"] == 3:
            stopping.set()

    replica.run(receive, stopping, check_seconds=0.0)
    assert replica.counts().refused == 2
    assert {fact.sku: fact.version for fact in applied} == {"A": 3, "B": 2, "C": 1, "LOST": 3}


# --- SQLite -------------------------------------------------------------------------------------------------------


class Crash(Exception):
    pass


def sqlite_store(file: str, crashes: Iterator[bool]) -> SqliteReplicaStore:
    """A consumer that keeps the ids of what it applied; now and then it dies after it has written."""
    connection = sqlite3.connect(file, isolation_level=None)
    connection.execute("PRAGMA synchronous=OFF")
    connection.execute("CREATE TABLE IF NOT EXISTS applied (n INTEGER PRIMARY KEY, sku TEXT, version INTEGER)")

    def apply(connection: sqlite3.Connection, fact: Fact) -> None:
        connection.execute("INSERT INTO applied (sku, version) VALUES (?, ?)", (fact.sku, fact.version))
        if next(crashes, False):
            raise Crash

    return SqliteReplicaStore(connection, apply)


def test_data_versions_and_marks_are_one_transaction(source: Source, tmp_path: Any) -> None:
    file = str(tmp_path / "own.db")
    messages = [source.happens("A") for _ in range(3)]
    store = sqlite_store(file, iter([False, False, True]))
    replica = Replica(store, source)
    replica.take(messages[0])
    with pytest.raises(Crash):
        replica.take(messages[2])
    again = sqlite_store(file, iter([]))
    assert (again.version("A"), dict(again.marks())) == (1, {0: "[1,[]]"})
    assert Replica(again, source).take(messages[2]) == 2
    rows = sqlite3.connect(file).execute("SELECT version FROM applied ORDER BY n").fetchall()
    assert rows == [(1,), (2,), (3,)]


def test_a_store_that_another_one_writes_to_refuses(source: Source, tmp_path: Any) -> None:
    stores = [sqlite_store(str(tmp_path / "own.db"), iter([])) for _ in range(2)]
    fact = fact_from(source.happens("A"))
    stores[0].write([fact], {})
    for store in (*stores, MemoryReplicaStore(lambda _: None)):
        with pytest.raises(OutOfTurn):
            store.write([fact_from(source.happens("A")), fact], {})


# --- marks --------------------------------------------------------------------------------------------------------


@examples(100)
@given(st.lists(st.integers(1, 12), max_size=20), st.integers(0, 14), st.integers(0, 14))
def test_marks_know_what_was_seen_and_where_the_holes_are(seqs: list[int], behind: int, until: int) -> None:
    marks = Marks()
    for seq in seqs:
        marks.add(seq)
    seen = set(seqs)
    assert [seq for seq in range(1, 14) if marks.has(seq)] == sorted(seen)
    assert marks.highest == max(seen, default=0)
    assert Marks.from_text(marks.text()) == marks
    missing = [seq for seq in range(behind + 1, until + 1) if seq not in seen]
    hole = marks.hole(behind, until)
    if not missing:
        assert hole is None
    else:
        first = missing[0]
        last = next(seq for seq in range(first, until + 2) if seq in seen or seq == until + 1) - 1
        assert hole == (first, last)


def test_marks_are_bounded_and_forget_the_newest_only() -> None:
    marks = Marks()
    for seq in range(2, 10 * MOST_RANGES, 2):
        marks.add(seq)
    assert len(marks.above) == MOST_RANGES
    assert marks.highest == 2 * MOST_RANGES
    assert marks.hole(0, 10**6) == (1, 1)


# --- any transport ------------------------------------------------------------------------------------------------


@dataclass
class Transport:
    """Loses, doubles and shuffles, by a seed."""

    dice: random.Random
    loss: float
    doubled: float
    spread: int
    on_its_way: list[dict[str, Any]] = field(default_factory=list)

    def send(self, message: dict[str, Any]) -> None:
        for _ in range(1 + (self.dice.random() < self.doubled)):
            if self.dice.random() >= self.loss:
                place = len(self.on_its_way) - self.dice.randint(0, self.spread)
                self.on_its_way.insert(max(place, 0), message)


@examples(50)
@given(
    seed=st.integers(0, 2**32),
    partitions=st.integers(1, 3),
    skus=st.integers(1, 8),
    loss=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    doubled=st.sampled_from([0.0, 0.3]),
    spread=st.sampled_from([0, 3, 100]),
    away=st.sampled_from([0.0, 0.3]),
    restarts=st.sampled_from([0.0, 0.1]),
    fails=st.sampled_from([0.0, 0.1]),
)
def test_a_replica_ends_equal_to_its_source(
    seed: int,
    partitions: int,
    skus: int,
    loss: float,
    doubled: float,
    spread: int,
    away: float,
    restarts: float,
    fails: float,
) -> None:
    dice = random.Random(seed)
    source = Source(partitions)
    consumer = Consumer(source)
    applying = consumer.applied.append

    def apply(fact: Fact) -> None:
        if dice.random() < fails:
            raise Crash
        applying(fact)

    consumer.store = MemoryReplicaStore(apply)
    consumer.start()
    transport = Transport(dice, loss, doubled, spread)
    for _ in range(80):
        transport.send(source.happens(f"SKU-{dice.randrange(skus)}"))
        source.away = dice.random() < away
        source.lags = dice.choice([0, 0, 3])
        consumer.time += dice.choice([0.0, 0.1, 1.5])
        if dice.random() < restarts:
            consumer.start()
        try:
            if transport.on_its_way and dice.random() < 0.9:
                consumer.replica.take(transport.on_its_way.pop(0))
            if dice.random() < 0.2:
                consumer.replica.check()
        except (Crash, FeedUnavailable):
            pass
        for sku in source.versions:
            assert consumer.versions(sku) == list(range(1, len(consumer.versions(sku)) + 1))
    source.away, source.lags = False, 0
    fails = 0.0
    for message in transport.on_its_way:
        consumer.replica.take(message)
    consumer.wait()
    consumer.equals_the_source()
    assert consumer.replica.take(source.happens("SKU-0")) == 1, "nothing is missing any more"


@pytest.mark.parametrize("seed", range(3))
def test_what_the_feed_gives_is_about_what_was_lost(seed: int) -> None:
    """A tenth is lost, on a transport that otherwise keeps order and is never quiet until its end."""
    dice, source = random.Random(seed), Source(2)
    consumer = Consumer(source)
    sent, lost = 2000, 0
    for _ in range(sent):
        message = source.happens(f"SKU-{dice.randrange(40)}")
        if dice.random() < 0.1:
            lost += 1
        else:
            consumer.replica.take(message)
        consumer.time += 0.01
        if dice.random() < 0.01:
            consumer.replica.check()
    consumer.wait()
    consumer.equals_the_source()
    counts = consumer.replica.counts()
    assert counts.by_transport + counts.by_feed == sent
    assert counts.by_feed == lost
    assert counts.fetched <= lost * 1.05
