"""The errors of databases and their drivers, translated in one place.

sqlstate / message                                     becomes
40001, 40P01, 55P03, 57014; "database is locked"       Conflict: roll back, try again
23xxx: a key, a check                                  Conflict: someone was faster, or would have oversold
22012: a step that did not meet all its rows           Conflict: they are not as they were loaded
08xxx, 25006, 25P03, 57P0x, 53xxx, or no sqlstate      ConnectionLost: nothing was committed, try again
"disk is full", "readonly database" and the like       the same
anything else                                          a defect of ours: raised as it is
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from allocation.service_layer.errors import Conflict, ConnectionLost, Overloaded

try:
    from psycopg import DatabaseError as PostgresDatabaseError
    from psycopg import Error as PostgresError
    from psycopg import OperationalError as PostgresOperationalError
except ModuleNotFoundError:  # the extra `postgres` is not installed: none of these can occur

    class PostgresError(Exception):  # type: ignore[no-redef]  # stands in for the driver's
        sqlstate: str | None = None

    class PostgresDatabaseError(PostgresError):  # type: ignore[no-redef]  # stands in for the driver's
        pass

    class PostgresOperationalError(PostgresDatabaseError):  # type: ignore[no-redef]  # stands in for the driver's
        pass


_TRY_AGAIN = ("40001", "40P01", "55P03", "57014", "23", "22012")
READ_ONLY = "25006"
"""The server was demoted to a standby, or is read-only for another reason."""

_LOST = ("08", READ_ONLY, "25P03", "57P0", "53")
_SQLITE_LOCKED = ("database is locked", "database table is locked")
_SQLITE_AWAY = ("unable to open", "disk I/O", "database or disk is full", "attempt to write a readonly database")


def translate(error: BaseException) -> Exception | None:
    """The service layer's error for it; None: it is a defect of ours."""
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    if isinstance(error, PostgresError):
        sqlstate = error.sqlstate or ""
        if sqlstate.startswith(_TRY_AGAIN):
            return Conflict(reason)
        if sqlstate.startswith(_LOST) or (not sqlstate and _is_of_the_client_library(error)):
            return ConnectionLost(f"The database does not answer: {reason}")
    if isinstance(error, sqlite3.IntegrityError) or reason.startswith(_SQLITE_LOCKED):
        return Conflict(reason)
    if isinstance(error, sqlite3.OperationalError) and reason.startswith(_SQLITE_AWAY):
        return ConnectionLost(f"The database does not answer: {reason}")
    return None


def _is_of_the_client_library(error: PostgresError) -> bool:
    """An error without sqlstate does not come from a server: the connection is lost, or cannot be made. psycopg raises
    it as `OperationalError`, or, as the result of a statement in a pipeline, as plain `DatabaseError`. It also raises
    `OperationalError` for a statement with more parameters than the protocol can count, which is a defect of ours."""
    is_operational = isinstance(error, PostgresOperationalError) or type(error) is PostgresDatabaseError
    return is_operational and "number of parameters" not in str(error)


@contextmanager
def translated() -> Iterator[None]:
    """Turns database errors that are raised inside into errors of the service layer."""
    try:
        yield
    except (DBAPIError, PostgresError, sqlite3.Error) as error:
        cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
        translation = translate(cause)
        if translation is None:
            raise
        raise translation from error
    except PoolTimeoutError as error:
        raise Overloaded("Every database connection is busy; try again in a second") from error
