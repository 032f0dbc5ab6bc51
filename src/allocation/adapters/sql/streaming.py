"""The rows of one statement, however many, as they come from the server."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

from sqlalchemy import Connection

_ROWS_AT_ONCE = 1000


def stream(connection: Connection, statement: str, parameters: Sequence[Any]) -> Generator[Sequence[Any], None, None]:
    """Has to be closed before the connection, whether it was read to its end or not: while it is open, nothing else can
    use the connection.

    On PostgreSQL the driver streams, so that the server makes the next rows while these are worked on; in chunks, if
    the client library can do so (libpq from 17 on).
    """
    if connection.dialect.name == "sqlite":
        cursor: Any = connection.exec_driver_sql(statement, tuple(parameters)).cursor
        yield from cursor
        return
    from psycopg import capabilities

    size = _ROWS_AT_ONCE if capabilities.has_stream_chunked() else 1
    driver: Any = connection.connection.driver_connection
    yield from driver.cursor().stream(statement, parameters, size=size)
