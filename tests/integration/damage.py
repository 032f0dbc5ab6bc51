"""Straight into the tables of a database, past every check."""

import sqlite3
from collections.abc import Iterable
from typing import Any

import psycopg
from sqlalchemy import Table, create_engine, select
from sqlalchemy.engine import make_url
from tenacity import retry, retry_if_exception_type, stop_after_attempt

from tests.servers.postgres import for_libpq


def execute(url: str, *statements: str) -> None:
    """Each commits by itself."""
    if url.startswith("sqlite"):
        connection: Any = sqlite3.connect(str(make_url(url).database), isolation_level=None, timeout=30)
        connection.execute("PRAGMA ignore_check_constraints = ON")
    else:
        connection = psycopg.connect(for_libpq(url), autocommit=True)
        connection.execute("ALTER TABLE batches DROP CONSTRAINT IF EXISTS ck_batches_never_oversold")
    for statement in statements:
        _execute(connection, statement)
    connection.close()


# A vandal keeps to no order of locks: beside live traffic the server may choose him to give way, and undoes it whole.
@retry(retry=retry_if_exception_type(psycopg.errors.DeadlockDetected), stop=stop_after_attempt(10), reraise=True)
def _execute(connection: Any, statement: str) -> None:
    connection.execute(statement)


def rows_of(url: str, tables: Iterable[Table]) -> dict[str, list[tuple[Any, ...]]]:
    """Everything in the tables."""
    engine = create_engine(url)
    with engine.connect() as connection:
        found = {t.name: sorted(map(tuple, connection.execute(select(t))), key=repr) for t in tables}
    engine.dispose()
    return found
