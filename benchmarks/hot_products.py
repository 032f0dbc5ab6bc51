"""Hot products on beside off (ALLOCATION_HOT_PRODUCTS): the same lines, the same service, by turns."""

from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import product

from allocation.entrypoints.garbage import rare_collection
from benchmarks import bulk, over_http, seeding, servers
from benchmarks.databases import Databases, Kind
from benchmarks.measure import Table, median, spread_of, take_turns
from benchmarks.orders import Line

KEPT = 10_000
"""More than either workload has skus."""
CLIENTS = (1, over_http.CLIENTS)
SETTINGS = {"on": KEPT, "off": 0}
Rates = dict[str, list[float]]


@dataclass(frozen=True, slots=True)
class Size:
    bulk: bulk.Size
    http: over_http.Size


def tables(databases: Databases, kinds: tuple[Kind, ...], size: Size) -> list[Table]:
    """Runs everything; answers one table. Raises `RuntimeError` if on and off decide differently."""
    rows: list[list[str | float | int | None]] = []
    for kind in kinds:
        for name, make in bulk.workloads((size.bulk.rounds + 1) * size.bulk.lines).items():
            rows.append(_row(f"bulk, {kind}, {name}", _in_bulk(databases, kind, make(), size.bulk, f"hot, {kind}")))
        for name, rates in _over_http(databases, kind, size.http).items():
            rows.append(_row(name, rates))
    header = ["hot products, a second", "on", "lowest to highest", "off", "lowest to highest", "of off"]
    notes = [
        f"ALLOCATION_HOT_PRODUCTS={KEPT} compared with 0, alternating; medians. In bulk: {size.bulk.rounds} rounds of "
        f"{size.bulk.lines:,} lines each in groups of {bulk.GROUP:,}; both placed every line alike. "
        f"Over HTTP: {size.http.rounds} rounds of {size.http.seconds:g} s, as in the HTTP table; on PostgreSQL "
        f"{over_http.WORKERS['postgres']} processes, each with a memory of its own.",
    ]
    return [Table("hot", "Hot products", header, rows, notes)]


def _row(name: str, rates: Rates) -> list[str | float | int | None]:
    on, off = median(rates["on"]), median(rates["off"])
    return [name, on, spread_of(rates["on"]), off, spread_of(rates["off"]), on / off]


def _in_bulk(databases: Databases, kind: Kind, lines: list[Line], size: bulk.Size, part: str) -> Rates:
    placed: dict[str, list[str | None]] = {name: [] for name in SETTINGS}
    with ExitStack() as stack:
        subjects = {}
        for name, kept in SETTINGS.items():
            database = bulk.stocked(stack, databases, kind, lines)
            app = stack.enter_context(seeding.application(database, hot_products=kept))
            subjects[name] = partial(bulk.one_round, partial(bulk.by_service, app), lines, size.lines, placed[name])
        with rare_collection():
            samples = take_turns(subjects, size.rounds + 1, part)
    if placed["on"] != placed["off"]:
        raise RuntimeError(f"{part}: on and off did not place the lines alike")
    return {name: rates[1:] for name, rates in samples.items()}


def _over_http(databases: Databases, kind: Kind, size: over_http.Size) -> dict[str, Rates]:
    found: dict[str, Rates] = {}
    with ExitStack() as running:
        ports = {}
        for setting, kept in SETTINGS.items():
            database = running.enter_context(databases.fresh(kind))
            over_http.stock(database)
            more = {"ALLOCATION_HOT_PRODUCTS": str(kept)}
            ports[setting] = running.enter_context(servers.service(database, over_http.WORKERS[kind], more))
        for which, clients in product(("spread", "hot"), CLIENTS):
            name = f"HTTP, {kind}, {which}, {clients} client{'s' if clients > 1 else ''}"
            subjects = {s: partial(_per_second, port, which, size, clients) for s, port in ports.items()}
            found[name] = take_turns(subjects, size.rounds, name)
    return found


def _per_second(port: int, which: str, size: over_http.Size, clients: int, number: int) -> float:
    return over_http.allocate(port, which, size, f"{clients}-{number}", clients).per_second
