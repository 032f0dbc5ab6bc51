"""Is the cost of one command flat? One allocate with few and with very many lines on that sku; one deallocate with
few and with very many lines that wait and cannot be served."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

from allocation.bootstrap import Application
from allocation.domain.commands import Allocate, Deallocate
from benchmarks import seeding
from benchmarks.databases import Database, Databases, Kind
from benchmarks.measure import Table, median, progress
from benchmarks.orders import Line

SKU = "RED-CHAIR"
FEW = 10
PIECES = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Size:
    lines: int = 1_000_000
    waiting: int = 100_000
    repeats: int = 300


def tables(databases: Databases, kinds: tuple[Kind, ...], size: Size) -> list[Table]:
    """Runs everything; answers one table."""
    rows: list[list[str | float | int | None]] = []
    for kind in kinds:
        rows.append(_compare(databases, kind, "allocate", size.lines, size.repeats))
        rows.append(_compare(databases, kind, "deallocate", size.waiting, size.repeats))
    header = ["one command through the bus", "few", "median ms", "many", "median ms", "ratio"]
    notes = [
        f"One database for few, another for many; {size.repeats} of each, alternating, each one synced transaction; "
        "statistics up to date. allocate: the sku already has so many lines. deallocate: so many lines wait, of 2 to "
        "1,000 pieces, and the stock given back is enough for none of them.",
        "Aim: a ratio of at most 1.2.",
    ]
    return [Table("flat", "The cost of one command", header, rows, notes)]


def _compare(databases: Databases, kind: Kind, what: str, many: int, repeats: int) -> list[str | float | int | None]:
    prepare, pair = (lines_on_the_sku, allocating) if what == "allocate" else (_lines_waiting, _deallocating)
    with ExitStack() as stack:
        apps = []
        for lines in (FEW, many):
            progress(f"flat, {kind}, {what}: making {lines:,} lines")
            database = stack.enter_context(databases.fresh(kind))
            prepare(database, lines)
            database.analyze()
            apps.append(stack.enter_context(seeding.application(database)))
        progress(f"flat, {kind}, {what}: measuring")
        few, lots = by_turns([pair(app) for app in apps], repeats)
    progress("")
    return [f"{kind}, {what}", FEW, few * 1e3, many, lots * 1e3, lots / few]


Pair = tuple[Callable[[int], None], Callable[[int], None]]
"""What is measured, and what puts the state back (not measured)."""


def by_turns(pairs: list[Pair], repeats: int) -> list[float]:
    """Median seconds of each. A tenth more is run first, and not counted."""
    seconds: list[list[float]] = [[] for _ in pairs]
    warm_up = repeats // 10 + 1
    for number in range(warm_up + repeats):
        for which in range(len(pairs)) if number % 2 else reversed(range(len(pairs))):
            measured, undo = pairs[which]
            begin = time.perf_counter()
            measured(number)
            if number >= warm_up:
                seconds[which].append(time.perf_counter() - begin)
            undo(number)
    return [median(some) for some in seconds]


def allocating(app: Application) -> Pair:
    """One line more on the sku, and away again."""
    return (
        lambda number: app.bus.handle(Allocate(f"new-{number}", SKU, 1)),
        lambda number: app.bus.handle(Deallocate(f"new-{number}", SKU)),
    )


def _deallocating(app: Application) -> Pair:
    app.bus.handle(Allocate("on-batch-0", SKU, 1))
    return (
        lambda number: app.bus.handle(Deallocate(f"on-batch-{number}", SKU)),
        lambda number: app.bus.handle(Allocate(f"on-batch-{number + 1}", SKU, 1)),
    )


def lines_on_the_sku(database: Database, count: int) -> None:
    """One batch, with so many lines on it."""
    with seeding.application(database) as app:
        seeding.create_batches(app, [("batch-1", SKU, PIECES, None)])
    seeding.fill(database, ((f"order-{n}", SKU, 1 + n % 3) for n in range(count)), f"flat, {database.kind}")


def _lines_waiting(database: Database, count: int) -> None:
    """A batch of one piece, so that no line of two or more fits, ever."""
    with seeding.application(database) as app:
        seeding.create_batches(app, [("batch-1", SKU, 1, None)])
    seeding.fill(database, _waiting(count), f"flat, {database.kind}")


def _waiting(count: int) -> Iterator[Line]:
    return ((f"order-{n}", SKU, 2 + n * 7919 % 999) for n in range(count))
