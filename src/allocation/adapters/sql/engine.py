"""Engines: SQLite and PostgreSQL set up so that they keep their word."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from threading import Lock
from typing import Any

from sqlalchemy import Connection, Engine, ExceptionContext, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random_exponential

from allocation.adapters.sql.dialects import Dialect, PostgresDialect, SqliteDialect
from allocation.adapters.sql.errors import READ_ONLY, translated
from allocation.service_layer.errors import SetupError

_TURN = "allocation_turn_to_write"


def make_engine(url: str, pool_size: int = 8, lock_timeout_seconds: float = 5.0) -> Engine:
    """An engine in autocommit: the unit of work writes BEGIN and COMMIT itself, so that an error *at* COMMIT can be
    told from any other. Errors tell statements without their parameters, which may be secrets. Raises `SetupError` if
    the driver is not installed."""
    make = _sqlite if url.startswith("sqlite") else _postgres
    try:
        return make(url, pool_size, lock_timeout_seconds)
    except (ArgumentError, NoSuchModuleError, ValueError) as wrong:
        # Neither the address, which may hold a password, nor the words of the library, which may repeat it.
        raise SetupError(
            f"ALLOCATION_DATABASE_URL cannot be read as an address ({type(wrong).__name__}): write "
            "sqlite:///FILE or postgresql://USER:PASSWORD@HOST/NAME"
        ) from None


def turn_to_write(engine: Engine) -> AbstractContextManager[Any]:
    """To be held for the length of a transaction that writes. SQLite has one writer at a time, and lets who has to wait
    sleep for up to 100 ms before it looks again: those of one process rather queue here. PostgreSQL: nothing."""
    turn: AbstractContextManager[Any] = engine.get_execution_options().get(_TURN, nullcontext())
    return turn


@contextmanager
def transaction(engine: Engine, begin: str) -> Iterator[Connection]:
    """One that is committed at its end, and rolled back by whatever is raised in it. Raises `Conflict`,
    `ConnectionLost`."""
    with translated(), engine.connect() as connection:
        connection.exec_driver_sql(begin)
        try:
            yield connection
        except BaseException:
            roll_back(connection)
            raise
        connection.exec_driver_sql("COMMIT")


def roll_back(connection: Connection) -> None:
    """Undo what may be open. What went wrong before is what is told: a connection that cannot do it is given up."""
    try:
        if not connection.invalidated:
            connection.exec_driver_sql("ROLLBACK")
    except DBAPIError:
        connection.invalidate()  # the transaction ends with it; a pool must not hand it out again


def transactions_at_once(engine: Engine) -> int:
    """How many writing transactions one process does best to have at work. SQLite has one writer. PostgreSQL works in a
    process of its own: while it does so for one transaction, ours, which fills one processor, works for another."""
    return 1 if engine.dialect.name == "sqlite" else 2


def dialect_of(engine: Engine) -> Dialect:
    return SqliteDialect() if engine.dialect.name == "sqlite" else PostgresDialect()


def _sqlite(url: str, pool_size: int, lock_timeout_seconds: float) -> Engine:
    engine = create_engine(
        url,
        isolation_level="AUTOCOMMIT",
        hide_parameters=True,
        connect_args={"timeout": lock_timeout_seconds, "check_same_thread": False},
        pool_size=pool_size,
        max_overflow=64,
        execution_options={_TURN: Lock()},
    )

    @event.listens_for(engine, "connect")
    def _set_up(connection: Any, _record: Any) -> None:
        # WAL lets readers read while one writes. The first to open a new file turns it on; who does it at the same
        # moment is told "locked" at once, whatever the timeout, and has only to look again.
        patiently = Retrying(
            retry=retry_if_exception(_is_locked),
            stop=stop_after_delay(lock_timeout_seconds),
            wait=wait_random_exponential(multiplier=0.01, max=0.1),
            reraise=True,
        )
        patiently(_run, connection, "PRAGMA journal_mode=WAL")
        # FULL: an acknowledged commit survives a power cut; with NORMAL it need not
        # (https://www.sqlite.org/pragma.html#pragma_synchronous).
        # A checkpoint every 16,000 pages (64 MB of WAL) in place of every 1,000: bulk writes measured a tenth quicker.
        for pragma in ("synchronous=FULL", "wal_autocheckpoint=16000", "cache_size=-65536"):
            _run(connection, f"PRAGMA {pragma}")

    return engine


def _is_locked(error: BaseException) -> bool:
    return isinstance(error, sqlite3.OperationalError) and "locked" in str(error)


def _run(connection: Any, statement: str) -> None:
    connection.execute(statement).close()


def _postgres(url: str, pool_size: int, lock_timeout_seconds: float) -> Engine:
    settings = {
        "TimeZone": "UTC",
        "lock_timeout": f"{round(lock_timeout_seconds * 1000)}ms",
        "statement_timeout": "60s",
        "idle_in_transaction_session_timeout": "60s",
        # That one does not run in the middle of a pipeline; who is gone without a word is missed after as long, too.
        "tcp_keepalives_idle": "30",
        "tcp_keepalives_interval": "10",
        "tcp_keepalives_count": "3",
        # Every statement of ours has an index to go by; a plan made while a table was small must not scan it later.
        "enable_seqscan": "off",
        # Every join of ours looks up few rows in a table of many; both of these would read the whole table.
        "enable_mergejoin": "off",
        "enable_hashjoin": "off",
        "jit": "off",
    }
    try:
        engine = create_engine(
            make_url(url).set(drivername="postgresql+psycopg"),
            isolation_level="AUTOCOMMIT",
            hide_parameters=True,
            pool_size=pool_size,
            max_overflow=64,
            connect_args={
                "connect_timeout": 5,
                "application_name": "allocation",
                "options": " ".join(f"-c {name}={value}" for name, value in settings.items()),
            },
        )
    except ModuleNotFoundError as missing:
        raise SetupError("PostgreSQL needs a driver: pip install 'allocation[postgres]'") from missing
    event.listen(engine, "handle_error", _leave_a_standby)
    return engine


def _leave_a_standby(context: ExceptionContext) -> None:
    """After a failover the address may lead to another server; what is in the pool still leads to the one of before."""
    if getattr(context.original_exception, "sqlstate", None) == READ_ONLY:
        context.is_disconnect = True
