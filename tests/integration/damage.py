"""Straight into the tables of a database, past every check."""

import sqlite3
from collections.abc import Iterable
from typing import Any

import psycopg
from sqlalchemy import Table, create_engine, select
from sqlalchemy.engine import make_url

from tests.servers.postgres import for_libpq


def execute(url: str, *statements: str) -> None:
    if url.startswith("sqlite"):
        connection: Any = sqlite3.connect(str(make_url(url).database), isolation_level=None, timeout=30)
        connection.execute("PRAGMA ignore_check_constraints = ON")
    else:
        connection = psycopg.connect(for_libpq(url), autocommit=True)
        connection.execute("ALTER TABLE batches DROP CONSTRAINT IF EXISTS ck_batches_never_oversold")
    for statement in statements:
        connection.execute(statement)
    connection.close()


def rows_of(url: str, tables: Iterable[Table]) -> dict[str, list[tuple[Any, ...]]]:
    """Everything in the tables."""
    engine = create_engine(url)
    with engine.connect() as connection:
        found = {t.name: sorted(map(tuple, connection.execute(select(t))), key=repr) for t in tables}
    engine.dispose()
    return found
