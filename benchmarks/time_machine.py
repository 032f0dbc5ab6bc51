"""How fast is the past? The log folded into memory, one product as of any moment, a what-if over one product."""

import gc
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date

from allocation.bootstrap import Application, memory_image
from allocation.domain.commands import ChangeBatchEta, ChangeBatchQuantity, Command, CreateBatch
from allocation.service_layer import handlers
from allocation.service_layer.history.as_of import product_at, stock_at
from allocation.service_layer.history.ports import Cut
from allocation.service_layer.history.snapshots import EVERY
from allocation.service_layer.history.what_if import products_named
from allocation.service_layer.read_models import ReadModels
from allocation.service_layer.subscriptions import Settlement
from benchmarks import seeding
from benchmarks.databases import Database, Databases, Kind
from benchmarks.measure import Table, median, progress
from benchmarks.orders import Line

HOT, WAITED_FOR = "RED-CHAIR", "ADORABLE-SETTEE"
PIECES = 1_000_000_000
KEEPER = "keep_snapshots"


Rows = list[list[str | float | int | None]]


@dataclass(frozen=True, slots=True)
class Size:
    """`events` in all, of which `hot` are of one sku; so many lines wait for another; `samples` of each question."""

    events: int = 200_000
    hot: int = 50_000
    skus: int = 2_000
    waiting: int = 2_000
    samples: int = 200
    rounds: int = 5


def tables(databases: Databases, kinds: tuple[Kind, ...], size: Size) -> list[Table]:
    """Runs everything; answers three tables."""
    folds: Rows = []
    moments: Rows = []
    imagined: Rows = []
    for kind in kinds:
        with databases.fresh(kind) as database:
            _fill(database, size)
            database.analyze()
            with seeding.application(database) as app:
                folds += folding(kind, app, size)
                moments += looking_back(kind, app, HOT, size)
                imagined += imagining(kind, app, WAITED_FOR, _mishaps(size), size)
    progress("")
    return [fold_table(folds, size), moment_table(moments, size), what_if_table(imagined, size)]


