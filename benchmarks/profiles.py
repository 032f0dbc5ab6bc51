"""`python -m benchmarks.profiles http|bulk`: where the time of an allocation goes. `--write` puts it into
docs/profile.md.

py-spy looks at the threads, so many times a second, in two recordings: in the first at the one that has the
interpreter, in the second at all. What stands in a room the second time and not the first is waiting: for the database,
for a group, for a turn with the interpreter. PostgreSQL's own log tells the statements.
"""

import argparse
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import count, islice
from pathlib import Path
from urllib.request import Request, urlopen

from allocation.bootstrap import Application
from allocation.domain.commands import Allocate
from allocation.entrypoints.garbage import rare_collection
from benchmarks import bulk, orders, over_http, report, seeding, servers, statement_log
from benchmarks.databases import Database, Databases
from benchmarks.measure import Table, machine, progress
from benchmarks.statement_log import Statement
from tests.servers.process import LOOPBACK

PARTS = ("http", "bulk")
PER_SECOND = 100
TOP = 12

ROOMS = (
    ("domain", ("allocation/domain/",)),
    ("serialisation", ("allocation/adapters/serialization.py", "msgspec")),
    ("telemetry", ("allocation/adapters/telemetry/", "prometheus_client/")),
    ("adapters.sql", ("allocation/adapters/sql/", "sqlalchemy/")),
    ("driver", ("psycopg/", "psycopg_binary")),
    ("service_layer", ("allocation/service_layer/", "tenacity/")),
    ("HTTP edge", ("allocation/entrypoints/", "flask/", "werkzeug/", "granian/", "pydantic/")),
)
"""By the innermost frame that is in one of these: what Python's own library does counts for whoever called it."""

Stacks = Counter[tuple[str, ...]]
Recorder = Callable[[int, float, bool], str]


