"""Databases to measure on: PostgreSQL and SQLite on a real disk, both syncing every commit.

PostgreSQL is that of `ALLOCATION_TEST_POSTGRES_URL`, else a private one with its default settings.
"""

import contextlib
import itertools
import os
import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psycopg
import sqlalchemy

from tests.servers.postgres import VARIABLE, ExternalPostgres, PrivatePostgres, for_libpq
from tests.servers.process import private_folder

Kind = Literal["sqlite", "postgres"]
KINDS: tuple[Kind, ...] = ("sqlite", "postgres")


@dataclass(frozen=True, slots=True)
class Database:
    """`url` is what the service is set up with; `target` what a hand-written program opens (a path, a libpq URL)."""

    kind: Kind
    url: str
    target: str

    def analyze(self) -> None:
        """Fresh statistics, as PostgreSQL's autovacuum would take them a minute later."""
        if self.kind == "postgres":
            with psycopg.connect(self.target, autocommit=True) as connection:
                connection.execute("VACUUM ANALYZE")
        else:
            with contextlib.closing(sqlite3.connect(self.target)) as connection:
                connection.execute("ANALYZE")

    def event_count(self) -> int:
        """How many events its log has."""
        engine = sqlalchemy.create_engine(self.url)
        with engine.connect() as connection:
            counted = connection.exec_driver_sql("SELECT sum(seq) FROM log_head").scalar_one()
        engine.dispose()
        return int(counted)

    def size_bytes(self) -> int:
        """What the database takes on disk."""
        if self.kind == "postgres":
            with psycopg.connect(self.target) as connection:
                row = connection.execute("SELECT pg_database_size(current_database())").fetchone()
                return int(row[0]) if row else 0
        return sum(file.stat().st_size for file in Path(self.target).parent.glob(Path(self.target).name + "*"))


class Databases:
    """Makes fresh databases; a context manager that removes them, and the private server, at the end."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._stack = contextlib.ExitStack()
        self._postgres: ExternalPostgres | PrivatePostgres | None = None

    def __enter__(self) -> "Databases":
        self._folder = private_folder("bench", on_disk=True)
        self._stack.callback(shutil.rmtree, self._folder, ignore_errors=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @contextlib.contextmanager
    def fresh(self, kind: Kind) -> Iterator[Database]:
        """A database without tables, removed at the end."""
        if kind == "sqlite":
            path = self._folder / f"{next(self._numbers)}.db"
            try:
                yield Database(kind, f"sqlite:///{path}", str(path))
            finally:
                for file in self._folder.glob(f"{path.name}*"):
                    file.unlink(missing_ok=True)
            return
        server = self.postgres()
        url = server.create_database()
        try:
            yield Database(kind, url, for_libpq(url))
        finally:
            server.drop_database(url)

    def postgres(self) -> ExternalPostgres | PrivatePostgres:
        if self._postgres is None:
            named = os.environ.get(VARIABLE)
            server = ExternalPostgres(named) if named else PrivatePostgres(durable=True)
            self._postgres = self._stack.enter_context(server)
        return self._postgres

    def versions(self, kinds: tuple[Kind, ...]) -> dict[str, str]:
        """What they are, and whether a commit is on the disk when they say so."""
        told = {}
        if "sqlite" in kinds:
            told["SQLite"] = f"{sqlite3.sqlite_version}, WAL, synchronous=FULL"
        if "postgres" in kinds:
            with psycopg.connect(for_libpq(self.postgres().url)) as connection:
                shown = [
                    str(connection.execute(f"SHOW {name}".encode()).fetchone()[0])  # type: ignore[index]  # SHOW answers one row
                    for name in ("server_version", "fsync", "synchronous_commit")
                ]
            told["PostgreSQL"] = "{}, fsync {}, synchronous_commit {}".format(*shown)
        return told
