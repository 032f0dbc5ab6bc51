"""What breaks in how the book's own code is put together: each breakage by its number and name."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import inspect

from allocation.adapters.serialization import BadMessage, decode_command
from allocation.adapters.sql.dialects import Outcome, PostgresDialect, SqliteDialect, Step
from allocation.adapters.sql.engine import make_engine
from allocation.adapters.sql.repository import Pages
from allocation.bootstrap import Application, bootstrap, load_settings
from allocation.domain.commands import Allocate, ChangeBatchQuantity, Command, CreateBatch, Deallocate
from allocation.domain.errors import UnknownBatch
from allocation.entrypoints.cli import main
from allocation.entrypoints.watching import watched
from allocation.service_layer.handlers import COMMAND_HANDLERS
from allocation.service_layer.unit_of_work import UnitOfWork
from tests.e2e.service import Service, WorkerProcess


@pytest.mark.parametrize("failure", [ZeroDivisionError("a defect"), KeyError("missing"), AssertionError("impossible")])
def test_07_what_a_handler_raises_is_logged_and_gone(database_url: str, failure: Exception) -> None:
    """Core's part: commands. (Reactions to events come as subscriptions, which keep what failed.)"""

    def dying(cmd: Allocate, uow: UnitOfWork) -> None:
        raise failure

    shop = bootstrap(load_settings(database_url=database_url), handlers={**COMMAND_HANDLERS, Allocate: dying})
    with pytest.raises(type(failure)) as told:
        shop.bus.handle(Allocate("o1", "RED-CHAIR", 1))
    assert told.value is failure
    assert told.traceback[-1].name == "dying"
    shop.close()


BAD_MESSAGES = {
    "bad JSON": ("ChangeBatchQuantity", "{"),
    "not an object": ("ChangeBatchQuantity", '"b1"'),
    "a missing key": ("ChangeBatchQuantity", '{"qty": 5}'),
    "wrong types": ("ChangeBatchQuantity", '{"ref": "b1", "qty": "5"}'),
    "an unknown type": ("Repaint", '{"ref": "b1", "qty": 5}'),
    "no encoding": ("ChangeBatchQuantity", b'\xff\xfe{\x00"\x00'),
}


@pytest.mark.parametrize("what", BAD_MESSAGES)
def test_08_one_bad_message_ends_the_consumer(what: str) -> None:
    """Core's part: at the boundary a bad message is refused with its reason, under one name that a consumer catches."""
    with pytest.raises(BadMessage) as refused:
        decode_command(*BAD_MESSAGES[what])
    assert len(str(refused.value)) > 20


def test_08_an_unknown_batch_ends_the_consumer(application: Application) -> None:
    """Core's part: it is an answer, and the messages beside it are handled."""
    commands = [
        CreateBatch("b1", "RED-CHAIR", 10),
        decode_command("ChangeBatchQuantity", '{"ref": "nobody-knows", "qty": 5}'),
        decode_command("ChangeBatchQuantity", '{"ref": "b1", "qty": 5}'),
    ]
    answers = application.bus.handle_many([application.bus.envelope(command) for command in commands])
    assert [answer.error for answer in answers] == [None, UnknownBatch("nobody-knows"), None]


@contextmanager
def rows_read() -> Iterator[list[int]]:
    """How many rows each statement brings meanwhile."""
    counted: list[int] = []
    originals = {dialect: dialect.run for dialect in (SqliteDialect, PostgresDialect)}

    def counting(original: Any) -> Any:
        def run(self: object, connection: object, steps: Sequence[Step]) -> list[Outcome]:
            outcomes: list[Outcome] = original(self, connection, steps)
            counted.extend(len(outcome.rows) for outcome in outcomes)
            return outcomes

        return run

    with pytest.MonkeyPatch.context() as patch:
        for dialect, original in originals.items():
            patch.setattr(dialect, "run", counting(original))
        yield counted


def rows_of(shop: Application, command: Command) -> int:
    with rows_read() as counted:
        shop.bus.handle(command)
    return sum(counted)


def test_11_every_allocate_loads_every_line(application: Application) -> None:
    shop = application
    shop.bus.handle(CreateBatch("b1", "RED-CHAIR", 1_000_000))
    costs = []
    for lines in (10, 2000):
        shop.bus.handle_many([shop.bus.envelope(Allocate(f"{lines}-{n}", "RED-CHAIR", 1)) for n in range(lines)])
        costs.append(
            [
                rows_of(shop, Allocate(f"one-more-than-{lines}", "RED-CHAIR", 1)),
                rows_of(shop, Deallocate(f"{lines}-5", "RED-CHAIR")),
                rows_of(shop, ChangeBatchQuantity("b1", 1_000_000 - lines)),
            ]
        )
    assert costs[0] == costs[1]
    assert max(costs[0]) < 10