@dataclass(frozen=True, slots=True)
class Size:
    seconds: float = 15.0
    """Of each of the two recordings."""
    repeats: int = 20
    """Transactions before the one whose statements are told: by then the driver has prepared them."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """Samples of who had the interpreter, and of all threads; `allocations` were made during each."""

    busy: Stacks
    every: Stacks
    allocations: tuple[int, int]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profiles", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="http|bulk", help="only these parts")
    parser.add_argument("--seconds", type=float, default=Size().seconds, help="seconds of each recording")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/profile.md")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"there is no {', '.join(unknown)}: choose from {', '.join(PARTS)}")
    circumstances = {"command": report.command("benchmarks.profiles")} | machine()
    with Databases() as databases:
        circumstances |= databases.versions(("postgres",))
        parts = options.parts or PARTS
        made = [table for part in parts for table in tables(part, databases, Size(options.seconds))]
    print(report.text(made, circumstances))
    if options.write:
        report.write(made, circumstances, report.PROFILE)


def tables(part: str, databases: Databases, size: Size, record: Recorder | None = None) -> list[Table]:
    """Runs everything; answers rooms, functions and statements. Raises `RuntimeError` if py-spy cannot look."""
    record = record or _py_spy
    if part == "http":
        recorded, statements = _http(databases, size, record), _statements_of_http(databases, size)
        told = "POST /v1/allocations spread over 1,000 skus, 32 clients, 2 x 16 threads"
        last = "one POST /v1/allocations with no other load"
    else:
        recorded, statements = _bulk(databases, size, record), _statements_of_bulk(databases, size)
        told = f"groups of {bulk.GROUP:,} through the bus, spread over 1,000 skus, one thread"
        last = f"one group of {bulk.GROUP:,} through the bus"
    how = f"{told}; two recordings of {size.seconds:g} s, {PER_SECOND} samples a second."
    return [_rooms(part, recorded, how), _functions(part, recorded), _transaction(part, statements, last)]


# --- what is recorded ---------------------------------------------------------------------------------------------


def _http(databases: Databases, size: Size, record: Recorder) -> Recorded:
    with ExitStack() as stack:
        database = stack.enter_context(databases.fresh("postgres"))
        over_http.stock(database)
        pids: list[int] = []
        port = stack.enter_context(servers.service(database, 2, started=pids.append))
        numbers = count()
        once = over_http.Size(1, min(1.0, size.seconds), 0.0)
        run = partial(over_http.allocate, port, "spread", once)
        run("warm-up")

        def work() -> int:
            return len(run(next(numbers)).latencies_seconds)

        return _twice(work, partial(record, pids[0], size.seconds), "granian/wsgi.py")


def _bulk(databases: Databases, size: Size, record: Recorder) -> Recorded:
    with ExitStack() as stack:
        database = stack.enter_context(databases.fresh("postgres"))
        over_http.stock(database)
        command = [sys.executable, "-c", "from benchmarks import profiles; profiles.allocate_in_bulk()", database.url]
        process = stack.enter_context(
            subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=servers.environment({}))
        )
        stack.callback(process.kill)
        told = iter(process.stdout or ())
        next(told)
        return _twice(
            lambda: int(next(told)), partial(record, process.pid, size.seconds), "service_layer/messagebus.py"
        )


def allocate_in_bulk() -> None:
    """The process that is looked at: group after group on the database that is named, each told by a line."""
    lines = orders.spread("bulk", over_http.SKUS)
    with seeding.application(Database("postgres", sys.argv[-1], "")) as app, rare_collection():
        while True:
            print(_one_group(app, lines), flush=True)


def _one_group(app: Application, lines: Iterator[orders.Line]) -> int:
    envelopes = [app.bus.envelope(Allocate(*next(lines)), source="import") for _ in range(bulk.GROUP)]
    return len([answer.unwrap() for answer in app.bus.handle_many(envelopes)])


def _twice(work: Callable[[], int], record: Callable[[bool], str], within: str) -> Recorded:
    """Record while `work` is done again and again; it answers how many allocations it made. Only samples that pass
    through the file `within` count: threads that have nothing to do stand elsewhere."""
    found: list[Stacks] = []
    made: list[int] = []
    for idle in (False, True):
        progress(f"profile: {'all threads' if idle else 'threads that hold the interpreter'}")
        with ThreadPoolExecutor(1) as beside:
            recording = beside.submit(record, idle)
            done = work()
            while not recording.done():
                done += work()
        found.append(stacks(recording.result(), within))
        made.append(done)
    progress("")
    return Recorded(found[0], found[1], (made[0], made[1]))


def _py_spy(pid: int, seconds: float, idle: bool) -> str:
    """What it recorded of a process and those below it: a line a stack, outermost first, with its samples."""
    program = Path(sys.executable).with_name("py-spy")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "stacks"
        options = ["--format", "raw", "--full-filenames", "--nolineno", "--subprocesses", "--idle" if idle else "--gil"]
        options += ["--rate", str(PER_SECOND), "--duration", f"{max(1, round(seconds))}", "--output", str(out)]
        try:
            done = subprocess.run([program, "record", *options, "--pid", str(pid)], capture_output=True, check=False)
        except FileNotFoundError:
            raise RuntimeError("py-spy is not installed: install allocation[bench]") from None
        if not out.exists():
            raise RuntimeError(f"py-spy could not record (it may need root): {done.stderr.decode()[-300:]}")
        return out.read_text()


def stacks(raw: str, within: str) -> Stacks:
    """Samples by stack, outermost frame first, of those that pass through the file `within`."""
    found: Stacks = Counter()
    for line in raw.splitlines():
        frames, _, samples = line.rpartition(" ")
        stack = tuple(frames.split(";"))
        if any(within in frame for frame in stack):
            found[stack] += int(samples)
    return found


def _statements_of_http(databases: Databases, size: Size) -> list[Statement]:
    with statement_log.logged(databases) as (database, log):
        over_http.stock(database)
        with servers.service(database, 1) as port:
            bodies = (over_http.body(line) for line in islice(orders.spread("one"), size.repeats))
            for body in bodies:
                asked = Request(f"http://{LOOPBACK}:{port}/v1/allocations", body, {"Content-Type": "application/json"})
                urlopen(asked, timeout=10).close()  # the address is ours
        return statement_log.last_transaction(log.read_text(errors="replace"))


def _statements_of_bulk(databases: Databases, size: Size) -> list[Statement]:
    with statement_log.logged(databases) as (database, log):
        over_http.stock(database)
        lines = orders.spread("one")
        with seeding.application(database) as app:
            for _ in range(size.repeats):
                _one_group(app, lines)
        return statement_log.last_transaction(log.read_text(errors="replace"))


# --- what is told -------------------------------------------------------------------------------------------------


def room_of(stack: tuple[str, ...]) -> str:
    for frame in reversed(stack):
        for room, places in ROOMS:
            if any(place in frame for place in places):
                return room
    return "elsewhere"


def function_of(stack: tuple[str, ...]) -> str:
    """The innermost frame, its path without what is before the package."""
    name, _, path = stack[-1].rstrip(")").partition(" (")
    for before in ("/site-packages/", "/src/"):
        path = path.rpartition(before)[2]
    return f"{name} ({'/'.join(path.split('/')[-3:])})"


def _by(what: Callable[[tuple[str, ...]], str], found: Stacks) -> Counter[str]:
    summed: Counter[str] = Counter()
    for stack, samples in found.items():
        summed[what(stack)] += samples
    return summed


def _rooms(part: str, recorded: Recorded, how: str) -> Table:
    busy, every = _by(room_of, recorded.busy), _by(room_of, recorded.every)
    places = sorted({*busy, *every}, key=lambda room: (-busy[room], -every[room]))
    us = [1e6 / PER_SECOND / max(1, made) for made in recorded.allocations]
    total = max(1, busy.total())
    rows: list[list[str | float | int | None]] = [
        [room, 100 * busy[room] / total, busy[room] * us[0], max(0.0, every[room] * us[1] - busy[room] * us[0])]
        for room in places
    ]
    header = [f"{part}, room", "% of the interpreter", "us an allocation", "waiting, us an allocation"]
    notes = [how, "Waiting: for the database, a group or the interpreter; counted in the room that waits."]
    return Table(f"profile-{part}-rooms", f"Where the time goes, {part}", header, rows, notes)


def _functions(part: str, recorded: Recorded) -> Table:
    busy = _by(function_of, recorded.busy)
    us = 1e6 / PER_SECOND / max(1, recorded.allocations[0])
    rows: list[list[str | float | int | None]] = [
        [f"`{name}`", 100 * samples / max(1, busy.total()), samples * us] for name, samples in busy.most_common(TOP)
    ]
    header = [f"{part}, function, without what it calls", "% of the interpreter", "us an allocation"]
    return Table(f"profile-{part}-functions", f"Functions, {part}", header, rows)


def _transaction(part: str, statements: list[Statement], what: str) -> Table:
    rows: list[list[str | float | int | None]] = [[f"`{s.told}`", s.milliseconds] for s in statements]
    rows.append(["all", sum(s.milliseconds for s in statements)])
    notes = [
        f"The last of several transactions, {what}; the server's own times, from its log. The statements "
        "are prepared by then."
    ]
    return Table(f"profile-{part}-statements", f"Statements, {part}", [f"{part}, statement", "ms"], rows, notes)


if __name__ == "__main__":
    sys.exit(main())
