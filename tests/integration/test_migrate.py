"""The database is brought to today's tables, once, whoever starts first."""

import re
import sqlite3
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from allocation.adapters.sql import migrations
from allocation.adapters.sql.engine import make_engine
from allocation.adapters.sql.migrate import migrate
from allocation.adapters.sql.tables import REVISION, metadata
from allocation.service_layer.errors import SetupError


def test_the_migrations_lead_to_the_tables(empty_database_url: str, tmp_path: Path) -> None:
    engine = make_engine(empty_database_url)
    assert migrate(engine, 1) == (None, REVISION)
    assert migrate(engine, 1) == (REVISION, REVISION)
    with engine.connect() as connection:
        migrated = described(connection)
        if engine.dialect.name == "postgresql":
            assert compare_metadata(MigrationContext.configure(connection), metadata) == []
            connection.execute(text("CREATE SCHEMA fresh"))
            connection.execute(text("SET search_path TO fresh"))
            metadata.create_all(connection)
            made = described(connection)
        else:
            fresh = make_engine(f"sqlite:///{tmp_path / 'fresh.db'}")
            with fresh.connect() as other:
                metadata.create_all(other)
                made = described(other)
            fresh.dispose()
    engine.dispose()
    assert migrated == made


def described(connection: Connection) -> list[str]:
    """Every table and index as the database itself writes it, checks, computed columns and partial indexes included."""
    if connection.dialect.name == "sqlite":
        query = "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'alembic%'"
    else:
        query = (
            "SELECT replace(indexdef, schemaname || '.', '') FROM pg_indexes WHERE schemaname = current_schema() "
            "AND tablename <> 'alembic_version' UNION ALL "
            "SELECT conname || pg_get_constraintdef(oid) FROM pg_constraint "
            "WHERE connamespace = current_schema()::regnamespace AND conname NOT LIKE 'alembic%' UNION ALL "
            "SELECT concat_ws(' ', table_name, column_name, data_type, is_nullable, collation_name, "
            "generation_expression) FROM information_schema.columns WHERE table_schema = current_schema() "
            "AND table_name <> 'alembic_version'"
        )
    return sorted(re.sub(r"\s+", " ", str(row[0])) for row in connection.execute(text(query)))


def test_the_tables_name_the_last_migration() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    assert ScriptDirectory.from_config(config).get_current_head() == REVISION


def test_many_processes_may_start_at_once(empty_database_url: str) -> None:
    engines = [make_engine(empty_database_url) for _ in range(6)]
    with ThreadPoolExecutor(6) as pool:
        befores = [before for before, _ in pool.map(lambda engine: migrate(engine, 2), engines)]
    assert sorted(befores, key=str) == [REVISION] * 5 + [None]
    for engine in engines:
        engine.dispose()


def test_another_number_of_log_partitions_stops_the_start(empty_database_url: str) -> None:
    engine = make_engine(empty_database_url)
    migrate(engine, 2)
    with pytest.raises(SetupError, match="ALLOCATION_LOG_PARTITIONS=2"):
        migrate(engine, 3)
    engine.dispose()


def test_a_database_of_a_newer_version_stops_the_start(empty_database_url: str) -> None:
    engine = make_engine(empty_database_url)
    migrate(engine, 1)
    with engine.connect() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(SetupError, match="newer"):
        migrate(engine, 1)
    engine.dispose()


def test_a_file_that_somebody_else_is_just_making_is_waited_for(empty_sqlite_url: str) -> None:
    engine = make_engine(empty_sqlite_url, lock_timeout_seconds=20)
    with closing(sqlite3.connect(str(engine.url.database), isolation_level=None)) as other:
        other.execute("CREATE TABLE theirs (x)")
        other.execute("BEGIN IMMEDIATE")
        with ThreadPoolExecutor(1) as pool:
            started = pool.submit(migrate, engine, 1)
            done, _ = wait([started], timeout=0.3)
            other.execute("COMMIT")
            assert not done
            assert started.result(30) == (None, REVISION)
    engine.dispose()
