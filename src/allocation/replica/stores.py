"""Where a consumer keeps its own data and, beside it, how far it has come. Both change in one transaction."""

from __future__ import annotations

import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence

from .facts import Fact, OutOfTurn

TABLES = (
    "CREATE TABLE IF NOT EXISTS replica_versions (sku TEXT PRIMARY KEY, version INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS replica_marks (partition INTEGER PRIMARY KEY, marks TEXT NOT NULL)",
)


class ReplicaStore(ABC):
    """A consumer implements this over its own database. A replica calls it from one thread at a time (not always the
    same one), and a store belongs to one replica at a time.

    What any of its methods raises is passed on by the replica's method that was called, which then has done nothing.
    """

    @abstractmethod
    def version(self, sku: str) -> int:
        """The version of the last applied fact of this sku; 0: there was none."""

    @abstractmethod
    def marks(self) -> Mapping[int, str]:
        """The marks that were kept last, by log partition; their text has no meaning for the store."""

    @abstractmethod
    def write(self, facts: Sequence[Fact], marks: Mapping[int, str]) -> None:
        """In one transaction: apply the facts to the consumer's data, in order, so that each fact's version becomes
        that of its sku; keep these marks. Raises `OutOfTurn` if a fact is not the next one of its sku, and whatever
        applying raises; in both cases nothing is kept."""


class SqliteReplicaStore(ReplicaStore):
    """In the consumer's own SQLite database: `apply` writes a fact's effect through the connection that it is given,
    and neither commits nor rolls back.

    The connection belongs to this store from now on, and must not have been opened with `autocommit=False`. If several
    threads use the replica, open it with `check_same_thread=False`.
    """

    def __init__(self, connection: sqlite3.Connection, apply: Callable[[sqlite3.Connection, Fact], None]) -> None:
        self._connection, self._apply = connection, apply
        for table in TABLES:
            connection.execute(table)

    def version(self, sku: str) -> int:
        row = self._connection.execute("SELECT version FROM replica_versions WHERE sku = ?", (sku,)).fetchone()
        return 0 if row is None else int(row[0])

    def marks(self) -> Mapping[int, str]:
        return dict(self._connection.execute("SELECT partition, marks FROM replica_marks"))

    def write(self, facts: Sequence[Fact], marks: Mapping[int, str]) -> None:
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            for fact in facts:
                _require_next(fact, self.version(fact.sku))
                self._apply(connection, fact)
                connection.execute("INSERT OR REPLACE INTO replica_versions VALUES (?, ?)", (fact.sku, fact.version))
            connection.executemany("INSERT OR REPLACE INTO replica_marks VALUES (?, ?)", list(marks.items()))
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


class MemoryReplicaStore(ReplicaStore):
    """In plain memory, gone with the process. `apply` has to make a fact's whole effect, or none of it.

    Memory has no transaction: if `apply` fails, the facts before that one stay applied, and count as applied.
    """

    def __init__(self, apply: Callable[[Fact], None]) -> None:
        self._apply = apply
        self._versions: dict[str, int] = {}
        self._marks: dict[int, str] = {}

    def version(self, sku: str) -> int:
        return self._versions.get(sku, 0)

    def marks(self) -> Mapping[int, str]:
        return dict(self._marks)

    def write(self, facts: Sequence[Fact], marks: Mapping[int, str]) -> None:
        for fact in facts:
            _require_next(fact, self.version(fact.sku))
            self._apply(fact)
            self._versions[fact.sku] = fact.version
        self._marks.update(marks)


def _require_next(fact: Fact, version: int) -> None:
    if fact.version != version + 1:
        raise OutOfTurn(f"{fact.sku} is at version {version} here; {fact.version} is not the next one")
