"""States to measure on, made quickly: batches through the bus, masses of lines by the floor's rows.

The floor writes what the service writes, log and inbox included, so that a state made by it is one the service could
have made (a test compares the tables).
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from types import ModuleType

from allocation.bootstrap import Application, bootstrap
from allocation.config import load_settings
from allocation.domain.commands import CreateBatch
from benchmarks import floor_postgres, floor_sqlite
from benchmarks.databases import Database, Kind
from benchmarks.floor import Floor, Line
from benchmarks.measure import progress
from benchmarks.orders import BatchRow

GROUP = 5_000


@contextmanager
def application(database: Database, **settings: object) -> Iterator[Application]:
    """The service on a database, in this process; tables are made if there are none."""
    app = bootstrap(load_settings(database_url=database.url, **settings))
    try:
        yield app
    finally:
        app.close()


def floor_of(kind: Kind) -> ModuleType:
    return floor_postgres if kind == "postgres" else floor_sqlite


@contextmanager
def floor(database: Database, variant: str | None = None) -> Iterator[Floor]:
    """A floor on a database that has its tables: the fastest, unless a variant is named."""
    module = floor_of(database.kind)
    store = module.VARIANTS[variant or module.FASTEST](database.target)
    try:
        yield Floor(store)
    finally:
        store.close()


def create_batches(app: Application, rows: Iterable[BatchRow]) -> None:
    """Through the bus, in big groups."""
    for group in _groups(rows, GROUP):
        for answer in app.bus.handle_many([app.bus.envelope(CreateBatch(*row)) for row in group]):
            answer.unwrap()


def fill(database: Database, lines: Iterable[Line], what: str) -> None:
    """Allocate masses of lines (or have them wait) by the floor's rows."""
    done = 0
    with floor(database) as by_hand:
        for group in _groups(lines, GROUP):
            by_hand.allocate(group)
            done += len(group)
            if done % (20 * GROUP) == 0:
                progress(f"{what}: {done:,} lines written")
    progress("")


def _groups(rows: Iterable, size: int) -> Iterator[Sequence]:
    iterator = iter(rows)
    while group := list(islice(iterator, size)):
        yield group
