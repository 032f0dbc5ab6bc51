"""The storefront's own copy of the stock levels, in SQLite: what is known, and of when that is."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

LOCK_TIMEOUT_SECONDS = 5.0
LARGEST_QTY = 2**31 - 1

_TABLES = """
CREATE TABLE IF NOT EXISTS levels (
    sku TEXT PRIMARY KEY, version INTEGER NOT NULL, available TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS progress (
    one INTEGER PRIMARY KEY CHECK (one = 1), cursor TEXT NOT NULL, current_at TEXT
);
"""
_NEWEST_WINS = (
    "INSERT INTO levels VALUES (?, ?, ?) ON CONFLICT (sku) DO UPDATE SET version = excluded.version, "
    "available = excluded.available WHERE excluded.version > levels.version"
)


class NotALevel(ValueError):
    """What came is no stock level; says why."""


@dataclass(frozen=True, slots=True)
class Lot:
    """So much is free from a day on (None: now), and so much of it in one piece: an order line is never split."""

    eta: date | None
    qty: int
    largest: int


@dataclass(frozen=True, slots=True)
class Level:
    """What is free of a sku, the earliest first, at one version of the product."""

    sku: str
    version: int
    available: tuple[Lot, ...]

    def earliest_for(self, qty: int) -> Lot | None:
        """From where so many would come; None: they cannot be bought."""
        return next((lot for lot in self.available if lot.largest >= qty), None)

    @property
    def most(self) -> int:
        """How many one order can have."""
        return max((lot.largest for lot in self.available), default=0)


def level_from(told: Any) -> Level:
    """A level as `GET /v1/stock` and `stock_level` messages tell it. Raises `NotALevel`."""
    try:
        lots = tuple(
            Lot(None if x["eta"] is None else date.fromisoformat(x["eta"]), int(x["qty"]), int(x["largest"]))
            for x in told["available"]
        )
        level = Level(str(told["sku"]), int(told["version"]), lots)
    except (KeyError, TypeError, ValueError) as wrong:
        raise NotALevel(f"{type(wrong).__name__}: {wrong}") from wrong
    if level.version < 1:
        raise NotALevel("versions begin at 1")
    return level


class StockCopy:
    """Opened by a file's name; any thread may use it. What was written survives the process."""

    def __init__(self, file: Path) -> None:
        self._file = file
        with closing(self._connect()) as connection:
            connection.execute("PRAGMA journal_mode=WAL").close()
            connection.executescript(_TABLES)

    def take(self, levels: Iterable[Level], cursor: str | None = None, current_at: datetime | None = None) -> None:
        """Write levels, each if it is newer than what is known: they may come twice, late, and by several ways.

        `cursor` says where to ask on from; `current_at`: what stands here now is all that there was at that moment.
        All in one transaction: a cursor never passes a level that was not written.
        """
        rows = [(x.sku, x.version, json.dumps([_plain(lot) for lot in x.available])) for x in levels]
        with self._writing() as connection:
            connection.executemany(_NEWEST_WINS, rows)
            if cursor is not None:
                moment = current_at.isoformat() if current_at else None
                connection.execute(
                    "INSERT INTO progress VALUES (1, ?, ?) ON CONFLICT (one) DO UPDATE SET cursor = excluded.cursor, "
                    "current_at = coalesce(excluded.current_at, progress.current_at)",
                    (cursor, moment),
                )

    def forget(self) -> None:
        """All of it, to begin anew: of another log older versions count."""
        with self._writing() as connection:
            connection.execute("DELETE FROM levels")
            connection.execute("DELETE FROM progress")

    def level(self, sku: str) -> Level | None:
        found = list(self._levels("WHERE sku = ?", (sku,)))
        return found[0] if found else None

    def levels(self, limit: int = 1000) -> list[Level]:
        return list(self._levels("ORDER BY sku LIMIT ?", (limit,)))

    def cursor(self) -> str | None:
        return self._progress()[0]

    def current_at(self) -> datetime | None:
        """The last moment of which everything is known; None: there was none yet."""
        moment = self._progress()[1]
        return None if moment is None else datetime.fromisoformat(moment)

    def _progress(self) -> tuple[str | None, str | None]:
        with closing(self._connect()) as connection:
            row = connection.execute("SELECT cursor, current_at FROM progress").fetchone()
        return (None, None) if row is None else (row[0], row[1])

    def _levels(self, which: str, parameters: tuple[Any, ...]) -> Iterator[Level]:
        with closing(self._connect()) as connection:
            rows = connection.execute(f"SELECT sku, version, available FROM levels {which}", parameters).fetchall()
        for sku, version, available in rows:
            yield level_from({"sku": sku, "version": version, "available": json.loads(available)})

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self._file, timeout=LOCK_TIMEOUT_SECONDS, isolation_level=None)

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with closing(self._connect()) as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.execute("COMMIT")  # without it, closing undoes everything


def _plain(lot: Lot) -> Mapping[str, object]:
    return {"eta": lot.eta.isoformat() if lot.eta else None, "qty": lot.qty, "largest": lot.largest}


def now() -> datetime:
    return datetime.now(UTC)
