"""A read model counts each event once, whatever becomes of the commit that moves its cursor, and whoever else works."""

import psycopg
import pytest

from allocation.bootstrap import bootstrap
from allocation.config import load_settings
from allocation.domain.commands import Allocate, CreateBatch
from tests.e2e.truth import read_tables
from tests.faults.oracle import assert_none, await_head, faults_after_the_commit, read_after_the_commit
from tests.integration.conftest import Start
from tests.servers.postgres import for_libpq
from tests.servers.proxy import PostgresProxy

CHAIR = "RED-CHAIR"
PATIENCE_SECONDS = 30.0


def assert_right(url: str) -> None:
    await_head(url, PATIENCE_SECONDS)
    assert_none(faults_after_the_commit(read_tables(url), read_after_the_commit(url)))


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
    assert_right(postgres_url)


def test_a_worker_stopped_while_it_says_that_it_lives_holds_up_no_other(start: Start, postgres_url: str) -> None:
    """Its row is locked for as long as it is stopped; who counts the living must not wait for it."""
    application = start(postgres_url, lock_timeout_seconds=0.5)
    now = application.clock.now()
    with psycopg.connect(for_libpq(postgres_url)) as stopped:
        stopped.execute("INSERT INTO workers (owner, lives_until) VALUES ('stopped', %s)", [now])
        stopped.commit()
        stopped.execute("UPDATE workers SET lives_until = lives_until")
        assert application.subscriptions.live("worker-2", 15) == 1
        stopped.rollback()


def test_two_services_of_one_name_on_one_file_count_nothing_twice(sqlite_url: str) -> None:
    """Somebody starts a second one on another port: a worker's name is no proof that a lease is its own."""
    services = [bootstrap(load_settings(database_url=sqlite_url), owner="serve") for _ in range(2)]
    try:
        services[0].bus.handle(CreateBatch("b1", CHAIR, 1000))
        for service in services:
            service.worker.start()
        for n in range(100):
            services[n % 2].bus.handle(Allocate(f"o{n}", CHAIR, 1))
        assert_right(sqlite_url)
    finally:
        for service in services:
            service.close()
