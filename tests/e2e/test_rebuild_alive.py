"""A rebuild beside live traffic: nobody is refused because of it, and log and tables agree in the end."""

from collections import Counter
from collections.abc import Callable
from functools import partial

import pytest

from allocation.bootstrap import Application, bootstrap
from allocation.config import Settings
from allocation.domain.commands import Allocate, CreateBatch
from allocation.service_layer.comparing import Difference
from allocation.service_layer.verify import Steps, Walk
from tests.e2e.crowd import Crowd
from tests.e2e.promises import assert_expected, assert_true
from tests.e2e.service import Service
from tests.e2e.shoppers import Shop, crowd_of, stock_up
from tests.e2e.truth import assert_sound
from tests.integration.damage import execute

CUSTOMERS, REQUESTS, REBUILDS, SEED = 16, 600, 2, 20310402
LIVE = [f"CHAIR-{n}" for n in range(10)]
QUIET = [f"QUIET-{n}" for n in range(5)]

DAMAGE = (
    "DELETE FROM order_lines WHERE sku = 'QUIET-0'",
    "UPDATE batches SET allocated_quantity = 0 WHERE sku = 'QUIET-1'",
    "DELETE FROM products WHERE sku = 'QUIET-2'",
    "DELETE FROM batches WHERE sku = 'QUIET-3'",
    "INSERT INTO order_lines (orderid, sku, qty, batchref, since) VALUES ('stray', 'QUIET-4', 1, 'nowhere', 1)",
    # Of what is sold meanwhile: what no decision of this crowd asks for.
    "UPDATE batches SET created_quantity = created_quantity + 1 WHERE reference LIKE 'first-%'",
    "UPDATE movements SET allocated = allocated + 1",
    "UPDATE stock_levels SET available = '[]'",
)


@pytest.mark.parametrize(("database", "workers"), [("sqlite", 1), ("postgres", 2)])
def test_a_rebuild_beside_live_traffic_ends_equal_and_nobody_is_refused(
    database: str, workers: int, request: pytest.FixtureRequest, measured: Callable[[str], None]
) -> None:
    url = request.getfixturevalue(f"{database}_url")
    rebuilds: list[list[Difference]] = []
    with Service(url, workers=workers, audit_pause_seconds=0) as service:
        clerk = bootstrap(Settings(database_url=url))
        stock_the_quiet(clerk)
        if database == "postgres":
            clerk.worker.start()  # on SQLite the service projects by itself
        shop = Shop(LIVE, lambda: len(rebuilds) >= REBUILDS and len(buying.journal) >= REQUESTS)
        assert Crowd(service.port, [stock_up(shop, LIVE, 2, 30)]).run()
        buying = Crowd(service.port, crowd_of(shop, CUSTOMERS, SEED))

        def rebuild_again_and_again() -> None:
            while len(rebuilds) < REBUILDS:
                buying.wait_until(partial(lambda before: buying.answers > before + 50, buying.answers))
                execute(url, *DAMAGE)
                rebuilds.append(walked(clerk, repair=True))

        finished, _ = buying.run_while(rebuild_again_and_again)
        assert finished
        caught_up(clerk)
        assert walked(clerk) == []
        clerk.close()
        tables = assert_sound(url)
    assert buying.unavailable == 0
    assert_expected(buying.journal)
    assert_true(buying.journal, tables)
    for rebuilt in rebuilds:
        assert all(difference.repaired for difference in rebuilt)
        assert {difference.table for difference in rebuilt} >= {"products", "batches", "order_lines", "movements"}
    repaired = Counter(difference.table for rebuilt in rebuilds for difference in rebuilt)
    measured(f"{database}: {len(rebuilds)} rebuilds beside {len(buying.journal)} requests repaired {dict(repaired)}")


def walked(application: Application, repair: bool = False) -> list[Difference]:
    """In small steps, so that much happens between them."""
    walk = Walk(application.books, application.settings.log_partitions, Steps(3, 1_000, 1_000), repair)
    return [difference for step in walk.run() for difference in step.differences]


def stock_the_quiet(clerk: Application) -> None:
    for sku in QUIET:
        clerk.bus.handle(CreateBatch(f"batch-{sku}", sku, 10))
        for n in range(4):
            clerk.bus.handle(Allocate(f"quiet-{n}", sku, 3))


def caught_up(clerk: Application) -> None:
    """The projections have seen everything."""
    names = ("project_stock_levels", "count_movements")
    while any(c.lag_events for c in clerk.subscriptions.cursors() if c.subscription in names):
        clerk.worker.wake()
