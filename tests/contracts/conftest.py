from collections.abc import Generator, Iterator

import pytest

from tests.contracts.brokers import count_check
from tests.contracts.harness import MakeStore, Opened, SharedStore, Store
from tests.servers.redis import PrivateRedis

# The contract is in modules that pytest does not take for tests: their asserts are to tell as much.
for _module in ("transactions", "logs", "inboxes", "reading", "concurrency", "decisions", "broker_contract", "pulls"):
    pytest.register_assert_rewrite(f"tests.contracts.{_module}")


@pytest.fixture
def store(make_store: MakeStore) -> Store:
    """An empty store with one log partition."""
    return make_store(1)


@pytest.fixture
def opened(store: Store) -> Opened:
    return store.open()


@pytest.fixture
def shared(store: Store) -> SharedStore:
    return SharedStore(store)


@pytest.fixture(scope="session")
def durable_redis() -> Iterator[PrivateRedis]:
    """A Redis that syncs every write, to be killed and started again."""
    with PrivateRedis(durable=True) as server:
        yield server


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    count_check(item, report)
    return report
