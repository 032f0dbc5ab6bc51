"""Engines: SQLite and PostgreSQL, set up so that what they acknowledge holds."""

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
    distinguished from any other. Errors show statements without their parameters, which may be secrets. Raises
    `SetupError` if the driver is not installed."""
    make = _sqlite if url.startswith("sqlite") else _postgres
    try:
        return make(url, pool_size, lock_timeout_seconds)
    except (ArgumentError, NoSuchModuleError, ValueError) as wrong:
        # Shows neither the address, which may hold a password, nor the library's message, which may repeat it.
        raise SetupError(
            f"ALLOCATION_DATABASE_URL cannot be read as an address ({type(wrong).__name__}): write "
            "sqlite:///FILE or postgresql://USER:PASSWORD@HOST/NAME"
        ) from None


def turn_to_write(engine: Engine) -> AbstractContextManager[Any]:
    """To be held throughout a transaction that writes. SQLite has one writer at a time, and a writer that has to wait
    sleeps for up to 100 ms before it looks again; so the writers of one process queue here instead. On PostgreSQL this
    does nothing."""
    turn: AbstractContextManager[Any] = engine.get_execution_options().get(_TURN, nullcontext())
    return turn


@contextmanager
def transaction(engine: Engine, begin: str) -> Iterator[Connection]:
    """A transaction that is committed at its end, and rolled back if anything is raised in it. Raises `Conflict`,
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
    """Roll back whatever may be open. A connection that fails at this is given up, so that the earlier error is the one
    reported."""
    try:
        if not connection.invalidated:
            connection.exec_driver_sql("ROLLBACK")
    except DBAPIError:
        connection.invalidate()  # this ends the transaction; the pool must not hand out the connection again


def transactions_at_once(engine: Engine) -> int:
    """How many writing transactions one process should best run at once. SQLite has one writer. PostgreSQL works in a
    process of its own: while it works on one transaction, our process, which fills one processor, works on another."""
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
        # WAL lets readers read during a write. The first process to open a new file turns it on; one that tries at the
        # same moment gets "locked" at once, whatever the timeout, and only has to try again.
        patiently = Retrying(
            retry=retry_if_exception(_is_locked),
            stop=stop_after_delay(lock_timeout_seconds),
            wait=wait_random_exponential(multiplier=0.01, max=0.1),
            reraise=True,
        )
        patiently(_run, connection, "PRAGMA journal_mode=WAL")
        # FULL: an acknowledged commit survives a power cut; with NORMAL it need not
        # (https://www.sqlite.org/pragma.html#pragma_synchronous). A checkpoint every 16,000 pages (64 MB of WAL)
        # instead of every 1,000: bulk writes were measured to be a tenth faster.
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
        # That timeout does not run in the middle of a pipeline; with keepalives, a client that vanished is noticed
        # after as long.
        "tcp_keepalives_idle": "30",
        "tcp_keepalives_interval": "10",
        "tcp_keepalives_count": "3",
        # Each of our statements has an index to use; a plan made while a table was small must not scan it later.
        "enable_seqscan": "off",
        # Each of our joins looks up a few rows in a large table; both of these would read the whole table.
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
    """After a failover the address may lead to another server; connections in the pool still lead to the previous
    one."""
    if getattr(context.original_exception, "sqlstate", None) == READ_ONLY:
        context.is_disconnect = True
