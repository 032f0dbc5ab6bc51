"""After the commit, over Redis Streams: how long until a consumer has it, and how quickly a backlog drains.

The consumer is a thread of this process that waits with `XREAD BLOCK`. A latency is from the event's own `time`, which
the service takes before it commits, to the arrival, by the clock of the one machine: committing is part of it.
"""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count, islice
from threading import Event as Flag
from threading import Thread

import msgspec
import redis

from allocation.adapters.brokers.redis_streams import stream_of
from allocation.service_layer.broker import FACTS
from benchmarks import load, orders, seeding, servers
from benchmarks.databases import Database, Databases, Kind
from benchmarks.measure import Table, median, progress, spread_of
from benchmarks.over_http import PIECES, WORKERS
from tests.servers.redis import PrivateRedis

NAMESPACE, SHARDS, SKUS = "bench", 4, 1_000
FLOOR_PAGE = 1_000
LONG_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Size:
    rounds: int = 3
    seconds: float = 10.0
    per_second: float = 500.0
    backlog: int = 50_000


class Redis(PrivateRedis):
    """As docker-compose.yml has it: it keeps everything, and syncs once a second."""

    def __init__(self) -> None:
        super().__init__(durable=True)

    def command(self) -> list[str]:
        return ["everysec" if word == "always" else word for word in super().command()]


def tables(databases: Databases, kinds: tuple[Kind, ...], size: Size) -> list[Table]:
    """Runs everything; answers two tables."""
    with Redis() as server:
        return [_latency(databases, kinds, size, server), _drain(databases, kinds, size, server)]


def _settings(server: Redis) -> dict[str, str]:
    return {
        "ALLOCATION_PUBLISH_TO": f"{server.url.replace(':', '+streams:', 1)}?shards={SHARDS}",
        "ALLOCATION_REDIS_URL": server.url,
        "ALLOCATION_NAMESPACE": NAMESPACE,
    }


# Latency


