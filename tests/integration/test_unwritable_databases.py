"""A database that cannot be written now, or has lost a table: told as what it is, without what was to be written."""

import logging

import psycopg
import pytest
from sqlalchemy.engine import make_url

from allocation.adapters.sql.engine import make_engine
from allocation.adapters.sql.errors import translated
from allocation.bootstrap import Application
from allocation.domain.commands import CreateBatch
from allocation.entrypoints.flask_app import create_app
from allocation.service_layer.errors import ConnectionLost, Unavailable
from tests.e2e.conforming import ConformingClient
from tests.integration.conftest import Start
from tests.integration.damage import execute
from tests.servers.postgres import for_libpq

HOOK = "/v1/subscriptions/hook"
SECRET = "whsec_" + "Q" * 32
PUSH = {"delivery": "push", "sink": {"url": "https://shop.example.com/events", "secret": SECRET}}


BROKEN = {
    "sqlite": ("CREATE TRIGGER broken BEFORE INSERT ON definitions BEGIN INSERT INTO nowhere VALUES (1); END",),
    "postgresql+psycopg": (
        "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''broken''; END'",
        "CREATE TRIGGER broken BEFORE INSERT ON definitions FOR EACH ROW EXECUTE FUNCTION fail()",
    ),
}


def demote(url: str) -> None:
    """Whoever is connected is cut off, and whoever connects may not write."""
    name = make_url(url).database
    with psycopg.connect(for_libpq(url), autocommit=True) as connection:
        connection.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()",
            [name],
        )


def promote(url: str) -> None:
    with psycopg.connect(for_libpq(url), autocommit=True) as connection:
        connection.execute("SET default_transaction_read_only = off")
        connection.execute(f'ALTER DATABASE "{make_url(url).database}" RESET ALL')


def test_a_server_that_was_demoted_is_away_until_it_is_promoted(start: Start, postgres_url: str) -> None:
    shop = start(postgres_url)
    client = ConformingClient(create_app(shop).test_client())
    demote(postgres_url)
    with pytest.raises(Unavailable):
        shop.bus.handle(CreateBatch("b1", "RED-CHAIR", 10))
    away = client.put(HOOK, json=PUSH)
    assert (away.status_code, away.json["type"]) == (503, "/docs#problem-unavailable")
    promote(postgres_url)
    assert client.put(HOOK, json=PUSH).status_code == 201, "on a connection of after"
    shop.bus.handle(CreateBatch("b1", "RED-CHAIR", 10))


def test_what_was_to_be_written_is_in_no_log(application: Application, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    url = application.settings.database_url
    execute(url, *BROKEN[make_url(url).drivername])
    broken = create_app(application).test_client().put(HOOK, json=PUSH)
    assert broken.status_code == 500
    assert "INSERT INTO definitions" in caplog.text
    assert SECRET not in caplog.text


@pytest.mark.parametrize("limit", ["query_only = ON", "max_page_count = 1"])
def test_a_file_that_cannot_be_written_is_away(sqlite_url: str, limit: str) -> None:
    engine = make_engine(sqlite_url)
    with engine.connect() as connection:
        connection.exec_driver_sql(f"PRAGMA {limit}")
        with pytest.raises(ConnectionLost), translated():
            connection.exec_driver_sql("CREATE TABLE stock (sku)")
    engine.dispose()
