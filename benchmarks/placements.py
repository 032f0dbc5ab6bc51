"""What the tables say against what the oracle says, read straight from the database and a row at a time."""

import itertools
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import psycopg

from benchmarks.databases import Database
from benchmarks.oracle import Oracle

LINES = "SELECT sku, orderid, qty, batchref FROM order_lines ORDER BY sku, since"
BATCHES = "SELECT sku, reference, purchased_quantity, allocated_quantity FROM batches"
LOG = (
    "SELECT (SELECT count(*) FROM event_log), (SELECT max(position) FROM event_log), (SELECT seq FROM log_head), "
    "(SELECT sum(version_number) FROM products)"
)


def differences(database: Database, oracle: Oracle) -> Iterator[str]:
    """A sentence for each difference; none if all placements are equal and the log has no gap.

    Equal means: the same order lines, each with its quantity and its batch (or waiting), in the order in which they
    came (`since`), and as much taken from every batch.
    """
    with _reader(database) as rows:
        found = set()
        for sku, group in itertools.groupby(rows(LINES), key=lambda row: row[0]):
            found.add(sku)
            told = [(orderid, qty, ref) for _, orderid, qty, ref in group]
            expected = [(orderid, qty, ref) for orderid, (qty, ref) in oracle.lines[sku].items()]
            if told != expected:
                yield from _pairs(sku, told, expected)
        yield from (
            f"{sku}: none of its lines is in the database"
            for sku, lines in oracle.lines.items()
            if lines and sku not in found
        )
        count = 0
        for sku, ref, qty, taken in rows(BATCHES):
            count += 1
            if oracle.batches[sku].get(ref, (None, None, None))[1:] != [qty, taken]:
                yield f"batch {ref} of {sku}: {taken} of {qty} taken; the oracle: {oracle.batches[sku].get(ref)}"
        if count != (expected_count := sum(map(len, oracle.batches.values()))):
            yield f"{count} batches instead of {expected_count}"
        figures = next(iter(rows(LOG)))
        if len({int(figure or 0) for figure in figures}) != 1:
            yield "events, last position, head of the log, sum of versions: {}, {}, {}, {}".format(*figures)


def _pairs(sku: str, told: list[tuple], expected: list[tuple]) -> Iterator[str]:
    for mine, theirs in itertools.zip_longest(told, expected):
        if mine != theirs:
            yield f"{sku}: the database has {mine}; the oracle: {theirs}"


@contextmanager
def _reader(database: Database) -> Iterator[Any]:
    """Runs a query; rows come as they are read."""
    if database.kind == "sqlite":
        with closing(sqlite3.connect(database.target)) as connection:
            yield connection.execute
        return
    with psycopg.connect(database.target) as connection:

        def rows(query: str) -> Iterator[tuple]:
            with connection.cursor("reading") as cursor:
                cursor.itersize = 10_000
                yield from cursor.execute(query.encode())

        yield rows
