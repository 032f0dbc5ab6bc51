"""A transaction of its own ends in one of two ways, and tells what went wrong first."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, create_engine

from allocation.adapters.sql.engine import roll_back, transaction
from allocation.service_layer.errors import Conflict


@pytest.fixture
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    file = tmp_path_factory.mktemp("transactions") / "things.db"
    made = create_engine(f"sqlite:///{file}", isolation_level="AUTOCOMMIT")
    with made.connect() as connection:
        connection.exec_driver_sql("CREATE TABLE things (name TEXT PRIMARY KEY)")
    yield made
    made.dispose()


def names(engine: Engine) -> list[str]:
    with engine.connect() as connection:
        return [row.name for row in connection.exec_driver_sql("SELECT name FROM things ORDER BY name")]


def test_what_was_done_stays(engine: Engine) -> None:
    with transaction(engine, "BEGIN IMMEDIATE") as connection:
        connection.exec_driver_sql("INSERT INTO things VALUES ('chair')")
    assert names(engine) == ["chair"]


@pytest.mark.parametrize("failure", [ValueError("wrong"), KeyboardInterrupt()])
def test_whatever_is_raised_undoes_it(engine: Engine, failure: BaseException) -> None:
    def fail() -> None:
        with transaction(engine, "BEGIN IMMEDIATE") as connection:
            connection.exec_driver_sql("INSERT INTO things VALUES ('chair')")
            raise failure

    with pytest.raises(type(failure)) as raised:
        fail()
    assert raised.value is failure
    assert names(engine) == []


def test_what_went_wrong_is_told_and_not_that_nothing_was_open_any_more(engine: Engine) -> None:
    """SQLite ends some transactions by itself; a ROLLBACK is an error then."""

    def fail() -> None:
        with transaction(engine, "BEGIN IMMEDIATE") as connection:
            connection.exec_driver_sql("INSERT INTO things VALUES ('chair')")
            connection.exec_driver_sql("INSERT OR ROLLBACK INTO things VALUES ('chair')")

    with pytest.raises(Conflict, match="UNIQUE"):
        fail()
    assert names(engine) == []


def test_a_connection_that_cannot_roll_back_is_given_up(engine: Engine) -> None:
    with engine.connect() as connection:
        roll_back(connection)
        assert connection.invalidated
