"""The servers and databases that tests ask for by name."""

import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from shutil import copyfile

import pytest

from tests.notes import note, noted
from tests.servers.kafka import Kafka, kafka_for_tests
from tests.servers.postgres import Postgres, postgres
from tests.servers.proxy import PostgresProxy
from tests.servers.redis import Redis, redis_for_tests
from tests.servers.service_bus import PrivateServiceBus
from tests.servers.service_bus.quick import impatient_sdk
from tests.tables import migrated

pytest_plugins = ["tests.across_processes", "tests.no_silent_skips"]


def pytest_configure() -> None:
    """Who is started in the background ignores Ctrl-C, and so would all that we start: tests would wait for its end.

    What we handle ourselves a child does not inherit. A hangup (`nohup`) we still survive.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda _number, _frame: None)


@pytest.fixture(autouse=True)
def ctrl_c_stays_what_it_was() -> Iterator[None]:
    """Workers and consumers, run in this process, take signals for themselves and keep them."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in handlers.items():
        if signal.getsignal(number) is not handler:
            signal.signal(number, handler)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    from tests.contracts.brokers import table_of_scores  # here: the process that begins a run reads no other conftest

    if told := table_of_scores(config):
        terminalreporter.section("the contract of brokers")
        for line in told:
            terminalreporter.write_line(line)
    for line in noted(config, "measured"):
        terminalreporter.write_line(f"measured: {line}")
    servers = sorted(set(noted(config, "servers")))
    terminalreporter.write_line(f"servers used: {'; '.join(servers) or 'none'}")


@pytest.fixture
def measured(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Takes a line about what a test measured; they stand at the end of the run."""
    return partial(note, request.config, "measured")


@pytest.fixture(scope="session")
def postgres_server(request: pytest.FixtureRequest) -> Iterator[Postgres]:
    """One PostgreSQL for the whole session. To kill one, start a `PrivatePostgres` of your own."""
    with postgres() as server:
        note(request.config, "servers", server.source)
        yield server


@pytest.fixture
def empty_postgres_url(postgres_server: Postgres) -> Iterator[str]:
    """A fresh database for one test, without any table: `postgresql+psycopg://...`."""
    url = postgres_server.create_database()
    yield url
    postgres_server.drop_database(url)


@pytest.fixture(scope="session")
def postgres_with_tables(postgres_server: Postgres) -> str:
    return migrated(postgres_server.create_database())


@pytest.fixture
def postgres_url(postgres_server: Postgres, postgres_with_tables: str) -> Iterator[str]:
    """A fresh database for one test, with tables (a log of one partition) and nothing in them: a copy, for to make
    them takes far longer."""
    url = postgres_server.create_database(postgres_with_tables)
    yield url
    postgres_server.drop_database(url)


@pytest.fixture
def postgres_proxy(postgres_url: str) -> Iterator[PostgresProxy]:
    """A proxy that can lose connections in front of `postgres_url`; its own `url` is the one to connect to."""
    with PostgresProxy(postgres_url) as proxy:
        yield proxy


@pytest.fixture(scope="session")
def redis_server(request: pytest.FixtureRequest) -> Iterator[Redis]:
    """One Redis for the whole session. To kill one, start a `PrivateRedis` of your own."""
    with redis_for_tests() as server:
        note(request.config, "servers", server.source)
        yield server


@pytest.fixture
def redis_url(redis_server: Redis) -> str:
    """An empty Redis database for one test."""
    redis_server.empty()
    return redis_server.url


@pytest.fixture(scope="session")
def kafka_server(request: pytest.FixtureRequest) -> Iterator[Kafka]:
    """One Kafka for the whole session, or the mock that stands in for it; `source` tells."""
    with kafka_for_tests() as server:
        note(request.config, "servers", server.source)
        yield server


@pytest.fixture(scope="session")
def service_bus(request: pytest.FixtureRequest) -> Iterator[PrivateServiceBus]:
    """One peer of Service Bus for the whole session. Who kills it starts it again."""
    with PrivateServiceBus() as server, impatient_sdk():
        note(request.config, "servers", server.source)
        yield server


@pytest.fixture
def empty_sqlite_url(tmp_path: Path) -> str:
    """A fresh SQLite file for one test; it does not exist yet."""
    return f"sqlite:///{tmp_path / 'allocation.db'}"


@pytest.fixture(scope="session")
def sqlite_with_tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("tables") / "allocation.db"
    migrated(f"sqlite:///{file}")
    return file


@pytest.fixture
def sqlite_url(empty_sqlite_url: str, sqlite_with_tables: Path, tmp_path: Path) -> str:
    """A fresh SQLite file for one test, with tables (a log of one partition) and nothing in them."""
    copyfile(sqlite_with_tables, tmp_path / "allocation.db")
    return empty_sqlite_url
