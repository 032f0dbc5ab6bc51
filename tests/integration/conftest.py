"""Applications on the real databases, closed at the end."""

from collections.abc import Callable, Iterator

import pytest

from allocation.bootstrap import Application, bootstrap
from allocation.config import Settings, load_settings

Start = Callable[..., Application]


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest) -> str:
    """A fresh database of each kind, with tables and nothing in them."""
    return str(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture(params=["sqlite", "postgres"])
def empty_database_url(request: pytest.FixtureRequest) -> str:
    """One without tables."""
    return str(request.getfixturevalue(f"empty_{request.param}_url"))


@pytest.fixture
def start() -> Iterator[Start]:
    """Builds applications on the database it is given; further arguments are settings."""
    started: list[Application] = []

    def build(url: str, **settings: object) -> Application:
        chosen: Settings = load_settings(database_url=url, **settings)
        started.append(bootstrap(chosen))
        return started[-1]

    yield build
    for application in started:
        application.close()


@pytest.fixture
def application(start: Start, database_url: str) -> Application:
    return start(database_url)
