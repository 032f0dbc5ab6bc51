"""`python -m benchmarks.real_year`: a grocer's real year through `allocation import`, week by week.

Basket = order, product = sku; quantity 0 is dropped and over 1,000 is capped, which leaves 1,460,438 of 1,469,307
rows; no basket names a product twice, so (order, sku) is unique as it is. Each week first brings in batches, then its
orders, as two CSV files of one import with `--if-short wait`. At the end every placement must be the oracle's, line by
line: order, sku, quantity, batch or waiting, and the order in which the lines came.
"""

import argparse
import csv
import itertools
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path

from benchmarks import orders, report, servers
from benchmarks.databases import KINDS, Database, Databases, Kind
from benchmarks.measure import Table, machine, peak_memory_bytes, progress
from benchmarks.oracle import Oracle
from benchmarks.orders import BatchRow, Line
from benchmarks.placements import differences
from benchmarks.real_past import Past

COVERED_PERCENT = 97
FIRST_DAY = date(2017, 1, 1)
GROUP = 5_000


class Supply:
    """The batches of each week: 97 of 100 pieces demanded.

    Most skus sell a piece or two a week, of which 97 % is no whole number: what rounding down leaves over goes to the
    next sku, so that about every thirtieth such sku gets a piece less, and lines really wait, for a later week or for
    good. The first batch of a sku is at least one piece, else the sku would be unknown. Of a sku that gets six pieces
    or more, a third arrives three days later, in a batch with that ETA; of the others every fourth batch does.
    """

    def __init__(self) -> None:
        self._known: set[str] = set()
        self._left_percent = 0

    def batches(self, week: int, lines: list[Line]) -> Iterator[BatchRow]:
        later = FIRST_DAY + timedelta(weeks=week - 1, days=3)
        demanded: Counter[str] = Counter()
        for _, sku, qty in lines:
            demanded[sku] += qty
        for number, (sku, pieces) in enumerate(demanded.items()):
            qty, self._left_percent = divmod(pieces * COVERED_PERCENT + self._left_percent, 100)
            if sku not in self._known:
                self._known.add(sku)
                qty = max(qty, 1)
            at_once, to_come = (qty - qty // 3, qty // 3) if qty >= 6 else (0, qty) if number % 4 == 0 else (qty, 0)
            if at_once:
                yield f"{sku}-week-{week}", sku, at_once, None
            if to_come:
                yield f"{sku}-week-{week}-later", sku, to_come, later


@dataclass(frozen=True, slots=True)
class Week:
    """One import: its rows, the events they led to, and the seconds it says itself."""

    rows: int
    events: int
    seconds: float


@dataclass(slots=True)
class Year:
    """What was taken in, and how long it took. `seconds` are the import's own, `wall_seconds` with starting Python."""

    lines: int = 0
    batches: int = 0
    waiting: int = 0
    refused: int = 0
    seconds: float = 0.0
    wall_seconds: float = 0.0
    memory_bytes: int = 0
    problems: list[str] = field(default_factory=list)
    weeks: list[Week] = field(default_factory=list)


def run(database: Database, weeks: int | None) -> Year:
    """Take in a year, or its first weeks, and compare."""
    year, oracle, supply, events = Year(), Oracle(), Supply(), 0
    with tempfile.TemporaryDirectory(prefix="allocation-year-") as folder:
        for week, of_week in itertools.groupby(orders.real_with_week(), key=lambda pair: pair[0]):
            if weeks and week > weeks:
                break
            lines = [line for _, line in of_week]
            batches = list(supply.batches(week, lines))
            files = _write(Path(folder), batches, lines)
            seconds = _take_in(database, files, year)
            before, events = events, database.event_count()
            year.weeks.append(Week(len(batches) + len(lines), events - before, seconds))
            for ref, sku, qty, eta in batches:
                oracle.create_batch(ref, sku, qty, eta.isoformat() if eta else None)
            for line in lines:
                oracle.allocate(*line)
            year.batches, year.lines = year.batches + len(batches), year.lines + len(lines)
            rate = (year.lines + year.batches) / year.seconds
            progress(
                f"{database.kind}, week {week}: {year.lines:,} lines and {year.batches:,} batches, {rate:,.0f} rows/s"
            )
    progress(f"{database.kind}: comparing with the oracle")
    with closing(differences(database, oracle)) as found:
        year.problems += itertools.islice(found, 20)
    year.waiting = sum(ref is None for lines in oracle.lines.values() for _, ref in lines.values())
    progress("")
    return year


def _write(folder: Path, batches: list[BatchRow], lines: list[Line]) -> tuple[Path, Path]:
    batches_file, orders_file = folder / "batches.csv", folder / "orders.csv"
    with batches_file.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["ref", "sku", "qty", "eta"])
        writer.writerows(batches)
    with orders_file.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["orderid", "sku", "qty"])
        writer.writerows(lines)
    return batches_file, orders_file


