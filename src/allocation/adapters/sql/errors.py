"""The words of databases and their drivers, translated in one place.

sqlstate / message                                     becomes
40001, 40P01, 55P03, 57014; "database is locked"       Conflict: roll back, try again
23xxx: a key, a check                                  Conflict: someone was faster, or would have oversold
08xxx, 57P0x, 53xxx, or no sqlstate: the connection    ConnectionLost: nothing was committed, try again
anything else                                          a defect of ours: raised as it is
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from allocation.service_layer.errors import Conflict, ConnectionLost, Overloaded

_TRY_AGAIN = {"40001", "40P01", "55P03", "57014"}
_SQLITE_TRY_AGAIN = ("database is locked", "database table is locked")


def translate(error: DBAPIError) -> Exception:
    """What the service layer calls it; the error itself if it is a defect."""
    sqlstate = getattr(error.orig, "sqlstate", None)
    reason = str(error.orig).strip().splitlines()[0] if str(error.orig).strip() else type(error.orig).__name__
    if isinstance(error, IntegrityError) or sqlstate in _TRY_AGAIN or reason.startswith(_SQLITE_TRY_AGAIN):
        return Conflict(reason)
    lost = error.connection_invalidated or (sqlstate or "").startswith(("08", "57P0", "53"))
    if lost or (isinstance(error, OperationalError) and sqlstate is None):
        return ConnectionLost(f"The database does not answer: {reason}")
    return error


@contextmanager
def translated() -> Iterator[None]:
    """Whatever the database raises inside leaves in the words of the service layer."""
    try:
        yield
    except DBAPIError as error:
        translation = translate(error)
        if translation is error:
            raise
        raise translation from error
    except PoolTimeoutError as error:
        raise Overloaded("Every database connection is busy; try again in a second") from error
