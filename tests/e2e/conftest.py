"""The application as its clients meet it: over HTTP, on every kind of database."""

from collections.abc import Iterator

import pytest

from allocation.bootstrap import Application, bootstrap
from allocation.config import Settings
from allocation.entrypoints.flask_app import create_app
from tests.e2e.conforming import ConformingClient

DATABASES = ["memory", "sqlite", "postgres"]


@pytest.fixture(params=DATABASES)
def database_url(request: pytest.FixtureRequest) -> str:
    """An empty database of each kind."""
    return "memory:" if request.param == "memory" else request.getfixturevalue(f"{request.param}_url")


@pytest.fixture
def application(database_url: str) -> Iterator[Application]:
    built = bootstrap(Settings(database_url=database_url))
    yield built
    built.close()


@pytest.fixture
def client(application: Application) -> ConformingClient:
    return ConformingClient(create_app(application).test_client())


@pytest.fixture
def memory_client() -> ConformingClient:
    """For what does not depend on the database."""
    return ConformingClient(create_app(bootstrap(Settings(database_url="memory:"))).test_client())
