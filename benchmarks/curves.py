"""How cost goes with size: with the lines and the open batches of a sku, the number of skus, of clients, of commands
that share a transaction. A table for each, and with `--write` a plot in docs/plots/."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from time import perf_counter

from allocation.domain.commands import Allocate
from allocation.entrypoints.garbage import rare_collection
from allocation.service_layer.messagebus import MessageBus
from benchmarks import flat, orders, over_http, seeding, servers
from benchmarks.databases import Database, Databases, Kind
from benchmarks.measure import Table, median, progress, take_turns

PLOTS = Path(__file__).parents[1] / "docs" / "plots"
PIECES = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Size:
    lines: Sequence[int] = (10, 1_000, 100_000, 1_000_000)
    open_batches: Sequence[int] = (1, 10, 100, 1_000)
    skus: Sequence[int] = (1, 100, 10_000, 68_509)
    clients: Sequence[int] = (1, 2, 4, 8, 16, 32, 64, 128)
    groups: Sequence[int] = (1, 10, 100, 1_000, 5_000)
    repeats: int = 200
    bulk_lines: int = 10_000
    seconds: float = 3.0
    rounds: int = 3


@dataclass(frozen=True, slots=True)
class Curve:
    """`measure` answers a value for each of `places`, on one kind of database."""

    name: str
    title: str
    across: str
    value: str
    places: Sequence[int]
    measure: Callable[[Databases, Kind, Size], list[float]]


def curves(size: Size) -> list[Curve]:
    one, many = "one allocate, ms", "lines/s"
    return [
        Curve("lines", "One allocate on a sku with so many lines", "lines", one, size.lines, _over_lines),
        Curve(
            "batches",
            "One allocate on a sku with so many open batches",
            "batches",
            one,
            size.open_batches,
            _over_batches,
        ),
        Curve("skus", "Bulk, groups of 1,000, spread over so many skus", "skus", many, size.skus, _over_skus),
        Curve("groups", "Bulk, so many commands in a transaction", "commands", many, size.groups, _over_groups),
        Curve("clients", "HTTP, so many clients at a time", "clients", "allocations/s", size.clients, _over_clients),
    ]


def tables(databases: Databases, kinds: tuple[Kind, ...], size: Size) -> list[Table]:
    """Runs everything; answers a table for each curve."""
    made = []
    for curve in curves(size):
        progress(f"curves, {curve.name}")
        values = [curve.measure(databases, kind, size) for kind in kinds]
        rows: list[list[str | float | int | None]] = [
            [f"{place:,}", *of_kinds] for place, *of_kinds in zip(curve.places, *values, strict=True)
        ]
        header = [curve.across, *(f"{kind}, {curve.value}" for kind in kinds)]
        made.append(Table(f"curve-{curve.name}", curve.title, header, rows, [_note(curve, size)]))
    return made


def _note(curve: Curve, size: Size) -> str:
    if curve.value.startswith("one"):
        return f"A database for each point; {size.repeats} of each, alternating, each one synced transaction; medians."
    return f"{size.rounds} rounds, alternating; medians; each transaction synced."


# --- one command --------------------------------------------------------------------------------------------------


def _over_lines(databases: Databases, kind: Kind, size: Size) -> list[float]:
    return _one_command(databases, kind, size.lines, flat.lines_on_the_sku, size.repeats)


def _over_batches(databases: Databases, kind: Kind, size: Size) -> list[float]:
    return _one_command(databases, kind, size.open_batches, _batches_of_the_sku, size.repeats)


def _batches_of_the_sku(database: Database, count: int) -> None:
    with seeding.application(database) as app:
        seeding.create_batches(app, [(f"batch-{n}", flat.SKU, 1_000_000, orders.LATER) for n in range(count)])


def _one_command(
    databases: Databases, kind: Kind, places: Sequence[int], prepare: Callable[[Database, int], None], repeats: int
) -> list[float]:
    with ExitStack() as stack:
        pairs = []
        for place in places:
            database = stack.enter_context(databases.fresh(kind))
            prepare(database, place)
            database.analyze()
            pairs.append(flat.allocating(stack.enter_context(seeding.application(database))))
        return [seconds * 1e3 for seconds in flat.by_turns(pairs, repeats)]


# --- many ---------------------------------------------------------------------------------------------------------


def _over_skus(databases: Databases, kind: Kind, size: Size) -> list[float]:
    return _in_bulk(databases, kind, size, [(skus, 1_000) for skus in size.skus])


def _over_groups(databases: Databases, kind: Kind, size: Size) -> list[float]:
    return _in_bulk(databases, kind, size, [(1_000, group) for group in size.groups])


def _in_bulk(databases: Databases, kind: Kind, size: Size, cases: Sequence[tuple[int, int]]) -> list[float]:
    """Lines a second, for each (skus, commands in a transaction)."""
    with ExitStack() as stack, rare_collection():
        subjects = {}
        for skus, group in cases:
            database = stack.enter_context(databases.fresh(kind))
            app = stack.enter_context(seeding.application(database))
            seeding.create_batches(app, ((f"batch-{n}", f"SMALL-TABLE-{n}", PIECES, None) for n in range(skus)))
            database.analyze()
            subjects[f"{skus:,} skus, groups of {group:,}"] = partial(_bulk_round, app.bus, skus, group, size)
        samples = take_turns(subjects, size.rounds + 1, f"curves, {kind}")
    return [median(rates[1:]) for rates in samples.values()]  # the first round warms up


def _bulk_round(bus: MessageBus, skus: int, group: int, size: Size, number: int) -> float:
    count = max(min(size.bulk_lines, 200 * group) // group, 1) * group  # single commands are slow
    lines = list(islice(orders.spread(f"r{number}", skus), count))
    begin = perf_counter()
    for at in range(0, count, group):
        envelopes = [bus.envelope(Allocate(*line), source="import") for line in lines[at : at + group]]
        for answer in bus.handle_many(envelopes):
            answer.unwrap()
    return count / (perf_counter() - begin)


def _over_clients(databases: Databases, kind: Kind, size: Size) -> list[float]:
    with databases.fresh(kind) as database:
        over_http.stock(database)
        with servers.service(database, over_http.WORKERS[kind]) as port:
            http = over_http.Size(size.rounds, size.seconds, min(1.0, size.seconds))
            subjects = {f"{clients} clients": partial(_http_round, port, http, clients) for clients in size.clients}
            samples = take_turns(subjects, size.rounds, f"curves, {kind}")
    return [median(rates) for rates in samples.values()]


def _http_round(port: int, http: over_http.Size, clients: int, number: int) -> float:
    return over_http.allocate(port, "spread", http, f"{clients}-{number}", clients).per_second


# --- plots --------------------------------------------------------------------------------------------------------


def draw(made: Sequence[Table], folder: Path = PLOTS) -> None:
    """One SVG for each curve among the tables."""
    import matplotlib as mpl  # an extra: only who draws needs it

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "allocation"  # the same figures make the same file
    folder.mkdir(exist_ok=True)
    for table in made:
        if table.name.startswith("curve-"):
            _draw(table, folder / f"{table.name.removeprefix('curve-')}.svg")


def _draw(table: Table, file: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.subplots()
    places = [int(str(row[0]).replace(",", "")) for row in table.rows]
    for column, label in enumerate(table.header[1:], 1):
        axes.plot(places, [row[column] for row in table.rows], marker="o", label=label.partition(",")[0])
    axes.set(title=table.title, xlabel=table.header[0], ylabel=table.header[1].partition(", ")[2], xscale="log")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(file, format="svg", metadata={"Date": None})