def test_11_deallocating_loads_every_line_that_waits_in_vain(application: Application) -> None:
    shop = application
    shop.bus.handle(CreateBatch("b1", "RED-CHAIR", 5))
    costs = []
    for lines in (20, 2000):  # more than the first page
        shop.bus.handle(Allocate("small", "RED-CHAIR", 5))
        shop.bus.handle_many([shop.bus.envelope(Allocate(f"{lines}-{n}", "RED-CHAIR", 6)) for n in range(lines)])
        costs.append(rows_of(shop, Deallocate("small", "RED-CHAIR")))
    assert costs[0] == costs[1] < 10 + Pages().waiting


@pytest.mark.filterwarnings("ignore:Skipped unsupported reflection of expression-based index")
def test_11_there_is_no_index_on_what_points_elsewhere(application: Application, database_url: str) -> None:
    engine = make_engine(database_url)
    indexes = {
        (table, str(index["column_names"][0]))
        for table in ("batches", "order_lines")
        for index in inspect(engine).get_indexes(table)
    }
    engine.dispose()
    assert {("batches", "sku"), ("order_lines", "batchref"), ("order_lines", "sku")} <= indexes


IMPORT_EVERYTHING = """
import importlib, os, pkgutil, sys

def watch(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "sqlite3.connect"):
        raise SystemExit(f"an import did {event} {arguments}")

sys.addaudithook(watch)
import allocation
for module in pkgutil.walk_packages(allocation.__path__, "allocation."):
    if not module.name.endswith(("__main__", "migrations.env")):
        importlib.import_module(module.name)
        print(module.name)
"""


def test_14_an_import_connects_or_reads_the_settings(tmp_path: Path) -> None:
    nonsense = {"ALLOCATION_DATABASE_URL": "nonsense", "ALLOCATION_PORT": "nonsense", "ALLOCATION_THREADS": "-1"}
    ran = subprocess.run(
        [sys.executable, "-c", IMPORT_EVERYTHING],
        env={**os.environ, **nonsense},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert {"allocation.bootstrap", "allocation.adapters.sql.unit_of_work"} <= set(ran.stdout.split())
    assert list(tmp_path.iterdir()) == []


def test_14_a_second_bootstrap_fails(tmp_path: Path, sqlite_url: str, postgres_url: str) -> None:
    urls = [sqlite_url, postgres_url, sqlite_url, f"sqlite:///{tmp_path / 'other.db'}", "memory:", "memory:"]
    shops = [bootstrap(load_settings(database_url=url)) for url in urls]
    for shop in shops:
        shop.bus.handle(CreateBatch("b1", "RED-CHAIR", 10))
    for n, shop in enumerate(shops):
        shop.bus.handle(Allocate(f"o{n}", "RED-CHAIR", 1))
    assert [shop.views.batch("b1").available for shop in shops] == [8, 9, 8, 9, 9, 9]  # type: ignore[union-attr]  # it is there
    for shop in shops:
        shop.close()


def test_14_a_fresh_stack_has_no_tables(empty_database_url: str) -> None:
    shop = bootstrap(load_settings(database_url=empty_database_url))
    shop.views.ready()
    assert shop.bus.handle(CreateBatch("b1", "RED-CHAIR", 10)).version == 1
    shop.close()


def serves(url: str) -> None:
    with Service(url) as service:
        assert service.ask("POST", "/v1/batches", {"ref": "b1", "sku": "RED-CHAIR", "qty": 10, "eta": None})[0] == 201


def delivers(url: str) -> None:
    with WorkerProcess(url):
        pass


def takes_in(url: str) -> None:
    """As `allocation consumer` does before it asks its brokers for something."""
    watched(load_settings(database_url=url)).close()


def is_told(url: str) -> None:
    told = CliRunner().invoke(main, ["events"], env={"ALLOCATION_DATABASE_URL": url}, catch_exceptions=False)
    assert told.exit_code == 0, told.output


@pytest.mark.parametrize("starts", [serves, delivers, takes_in, is_told])
def test_14_who_starts_first_makes_the_tables(empty_database_url: str, starts: Callable[[str], None]) -> None:
    starts(empty_database_url)
    engine = make_engine(empty_database_url)
    made = inspect(engine).get_table_names()
    engine.dispose()
    assert {"batches", "order_lines", "event_log"} <= set(made)
