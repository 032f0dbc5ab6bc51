"""An import in several transactions at once, on PostgreSQL: told, and ended, as one that goes row by row."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner, Result

from allocation.bootstrap import bootstrap
from allocation.config import Settings
from allocation.entrypoints.cli import main
from tests.servers.postgres import Postgres, for_libpq

FILES = ("--batches", "batches.csv", "--orders", "orders.csv")
SKUS = [f"SKU-{n}" for n in range(20)]
SHOPPING = [f"o-{n},{SKUS[n * n % 20]},{1 + n % 7}" for n in range(900)]
BY_TURNS = [f"o-{n},{('CHAIR', 'TABLE')[n % 2]},1" for n in range(400)]

STATE = (
    "SELECT sku, orderid, qty, batchref FROM order_lines ORDER BY sku, since",
    "SELECT reference, sku, purchased_quantity, allocated_quantity, eta, is_open FROM batches ORDER BY reference",
    "SELECT sku, version_number FROM products ORDER BY sku",
    "SELECT sku, version, type, data FROM event_log ORDER BY sku, version",
    "SELECT client, type, body, outcome FROM inbox ORDER BY body",
    "SELECT count(*), max(position) FROM event_log",
)


class Shop:
    """A database, and the command line on it."""

    def __init__(self, url: str) -> None:
        self.url = url

    def take_in(self, *arguments: str) -> Result:
        environment = {"ALLOCATION_DATABASE_URL": self.url}
        return CliRunner().invoke(main, ["import", *FILES, *arguments], env=environment, catch_exceptions=False)

    def told(self, *arguments: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.take_in("--json", *arguments).stdout)
        return found

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(for_libpq(self.url)) as connection:
            return connection.execute(query.encode()).fetchall()

    def state(self) -> list[list[tuple[Any, ...]]]:
        return [self.ask(query) for query in STATE]

    def changes_of_product(self) -> int:
        """How often the log goes on with another product, in the order of positions."""
        skus = [sku for (sku,) in self.ask("SELECT sku FROM event_log WHERE type = 'Allocated' ORDER BY position")]
        return sum(one != other for one, other in pairwise(skus))


@pytest.fixture
def new_shop(
    postgres_server: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[], Shop]]:
    """In a folder of its own; each has an empty database."""
    monkeypatch.chdir(tmp_path)
    urls: list[str] = []

    def make() -> Shop:
        urls.append(postgres_server.create_database())
        return Shop(urls[-1])

    yield make
    for url in urls:
        postgres_server.drop_database(url)


def write(batches: Sequence[str], orders: Sequence[str]) -> None:
    Path("batches.csv").write_text("\n".join(["ref,sku,qty,eta", *batches]))
    Path("orders.csv").write_text("\n".join(["orderid,sku,qty", *orders]))


@pytest.mark.parametrize("at_once", ["2", "8"])
def test_what_is_there_in_the_end_is_what_one_transaction_at_a_time_leaves(
    new_shop: Callable[[], Shop], at_once: str
) -> None:
    write([f"B-{n},{SKUS[n % 20]},{9 * n},{'2031-05-01' if n % 3 else ''}" for n in range(1, 61)], SHOPPING)
    one, several = new_shop(), new_shop()
    foreseen = several.told("--at-once", at_once, "--dry-run")["files"]
    files = [one.told("--at-once", "1")["files"], several.told("--at-once", at_once)["files"]]
    assert files[0] == files[1] == foreseen
    assert {"allocated", "waiting"} <= {name for name, count in files[0][1].items() if count}
    assert several.state() == one.state()
    assert several.take_in("--at-once", at_once).stdout.endswith("Nothing changed.\n")


def test_on_postgresql_two_are_at_work_unless_it_is_said_otherwise(new_shop: Callable[[], Shop]) -> None:
    write(["B-1,CHAIR,1000,", "B-2,TABLE,1000,"], BY_TURNS)
    one, two = new_shop(), new_shop()
    one.take_in("--at-once", "1")
    assert one.changes_of_product() == 399, "as in the file"
    told = two.told("--group", "200")
    assert two.changes_of_product() == 1, "a group of 2 x 200 rows, product by product"
    assert told["position"] == "0-402"


def test_a_refused_row_in_the_middle_stops_it_and_the_mended_file_goes_on(new_shop: Callable[[], Shop]) -> None:
    wrong = dict(enumerate(BY_TURNS)) | {101: "o-1,TABLE,9", 160: "o-2,CHAIR,9"}
    batches = ["B-1,CHAIR,100,", "B-2,TABLE,90,", "B-3,CHAIR,100,2031-05-01"]
    write(batches, list(wrong.values()))
    shop, row_by_row = new_shop(), new_shop()
    told = shop.told("--at-once", "2", "--group", "200")
    assert told["stopped"] == "orders.csv, line 103: Order o-1 already has a line for TABLE, with quantity 1"
    assert [row["number"] for row in told["refused"]] == [103, 162]
    orders = told["files"][1]
    assert (orders["rows"], orders["allocated"], orders["refused"]) == (50 + 80 + 2, 50 + 80, 2)
    assert {orderid for (orderid,) in shop.ask("SELECT orderid FROM order_lines")} == {
        f"o-{n}" for n in range(400) if n < 101 or (n < 160 and n % 2 == 0)
    }, "every row before it; behind it those of the other product, up to its own first refusal"

    write(batches, BY_TURNS)
    again = shop.told("--at-once", "2", "--group", "200")
    assert again["stopped"] is None
    assert (again["files"][1]["there_already"], again["changed"]) == (130, 270)
    row_by_row.take_in("--at-once", "1")
    assert shop.state() == row_by_row.state()


def test_two_batches_under_one_reference_are_settled_by_the_order_of_the_file(new_shop: Callable[[], Shop]) -> None:
    batches = [f"B-{n},{SKUS[n % 20]},5," for n in range(200)]
    write([*batches, "B-100,SKU-1,5,"], ["o-1,SKU-1,1"])
    told = new_shop().told("--at-once", "2")
    assert told["stopped"].startswith("batches.csv, line 202: ")
    assert told["files"][0]["taken_in"] == 200


@pytest.mark.parametrize(("database", "at_once"), [("memory:", 1), ("sqlite", 1), ("postgres", 2)])
def test_the_store_says_how_many_do_best(request: pytest.FixtureRequest, database: str, at_once: int) -> None:
    url = database if database == "memory:" else request.getfixturevalue(f"{database}_url")
    app = bootstrap(Settings(database_url=url))
    try:
        assert app.at_once == at_once
    finally:
        app.close()