def _mishaps(size: Size) -> list[Command]:
    """A shipment late, a batch short, a new batch for half of those who wait."""
    return [
        ChangeBatchEta(f"{WAITED_FOR}-1", date(2031, 5, 6)),
        ChangeBatchQuantity(f"{WAITED_FOR}-1", size.waiting - size.waiting // 10),
        CreateBatch("new", WAITED_FOR, size.waiting, None),
    ]


def fold_table(rows: Rows, size: Size) -> Table:
    header = [
        "log into memory",
        "events",
        "products",
        "seconds",
        "events/s",
        "fastest",
        "slowest",
        "own CPU, us an event",
        "only read, events/s",
    ]
    notes = [
        f"The whole log read, decoded and folded into whole products; {size.rounds} rounds, medians. One thread; "
        'PostgreSQL\'s own work runs beside it where there is a second processor. "own CPU": of this process alone.',
        "Aim: 250,000 events/s from PostgreSQL.",
    ]
    return Table("time-fold", "The memory image", header, rows, notes)


def moment_table(rows: Rows, size: Size) -> Table:
    header = ["a product as of any moment", "its events", "snapshots", "median ms", "p95 ms", "slowest ms"]
    notes = [
        f"{size.samples} random moments in the life of the hottest sku. cold: each on a new connection; "
        f"nothing is kept in the process. Snapshots are {EVERY:,} versions apart; without: every event is folded.",
        "Aim: p95 under 50 ms, cold.",
    ]
    return Table("time-as-of", "As of", header, rows, notes)


def what_if_table(rows: Rows, size: Size) -> Table:
    header = ["a what-if over one product", "lines waiting", "its events", "promises changed", "median ms", "p95 ms"]
    notes = [
        f"A late shipment, a short batch and a new batch for half of the waiting lines; {size.samples // 4} times. "
        "From the log: the product is folded from its first event. From the image: it is copied; no database.",
        "Aim: under 200 ms with at least 1,000 lines waiting.",
    ]
    return Table("time-what-if", "What if", header, rows, notes)


# --- the data -----------------------------------------------------------------------------------------------------


def _fill(database: Database, size: Size) -> None:
    """Lines of one hot sku among those of many, and lines that wait for a third."""
    others = [f"CHAIR-{n}" for n in range(size.skus)]
    with seeding.application(database) as app:
        rows = [(f"{sku}-1", sku, PIECES, None) for sku in (*others, HOT)]
        seeding.create_batches(app, [*rows, (f"{WAITED_FOR}-1", WAITED_FOR, size.waiting, date(2031, 5, 1))])
    seeding.fill(database, _lines(others, size), f"time, {database.kind}")


def _lines(others: list[str], size: Size) -> Iterator[Line]:
    """Shuffled, as a shop's day is: the rows of one sku lie far apart. A waiting line leaves two events."""
    dice = random.Random(1)
    rest = size.events - size.hot - 4 * size.waiting - len(others)
    skus = [HOT] * size.hot + [dice.choice(others) for _ in range(max(rest, 0))] + [WAITED_FOR] * (2 * size.waiting)
    dice.shuffle(skus)
    return ((f"order-{n:07d}", sku, dice.randint(1, 3)) for n, sku in enumerate(skus))


def _keep_snapshots(app: Application, sku: str) -> int:
    """As the worker would have, meanwhile; answers how many of the sku."""
    app.subscriptions.join(KEEPER, from_the_beginning=True)
    events = app.history.events(sku, range(EVERY, 10**6, EVERY))
    lease = app.subscriptions.lease(KEEPER, 0, "benchmark", 600)
    assert lease is not None
    for logged in events:
        read_models = ReadModels()
        handlers.keep_snapshots([logged], app.history, read_models)
        app.subscriptions.settle(lease, Settlement(logged.position.seq, read_models=read_models), 600)
    return len(events)


# --- what is measured ---------------------------------------------------------------------------------------------


def folding(kind: Kind, app: Application, size: Size) -> Rows:
    """The whole log read and folded."""
    [head] = app.history.now().heads
    seconds: list[float] = []
    only_read: list[float] = []
    cpu: list[float] = []
    products = 0
    for number in range(size.rounds):
        progress(f"time, {kind}: loading the image, round {number + 1} of {size.rounds}")
        with _timed(only_read):
            for _ in app.history.facts_by_product("", Cut((head,))):
                pass
        with _timed(seconds), _timed(cpu, time.process_time):
            image = memory_image(app)
        products = len(image._store.products)
        del image
        gc.unfreeze()
        gc.collect()
    per_second = [head / s for s in seconds]
    row = [head, products, median(seconds), median(per_second), max(per_second), min(per_second)]
    return [[f"{kind}", *row, median(cpu) / head * 1e6, head / median(only_read)]]


def looking_back(kind: Kind, app: Application, sku: str, size: Size) -> Rows:
    """The product at random moments, without snapshots and with them."""
    whole = product_at(app.history, sku, app.history.now())
    assert whole is not None
    dice = random.Random(2)
    picked = [dice.randint(1, whole.version_number) for _ in range(size.samples)]
    events = [app.history.events(sku, [version])[0] for version in picked]
    rows = []
    for keep in (lambda: 0, lambda: _keep_snapshots(app, sku)):
        snapshots = keep()
        progress(f"time, {kind}: {size.samples} moments, {snapshots} snapshots")
        warm: list[float] = []
        cold: list[float] = []
        for logged in events if snapshots else events[: max(size.samples // 5, 1)]:
            app.history._engine.dispose()  # type: ignore[attr-defined]  # of a database
            for seconds in (cold, warm):
                with _timed(seconds):
                    app.history.cut(logged.time)  # so coarse here that it would hit few versions: a group has one time
                    stock_at(app.history, sku, Cut((logged.position.seq,)))
        for name, seconds in (("cold", cold), ("again", warm)):
            row = [whole.version_number, snapshots, median(seconds) * 1e3, _p95(seconds) * 1e3, max(seconds) * 1e3]
            rows.append([f"{kind}, {name}", *row])
    return rows


def imagining(kind: Kind, app: Application, sku: str, commands: list[Command], size: Size) -> Rows:
    """The commands imagined, asking the log and asking an image."""
    image = memory_image(app)
    rows = []
    ways: dict[str, Callable[[], object]] = {
        "from the log": lambda: app.what_if.of(products_named(app.history, commands, app.history.cut(None)), commands),
        "from the image": lambda: app.what_if.of(image.products_named(commands), commands),
    }
    product = image.views.product(sku)
    assert product is not None
    changed = len(app.what_if.of(image.products_named(commands), commands).changes)
    for name, ask in ways.items():
        progress(f"time, {kind}: what if, {name}")
        seconds: list[float] = []
        for _ in range(max(size.samples // 4, 1)):
            with _timed(seconds):
                ask()
        row = [product.waiting_lines, product.version, changed, median(seconds) * 1e3, _p95(seconds) * 1e3]
        rows.append([f"{kind}, {name}", *row])
    return rows


def _p95(seconds: list[float]) -> float:
    return sorted(seconds)[min(len(seconds) - 1, int(0.95 * len(seconds)))]


@contextmanager
def _timed(seconds: list[float], clock: Callable[[], float] = time.perf_counter) -> Iterator[None]:
    begin = clock()
    yield
    seconds.append(clock() - begin)
