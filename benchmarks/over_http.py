"""Allocations over HTTP beside the echo: 32 clients, spread over 1,000 skus, and all on one."""

from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import count

from benchmarks import load, orders, seeding, servers
from benchmarks.databases import Database, Databases, Kind
from benchmarks.measure import Table, median, spread_of, take_turns

CLIENTS = 32
SKUS = 1_000
PIECES = 2**31 - 1
WORKERS: dict[Kind, int] = {"sqlite": 1, "postgres": 2}
"""What the service chooses by itself on two processors: SQLite has one serving process."""


@dataclass(frozen=True, slots=True)
class Size:
    rounds: int = 3
    seconds: float = 5.0
    warm_up_seconds: float = 1.0


def tables(databases: Databases, kinds: tuple[Kind, ...], size: Size) -> list[Table]:
    """Runs everything; answers one table."""
    with ExitStack() as running:
        flask = running.enter_context(servers.application("benchmarks.echo:app"))
        bare = running.enter_context(servers.application("benchmarks.echo:bare"))
        subjects = {"echo": partial(echo, flask, size), "echo without Flask": partial(echo, bare, size)}
        for kind in kinds:
            database = running.enter_context(databases.fresh(kind))
            stock(database)
            port = running.enter_context(servers.service(database, WORKERS[kind]))
            subjects[f"{kind}, spread"] = partial(allocate, port, "spread", size)
            subjects[f"{kind}, hot"] = partial(allocate, port, "hot", size)
        samples = take_turns(subjects, size.rounds, "http")
    rates = {name: [run.per_second for run in runs] for name, runs in samples.items()}
    rows: list[list[str | float | int | None]] = []
    for name, runs in samples.items():
        rate, kind = median(rates[name]), name.split(",")[0]
        beside_spread = rate / median(rates[f"{kind}, spread"]) if name.endswith("hot") else None
        rows.append(
            [
                name,
                rate,
                spread_of(rates[name]),
                rate / median(rates["echo"]),
                beside_spread,
                median([run.latency_seconds(0.5) for run in runs]) * 1e3,
                median([run.latency_seconds(0.99) for run in runs]) * 1e3,
                median([run.cpu_share for run in runs]),
            ]
        )
    header = ["HTTP", "per second", "lowest to highest", "of echo", "of spread", "median ms", "p99 ms", "load's CPU"]
    workers = ", ".join(f"{kind} {WORKERS[kind]} x {servers.THREADS}" for kind in kinds)
    notes = [
        f"{CLIENTS} keep-alive clients in a closed loop; {size.rounds} rounds of {size.seconds:g} s, alternating; "
        f"medians. granian, workers x threads: echo 2 x {servers.THREADS}, {workers}. Each allocation is one POST "
        '/v1/allocations, answered 201, committed and synced. "load\'s CPU": what the clients used of one processor.',
        "Aims, PostgreSQL: 0.22 of echo if spread, 0.20 if hot; p99 25 ms; hot at least 0.8 of spread.",
    ]
    return [Table("http", "Allocations over HTTP", header, rows, notes)]


def echo(port: int, size: Size, number: int) -> load.Load:
    bodies = (body(line) for line in orders.spread(f"echo-{number}", SKUS))
    requests = load.posts("/echo", bodies)
    return load.run(
        port, requests, seconds=size.seconds, warm_up_seconds=size.warm_up_seconds, connections=CLIENTS, expected={200}
    )


def allocate(port: int, which: str, size: Size, number: int | str, clients: int = CLIENTS) -> load.Load:
    """Order lines `spread` over the skus, or all of one that is `hot`."""
    lines = orders.spread(f"s{number}", SKUS) if which == "spread" else orders.hot(f"h{number}")
    requests = load.posts("/v1/allocations", (body(line) for line in lines))
    return load.run(
        port, requests, seconds=size.seconds, warm_up_seconds=size.warm_up_seconds, connections=clients, expected={201}
    )


def body(line: orders.Line) -> bytes:
    """What is posted for an order line."""
    return b'{"orderid": "%b", "sku": "%b", "qty": %d, "if_short": "refuse"}' % (
        line[0].encode(),
        line[1].encode(),
        line[2],
    )


def stock(database: Database) -> None:
    """Plenty of every sku, in one batch on hand and one that arrives later."""
    skus = [
        next(orders.hot(""))[1],
        *(sku for (_, sku, _), _ in zip(orders.spread("", SKUS), range(SKUS), strict=False)),
    ]
    with seeding.application(database) as app:
        numbers = count()
        seeding.create_batches(
            app, [(f"batch-{next(numbers)}", sku, PIECES, eta) for sku in skus for eta in (None, orders.LATER)]
        )
    database.analyze()