class Listener(Thread):
    """Reads every fact as it comes; `latencies` by the event's order line."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self._client = redis.Redis.from_url(url)
        self.latencies: dict[str, float] = {}
        self.stopping = Flag()

    def run(self) -> None:
        last: dict = {stream_of(NAMESPACE, FACTS, shard): "0" for shard in range(SHARDS)}
        decode = msgspec.json.Decoder(_Told).decode
        while not self.stopping.is_set():
            for stream, entries in self._client.xread(last, block=200):  # type: ignore[union-attr]  # no future here
                arrived = time.time()
                last[stream.decode()] = entries[-1][0]
                for _, fields in entries:
                    told = decode(fields[b"event"])
                    self.latencies[told.data.orderid] = arrived - told.time.timestamp()
        self._client.close()

    def wait_for(self, orderid: str) -> None:
        deadline = time.monotonic() + LONG_SECONDS
        while orderid not in self.latencies:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{orderid} was never received")
            time.sleep(0.01)


class _Line(msgspec.Struct):
    orderid: str = ""


class _Told(msgspec.Struct):
    time: datetime
    data: _Line = field(default_factory=_Line)


def _latency(databases: Databases, kinds: tuple[Kind, ...], size: Size, server: Redis) -> Table:
    rows: list[list[str | float | int | None]] = []
    for kind in kinds:
        progress(f"streams: latency on {kind}")
        with ExitStack() as running:
            database = running.enter_context(databases.fresh(kind))
            _stock(database)
            server.empty()
            port = running.enter_context(servers.service(database, WORKERS[kind], _settings(server)))
            if kind == "postgres":
                running.enter_context(servers.worker(database, _settings(server)))
            listener = running.enter_context(_listening(server))
            _warm_up(port, listener)
            runs = [_round(port, listener, number, size) for number in range(size.rounds)]
        rows.append(
            [
                f"{kind}, {'allocation worker' if kind == 'postgres' else 'embedded'}",
                median([run.per_second for run in runs]),
                median([run.at(0.5) for run in runs]) * 1e3,
                median([run.at(0.99) for run in runs]) * 1e3,
                max(run.at(1.0) for run in runs) * 1e3,
                median([run.answered_seconds for run in runs]) * 1e3,
            ]
        )
    header = ["commit to consumer", "allocations/s", "median ms", "p99 ms", "longest ms", "HTTP median ms"]
    notes = [
        f"{size.per_second:g} POST /v1/allocations a second over {SKUS:,} skus, paced, {size.rounds} rounds of "
        f"{size.seconds:g} s; medians of the rounds. Every allocation arrived. Measured from the event's `time`, "
        "taken before the commit, to the end of the XREAD, by one clock; the load and the consumer are threads of one "
        "process on the same processors.",
        "Aims: median below 20 ms, p99 below 100 ms.",
    ]
    return Table("streams", "Commit to consumer over Redis Streams", header, rows, notes)


@dataclass(frozen=True, slots=True)
class _Run:
    per_second: float
    latencies: list[float]
    answered_seconds: float

    def at(self, quantile: float) -> float:
        return self.latencies[min(len(self.latencies) - 1, int(quantile * len(self.latencies)))]


def _round(port: int, listener: Listener, number: int, size: Size) -> _Run:
    listener.latencies.clear()
    total = int(size.per_second * size.seconds)
    lines = islice(orders.spread(f"r{number}", SKUS), total)
    requests = load.posts("/v1/allocations", (_body(line) for line in lines))
    answered = load.paced(port, requests, per_second=size.per_second, seconds=size.seconds, expected={201})
    for n in range(total):
        listener.wait_for(f"r{number}-{n}")
    return _Run(answered.per_second, sorted(listener.latencies.values()), answered.latency_seconds(0.5))


def _warm_up(port: int, listener: Listener) -> None:
    """Until the worker tells what happens now: it has begun, and so have all the connections."""
    deadline = time.monotonic() + LONG_SECONDS
    for n in count():
        [request] = load.posts("/v1/allocations", iter([_body((f"warm-{n}", "SMALL-TABLE-0", 1))]))
        load.paced(port, iter([request]), per_second=1_000, seconds=0.001, connections=1, expected={201})
        time.sleep(0.05)
        if len(listener.latencies) > 20:
            return
        if time.monotonic() > deadline:
            raise RuntimeError("nothing was ever published")


def _body(line: orders.Line) -> bytes:
    return b'{"orderid": "%b", "sku": "%b", "qty": %d, "if_short": "refuse"}' % (
        line[0].encode(),
        line[1].encode(),
        line[2],
    )


@contextmanager
def _listening(server: Redis) -> Iterator[Listener]:
    listener = Listener(server.url)
    listener.start()
    try:
        yield listener
    finally:
        listener.stopping.set()
        listener.join()


def _stock(database: Database) -> None:
    with seeding.application(database) as app:
        rows = [(f"batch-{n}", f"SMALL-TABLE-{n}", PIECES, None) for n in range(SKUS)]
        seeding.create_batches(app, rows)
    database.analyze()


# Drain


def _drain(databases: Databases, kinds: tuple[Kind, ...], size: Size, server: Redis) -> Table:
    rows: list[list[str | float | int | None]] = []
    for kind in kinds:
        with databases.fresh(kind) as database:
            _stock(database)
            seeding.fill(database, islice(orders.spread("o", SKUS), size.backlog), f"streams: backlog on {kind}")
            database.analyze()
            by_worker, by_hand = [], []
            for number in range(size.rounds):
                progress(f"streams: drain on {kind}, round {number + 1} of {size.rounds}")
                rate, entries = _drained(database, server, size.backlog + SKUS, number)
                by_worker.append(rate)
                by_hand.append(_appended(server, entries))
        rate, floor = median(by_worker), median(by_hand)
        rows.append([f"{kind}, allocation worker", rate, spread_of(by_worker), floor, spread_of(by_hand), rate / floor])
    header = ["backlog to Redis", "events/s", "lowest to highest", "plain XADD/s", "lowest to highest", "ratio"]
    notes = [
        f"{size.backlog + SKUS:,} events in the log; {size.rounds} rounds; medians. `allocation worker` with every "
        "subscription from the beginning of the log: facts and stock levels to Redis, and the read models of a new "
        "database; the rate is that of the facts, from the first entry to the last by Redis' clock. Compared with the "
        f"same bytes by redis-py, XADD in pipelines of {FLOOR_PAGE:,}, nothing else. Redis as in docker-compose.yml: "
        "appendonly, synced once a second.",
        "Aim: at least 5,000 events/s.",
    ]
    return Table("streams-drain", "Drain of a backlog to Redis Streams", header, rows, notes)


Entries = list[tuple[str, dict[bytes, bytes]]]


def _drained(database: Database, server: Redis, events: int, number: int) -> tuple[float, Entries]:
    """The rate at which a worker told all of the log, and what it told."""
    server.empty()
    name = f"{NAMESPACE}{number}"
    settings = _settings(server) | {"ALLOCATION_NAMESPACE": name}
    scheme = settings["ALLOCATION_PUBLISH_TO"].partition(":")[0]
    streams = [stream_of(name, FACTS, shard) for shard in range(SHARDS)]
    _forget(database)
    options = [f"--from=publish_{what}:{scheme}=beginning" for what in ("facts", "stock_levels")]
    with redis.Redis.from_url(server.url) as client:
        with servers.worker(database, settings, *options):
            deadline = time.monotonic() + LONG_SECONDS
            while sum(client.xlen(stream) for stream in streams) < events:
                if time.monotonic() > deadline:
                    raise RuntimeError("the backlog was never drained")
                time.sleep(0.05)
        entries = [(stream, *entry) for stream in streams for entry in client.xrange(stream)]
    told = sorted(int(name.partition(b"-")[0]) for _, name, _ in entries)
    return len(told) / ((told[-1] - told[0]) / 1e3), [(stream, fields) for stream, _, fields in entries]


def _forget(database: Database) -> None:
    """No subscription was ever there: each round begins at the beginning."""
    from allocation.adapters.sql.engine import make_engine
    from allocation.adapters.sql.tables import lanes, movements, stock_levels, subscriptions

    engine = make_engine(database.url)
    with engine.connect() as connection:
        for table in (subscriptions, lanes, movements, stock_levels):
            connection.execute(table.delete())
    engine.dispose()


def _appended(server: Redis, entries: Entries) -> float:
    """The same bytes, appended by the plainest program."""
    server.empty()
    with redis.Redis.from_url(server.url) as client:
        started = time.perf_counter()
        for at in range(0, len(entries), FLOOR_PAGE):
            with client.pipeline(transaction=False) as trip:
                for stream, fields in entries[at : at + FLOOR_PAGE]:
                    trip.xadd(stream, fields)  # type: ignore[arg-type]  # dict is invariant
                trip.execute()
        return len(entries) / (time.perf_counter() - started)
