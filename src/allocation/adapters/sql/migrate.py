"""Bring a database to today's tables, one process at a time, and fix the number of log partitions for good."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Connection, Engine, func, insert, inspect, select, text

from allocation.adapters.sql.engine import transaction
from allocation.adapters.sql.errors import translated
from allocation.adapters.sql.tables import REVISION, log_head
from allocation.service_layer.errors import SetupError

_LOCK = 0x616C6C6F63  # "alloc": the key of the advisory lock under which one process migrates
_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)


def migrate(engine: Engine, partitions: int) -> tuple[str | None, str]:
    """Run the missing steps. Returns the revision before (None: an empty database) and after.

    Raises `SetupError` if the database was made by a newer version, or with another number of log partitions.
    """
    with translated():
        if _is_current(engine, partitions):
            return REVISION, REVISION
        if engine.dialect.name == "sqlite":
            with transaction(engine, "BEGIN IMMEDIATE") as connection:
                return _upgrade(connection, partitions)
        with engine.connect().execution_options(isolation_level="READ COMMITTED") as connection:
            connection.exec_driver_sql("SET lock_timeout = 0")
            connection.exec_driver_sql(f"SELECT pg_advisory_lock({_LOCK})")
            connection.commit()
            try:
                revisions = _upgrade(connection, partitions)
                connection.commit()
            finally:
                connection.rollback()
                connection.exec_driver_sql(f"SELECT pg_advisory_unlock({_LOCK})")
                connection.commit()
                connection.invalidate()  # its settings are not those of the pool
            return revisions


def _is_current(engine: Engine, partitions: int) -> bool:
    """Whether there is nothing to do. This is nearly always so, and then Alembic need not be loaded."""
    with engine.connect() as connection:
        if not inspect(connection).has_table("alembic_version"):
            return False
        revision = connection.scalar(text("SELECT version_num FROM alembic_version"))
        return revision == REVISION and connection.scalar(select(func.count()).select_from(log_head)) == partitions


def _upgrade(connection: Connection, partitions: int) -> tuple[str | None, str]:
    from alembic import command
    from alembic.config import Config
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.attributes["connection"] = connection
    before = MigrationContext.configure(connection).get_current_revision()
    head = ScriptDirectory.from_config(config).get_current_head() or ""
    if before != head:
        try:
            command.upgrade(config, "head")
        except CommandError as unknown:
            raise SetupError(
                f"The database is at revision {before}, which this version does not know: it was made by a newer "
                "allocation. Install that version, or use another database."
            ) from unknown
    _fix_partitions(connection, partitions)
    return before, head


def _fix_partitions(connection: Connection, partitions: int) -> None:
    there = len(connection.execute(select(log_head.c.log_partition)).all())
    if not there:
        heads = [{"log_partition": n, "seq": 0, "last_at": _BEGINNING} for n in range(partitions)]
        connection.execute(insert(log_head), heads)
    elif there != partitions:
        raise SetupError(
            f"This database's log was made with {there} partitions, which cannot change: "
            f"set ALLOCATION_LOG_PARTITIONS={there}, or use another database."
        )
