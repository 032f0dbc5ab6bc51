"""The variants of echo and floor that were tried, measured again, so that "the fastest" can be checked."""

from contextlib import ExitStack
from functools import partial

from benchmarks import bulk, load, over_http, seeding, servers
from benchmarks.databases import Databases, Kind
from benchmarks.floor import Floor, Line
from benchmarks.measure import Table, median, spread_of, take_turns

ECHOES = {
    "Flask's JSON, 2 x 16": ("benchmarks.echo:by_flask", 2, 16),
    "msgspec, 2 x 16": ("benchmarks.echo:by_msgspec", 2, 16),
    "msgspec past Flask's reading, 2 x 16": ("benchmarks.echo:off_the_server", 2, 16),
    "the same, switching threads every 0.5 ms": ("benchmarks.echo:switching", 2, 16),
    "the same, 2 x 4": ("benchmarks.echo:off_the_server", 2, 4),
    "the same, 1 x 16": ("benchmarks.echo:off_the_server", 1, 16),
    "no Flask, 2 x 16": ("benchmarks.echo:bare", 2, 16),
}


def tables(databases: Databases, kinds: tuple[Kind, ...], http: over_http.Size, size: bulk.Size) -> list[Table]:
    """Runs everything; answers a table of echoes and one of floors for each kind of database."""
    return [_echoes(http), *(_floors(databases, kind, size) for kind in kinds)]


def _echoes(size: over_http.Size) -> Table:
    with ExitStack() as running:
        subjects = {
            name: partial(over_http.echo, running.enter_context(servers.application(*how)), size)
            for name, how in ECHOES.items()
        }
        samples: dict[str, list[load.Load]] = take_turns(subjects, size.rounds, "variants, echo")
    rows: list[list[str | float | int | None]] = []
    for name, runs in samples.items():
        rates = [run.per_second for run in runs]
        rows.append([name, median(rates), spread_of(rates), median([run.latency_seconds(0.99) for run in runs]) * 1e3])
    header = ["echo, workers x threads", "per second", "lowest to highest", "p99 ms"]
    return Table("variants-echo", "Variants of the echo", header, rows)


def _floors(databases: Databases, kind: Kind, size: bulk.Size) -> Table:
    columns: list[dict[str, float]] = []
    workloads = bulk.workloads((size.rounds + 1) * size.lines)
    for name, make in workloads.items():
        columns.append(_rates(databases, kind, make(), size, f"variants, {kind}, {name}"))
    rows: list[list[str | float | int | None]] = [
        [variant, *(column[variant] for column in columns)] for variant in seeding.floor_of(kind).VARIANTS
    ]
    return Table(f"variants-{kind}", f"Variants of the floor, {kind}, lines/s", ["floor", *workloads], rows)


def _rates(databases: Databases, kind: Kind, lines: list[Line], size: bulk.Size, part: str) -> dict[str, float]:
    with ExitStack() as stack:
        subjects = {}
        for name, open_store in seeding.floor_of(kind).VARIANTS.items():
            database = bulk.stocked(stack, databases, kind, lines)
            store = open_store(database.target)
            stack.callback(store.close)
            subjects[name] = partial(bulk.one_round, Floor(store).allocate, lines, size.lines, [])
        samples = take_turns(subjects, size.rounds + 1, part)
    return {name: median(rates[1:]) for name, rates in samples.items()}
