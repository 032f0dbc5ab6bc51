"""How long it takes to prove that the tables are what the log folds to, and in how much memory."""

import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks import orders, seeding, servers
from benchmarks.databases import Database, Databases, Kind
from benchmarks.measure import Table, median, peak_memory_bytes, progress
from benchmarks.orders import BatchRow, Line

YEAR_EVENTS = 2_200_000
"""About what the real year comes to: 1.46 million order lines, 0.65 million batches, and who waited."""

LINES_A_SKU, BATCHES_A_SKU, HOT_SHARE = 16, 7, 0.3


@dataclass(frozen=True, slots=True)
class Size:
    lines: tuple[int, ...] = (35_000, 140_000)
    rounds: int = 3


def tables(databases: Databases, kinds: tuple[Kind, ...], size: Size) -> list[Table]:
    """Runs everything; answers one table. Raises `RuntimeError` if log and tables do not agree."""
    rows: list[list[str | float | int | None]] = []
    for kind in kinds:
        for lines in size.lines:
            with databases.fresh(kind) as database:
                fill(database, lines)
                database.analyze()
                rows.append(measured(database, kind, lines, size.rounds))
    made = (
        f"{LINES_A_SKU} lines and {BATCHES_A_SKU} batches a sku, {HOT_SHARE:.0%} of the lines on few of them. "
        f'"For a year\'s" is not measured: it is the rate next to it applied to {YEAR_EVENTS:,} events.'
    )
    return [table(rows, size.rounds, made)]


def measured(database: Database, name: str, lines: int | None, rounds: int) -> list[str | float | int | None]:
    """One row. Raises `RuntimeError` if log and tables do not agree."""
    runs = [_verify(database, f"verify, {database.kind}: {n + 1} of {rounds}") for n in range(rounds)]
    events, seconds = runs[0][0], median([run[1] for run in runs])
    memory_bytes = max(run[2] for run in runs)
    year_seconds = seconds * YEAR_EVENTS / events
    return [name, lines, events, seconds, events / seconds, year_seconds, memory_bytes / 2**20]


def table(rows: list[list[str | float | int | None]], rounds: int, made: str) -> Table:
    """Of rows that `measured` made; `made` says on what."""
    header = ["allocation verify", "order lines", "events", "seconds", "events/s", "seconds for a year's", "peak MiB"]
    notes = [
        f"A process of its own each time, {rounds} rounds; medians (memory: the most). {made} Everything is verified: "
        "positions, folded products, read models, the inbox, ids.",
        "Aims: at most 120 seconds for a year's, and memory that does not grow with the log.",
    ]
    return Table("verify", "Verify", header, rows, notes)


def fill(database: Database, lines: int) -> None:
    """Products with a few batches each, and lines of which some sell much better than others."""
    skus = max(lines // LINES_A_SKU, 1)
    with seeding.application(database) as app:
        seeding.create_batches(app, _batches(skus))
    seeding.fill(database, _lines(lines, skus), f"verify, {database.kind}")


def _batches(skus: int) -> Iterator[BatchRow]:
    return (
        (f"batch-{sku}-{n}", f"SMALL-TABLE-{sku}", 2 * LINES_A_SKU, orders.LATER if n else None)
        for sku in range(skus)
        for n in range(BATCHES_A_SKU)
    )


def _lines(count: int, skus: int) -> Iterator[Line]:
    dice = random.Random(1)
    for n in range(count):
        sku = min(int(dice.paretovariate(0.5)), skus) - 1 if dice.random() < HOT_SHARE else dice.randrange(skus)
        yield f"order-{n}", f"SMALL-TABLE-{sku}", 1 + n % 3


def _verify(database: Database, what: str) -> tuple[int, float, int]:
    """Events, seconds (its own), peak memory in bytes."""
    progress(what)
    command = [sys.executable, "-m", "allocation.entrypoints.cli", "verify", "--json"]
    environment = servers.environment({"ALLOCATION_DATABASE_URL": database.url})
    memory_bytes = 0
    with tempfile.TemporaryFile("w+") as told:
        process = subprocess.Popen(command, env=environment, stdout=told)
        while process.poll() is None:
            memory_bytes = max(memory_bytes, peak_memory_bytes(process.pid))
            time.sleep(0.01)
        told.seek(0)
        outcome = json.load(told)
    if process.returncode or not outcome["equal"]:
        raise RuntimeError(f"log and tables do not agree: {outcome['differences'][:3]}")
    progress("")
    return outcome["events"], outcome["seconds"], memory_bytes