def _take_in(database: Database, files: tuple[Path, Path], year: Year) -> float:
    """One `allocation import`; answers how long it says it took. Raises `RuntimeError` if it failed."""
    command = [sys.executable, "-m", "allocation.entrypoints.cli", "import", "--batches", str(files[0])]
    command += ["--orders", str(files[1]), "--if-short", "wait", "--group", str(GROUP), "--json"]
    environment = servers.environment({"ALLOCATION_DATABASE_URL": database.url})
    with tempfile.TemporaryFile("w+") as told, tempfile.TemporaryFile("w+") as errors:
        begin = time.perf_counter()
        process = subprocess.Popen(command, env=environment, stdout=told, stderr=errors)
        while process.poll() is None:
            year.memory_bytes = max(year.memory_bytes, peak_memory_bytes(process.pid))
            time.sleep(0.02)
        year.wall_seconds += time.perf_counter() - begin
        told.seek(0)
        errors.seek(0)
        if process.returncode:
            raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}:\n{errors.read()[-2_000:]}")
        outcome = json.load(told)
    year.seconds += outcome["seconds"]
    year.refused += len(outcome["refused"])
    return float(outcome["seconds"])


def tables(
    databases: Databases, kinds: tuple[Kind, ...], weeks: int | None, past: Past | None = None
) -> tuple[list[Table], list[str]]:
    """Runs a year on each kind of database, and asks for its past; answers tables, and what was not as it must be."""
    rows: list[list[str | float | int | None]] = []
    quarters: list[list[str | float | int | None]] = []
    problems: list[str] = []
    for kind in kinds:
        with databases.fresh(kind) as database:
            year = run(database, weeks)
            size_bytes = database.size_bytes()
            if past is not None:
                past.measure(database)
        rate, all_rows = year.lines / year.seconds, (year.lines + year.batches) / year.seconds
        rows.append([kind, year.lines, year.batches, year.seconds, year.wall_seconds, rate, all_rows, year.waiting])
        rows[-1] += [year.refused, len(year.problems), year.memory_bytes / 2**20, size_bytes / 2**20]
        quarters += [[f"{kind}, {name}", *measured] for name, measured in _quarters(year.weeks)]
        problems += [f"{kind}: {problem}" for problem in year.problems]
        problems += [f"{kind}: {year.refused} rows were refused"] if year.refused else []
    header = ["a real year", "order lines", "batches", "seconds", "with starting Python", "lines/s", "rows/s"]
    header += ["waiting at the end", "refused", "unlike the oracle", "peak memory MiB", "database MiB"]
    notes = [
        f"One `allocation import --if-short wait --group {GROUP}` a week: batches for {COVERED_PERCENT} % of the "
        'demand, then the orders. "seconds" is what the imports themselves report; rows are batches and order lines. '
        "Every line was compared with the oracle: quantity, batch or waiting, order of arrival.",
    ]
    of_past = past.tables() if past is not None else []
    made = [Table("real-year", "A grocer's real year", header, rows, notes), _of_quarters(quarters)]
    return [*made, *of_past], problems


def _quarters(weeks: list[Week]) -> Iterator[tuple[str, list[float]]]:
    """Of each quarter: rows, events, events a row, seconds, microseconds a row and an event."""
    ends = [len(weeks) * n // 4 for n in range(5)]
    for begin, end in itertools.pairwise(ends):
        if some := weeks[begin:end]:
            rows, events = sum(week.rows for week in some), sum(week.events for week in some)
            seconds = sum(week.seconds for week in some)
            measured = [rows, events, events / rows, seconds, seconds / rows * 1e6, seconds / events * 1e6]
            yield f"weeks {begin + 1} to {end}", measured


def _of_quarters(rows: list[list[str | float | int | None]]) -> Table:
    header = ["the year in quarters", "rows", "events", "events a row", "seconds", "us a row", "us an event"]
    notes = [
        "A week's batches first serve the lines left waiting the week before, so more and more lines have to wait: one "
        "that waits leads to three events in the end (backordered, out of stock, allocated), one that is served at "
        "once leads to one. What must not grow with history is the time per event.",
    ]
    return Table("real-year-quarters", "The real year in quarters", header, rows, notes)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.real_year", description=__doc__)
    parser.add_argument("--database", choices=KINDS, help="only this database")
    parser.add_argument("--weeks", type=int, help="only the first WEEKS weeks")
    parser.add_argument("--past", action="store_true", help="then fold it, look back, imagine, and verify it")
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")
    parser.add_argument("--write", action="store_true", help="put the table into benchmarks/RESULTS.md")
    options = parser.parse_args()
    kinds: tuple[Kind, ...] = (options.database,) if options.database else KINDS
    circumstances = {"command": report.command("benchmarks.real_year")} | machine()
    with Databases() as databases:
        circumstances |= databases.versions(kinds)
        made, problems = tables(databases, kinds, options.weeks, Past() if options.past else None)
    print(report.as_json(made, circumstances) if options.json else report.text(made, circumstances))
    if problems:
        print(*problems, sep="\n", file=sys.stderr)
        return 1
    if options.write:
        report.write(made, circumstances)
    return 0


if __name__ == "__main__":
    sys.exit(main())
