import pytest

from tests.contracts.harness import MakeStore, Opened, SharedStore, Store

# The contract is in modules that pytest does not take for tests: their asserts are to tell as much.
for _module in ("transactions", "logs", "inboxes", "reading", "concurrency", "decisions"):
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
