"""32 clients at the running service: what they are told is so, and nothing else happened."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.e2e.crowd import Crowd, Entry
from tests.e2e.promises import assert_expected, assert_true
from tests.e2e.service import Service
from tests.e2e.shoppers import Shop, crowd_of, stock_up
from tests.e2e.truth import Tables, assert_sound, faults_of_feed

CLIENTS = 32
REQUESTS = 2_000
SEED = 20310401
EVERY_EVENT = {
    "Allocated",
    "Backordered",
    "BatchCreated",
    "BatchEtaChanged",
    "BatchQuantityChanged",
    "Cancelled",
    "Deallocated",
    "OutOfStock",
}


@dataclass(frozen=True)
class Case:
    database: str
    skus: int
    workers: int = 1
    partitions: int = 1

    def __str__(self) -> str:
        where = f"{self.database}-{'hot' if self.skus == 1 else self.skus}"
        return f"{where}-{self.workers}-workers-{self.partitions}-partitions"


CASES = [
    Case("sqlite", 1),
    Case("sqlite", 1000),
    Case("sqlite", 1000, partitions=4),
    Case("postgres", 1),
    Case("postgres", 1000),
    Case("postgres", 1, workers=2),
    Case("postgres", 1000, workers=2, partitions=4),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_answer_is_true_nothing_is_oversold_and_the_feed_is_the_log(
    case: Case, request: pytest.FixtureRequest, measured: Callable[[str], None]
) -> None:
    url = request.getfixturevalue(f"empty_{case.database}_url")
    with Service(url, workers=case.workers, log_partitions=case.partitions) as service:
        journal, feed = load(service, case.skus)
        tables = assert_sound(url)
        assert_expected(journal)
        assert_true(journal, tables)
        assert faults_of_feed(feed, tables) == []
        assert faults_of_feed(list(feed_of(service)), tables) == []
        busiest, _ = Counter(row["sku"] for row in tables.log).most_common(1)[0]
        told = [event["productversion"] for event in feed_of(service, f"&sku={busiest}")]
        assert told == list(range(1, len(told) + 1))
        assert len(told) == sum(row["sku"] == busiest for row in tables.log)
    assert_mixed(journal, tables, case)
    measured(f"{case}: {len(journal)} requests, {len(tables.log)} events, {statuses(journal)}")


def load(service: Service, skus: int) -> tuple[list[Entry], list[Any]]:
    """What was sent and answered, and the event feed as one client followed it meanwhile."""
    shop = Shop([f"CHAIR-{n}" for n in range(skus)], lambda: len(buying.journal) >= REQUESTS)
    stocking = Crowd(service.port, [stock_up(shop, shop.skus[n::CLIENTS], 1, 20) for n in range(min(skus, CLIENTS))])
    assert stocking.run()
    buying = Crowd(service.port, crowd_of(shop, CLIENTS, SEED))
    assert buying.run(), "the service hung up on somebody"
    return buying.journal, shop.feed


def feed_of(service: Service, query: str = "") -> Iterator[Any]:
    """The event feed, paged through from its beginning."""
    after = ""
    while True:
        status, page = service.ask("GET", f"/v1/events?limit=700{query}{after}")
        assert status == 200
        if not page["events"]:
            return
        yield from page["events"]
        after = f"&after={page['next']}"


def assert_mixed(journal: list[Entry], tables: Tables, case: Case) -> None:
    """The load was what it is meant to be: of everything something, and much of it at the same time."""
    keys = Counter(entry.request.key for entry in journal if entry.request.key)
    assert sum(times > 1 for times in keys.values()) > 50, "hardly a request was repeated under its key"
    told = Counter((entry.request.method, entry.status) for entry in journal)
    for kind in [("POST", 200), ("POST", 201), ("POST", 202), ("POST", 409), ("DELETE", 204), ("PATCH", 200)]:
        assert told[kind] > 20, f"hardly any {kind}"
    if case.skus == 1:
        assert told["PATCH", 412] > 0
        assert {row["type"] for row in tables.log} == EVERY_EVENT


def statuses(journal: list[Entry]) -> str:
    return ", ".join(f"{times} x {status}" for status, times in sorted(Counter(e.status for e in journal).items()))
