"""What PostgreSQL itself says of a transaction: each statement, and how long the server was at it."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from sqlalchemy.engine import make_url

from benchmarks.databases import Database, Databases
from tests.servers.postgres import PrivatePostgres

_LINE = re.compile(r"\[(\d+)\] LOG:  duration: ([0-9.]+) ms(?:  (?:parse|bind|execute) [^:]*: | +statement: )(.*)")
_CUT_UP = re.compile(r"coalesce\(nullif\(string_to_array\((\$\d+), [^)]*\), '\{\}'\), array\[''\]\)::(\w+)\[\]")


@dataclass(frozen=True, slots=True)
class Statement:
    """`milliseconds`: what the server took for it, from parsing to the last row; the way there and back is not in."""

    sql: str
    milliseconds: float

    @property
    def told(self) -> str:
        """Short enough for a table; `$1::text[]` stands for the column that is cut out of one string."""
        short = _CUT_UP.sub(r"\1::\2[]", self.sql).replace("|", "\\|").replace("*", "\\*")
        return f"{short[:150]} ..." if len(short) > 155 else short


@contextmanager
def logged(databases: Databases) -> Iterator[tuple[Database, Path]]:
    """A database whose statements are all logged, and the log. Raises `RuntimeError` where that cannot be read."""
    server = databases.postgres()
    if not isinstance(server, PrivatePostgres):
        raise RuntimeError("the log of a named PostgreSQL is out of reach: unset its variable to use a private one")
    with databases.fresh("postgres") as database:
        with psycopg.connect(database.target, autocommit=True) as connection:
            name = make_url(database.url).database
            connection.execute(f'ALTER DATABASE "{name}" SET log_min_duration_statement = 0'.encode())
        yield database, server.log


def last_transaction(log: str) -> list[Statement]:
    """The statements of the last transaction that was committed, BEGIN and COMMIT included, in order."""
    transactions: dict[str, list[tuple[str, float]]] = {}
    last: list[tuple[str, float]] = []
    for line in log.splitlines():
        found = _LINE.search(line)
        if found is None:
            continue
        session, took, sql = found[1], float(found[2]), found[3].strip()
        if sql == "BEGIN" and transactions.get(session, [("", 0.0)])[-1][0] != "BEGIN":
            transactions[session] = []
        transactions.setdefault(session, []).append((sql, took))
        if sql == "COMMIT":
            last = transactions[session]
    return [Statement(sql, took) for sql, took in _added_up(last)]


def _added_up(lines: list[tuple[str, float]]) -> Iterator[tuple[str, float]]:
    """Parsing, binding and executing are lines of their own."""
    sums: dict[str, float] = {}
    for sql, took in lines:
        sums[sql] = sums.get(sql, 0.0) + took
    yield from sums.items()
