"""A read model counts each event once, whatever becomes of the commit that moves its cursor, and whoever else works."""

from threading import Event as Flag

import pytest

from allocation.bootstrap import bootstrap
from allocation.config import load_settings
from allocation.domain.commands import Allocate, CreateBatch
from tests.e2e.truth import read_tables
from tests.faults.oracle import faults_after_the_commit, lagging, read_after_the_commit
from tests.integration.conftest import Start
from tests.servers.proxy import PostgresProxy

CHAIR = "RED-CHAIR"


def await_the_head(url: str) -> None:
    waited = Flag()
    for _ in range(1000):
        if not lagging(url):
            return
        waited.wait(0.02)
    raise AssertionError(lagging(url))


def faults(url: str) -> list[str]:
    return faults_after_the_commit(read_tables(url), read_after_the_commit(url))


@pytest.mark.parametrize("lost", ["reply", "commit"])
def test_a_connection_lost_at_the_cursors_commit_counts_nothing_twice_and_leaves_nothing_out(
    start: Start, postgres_url: str, postgres_proxy: PostgresProxy, lost: str
) -> None:
    """The server may have committed: the worker has to ask where its cursor is before it goes on."""
    shop, delivering = start(postgres_url), start(postgres_proxy.url)
    shop.bus.handle(CreateBatch("b1", CHAIR, 10))
    shop.bus.handle(Allocate("o1", CHAIR, 3))
    lose = postgres_proxy.lose_reply_of_next_commit if lost == "reply" else postgres_proxy.lose_next_commit
    lose(after="movements")
    delivering.worker.start()
    assert postgres_proxy.commit_lost.wait(20)
    await_the_head(postgres_url)
    assert faults(postgres_url) == []


def test_two_services_of_one_name_on_one_file_count_nothing_twice(sqlite_url: str) -> None:
    """Somebody starts a second one on another port: a worker's name is no proof that a lease is its own."""
    services = [bootstrap(load_settings(database_url=sqlite_url), owner="serve") for _ in range(2)]
    try:
        services[0].bus.handle(CreateBatch("b1", CHAIR, 1000))
        for service in services:
            service.worker.start()
        for n in range(100):
            services[n % 2].bus.handle(Allocate(f"o{n}", CHAIR, 1))
        await_the_head(sqlite_url)
        assert faults(sqlite_url) == []
    finally:
        for service in services:
            service.close()
