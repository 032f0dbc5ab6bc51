"""Reading in bulk, for code that goes through everything: how it asks, and what the rows become."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from sqlalchemy import Connection

from allocation.adapters.serialization import BadMessage, decode_event, to_date
from allocation.adapters.sql.dialects import Dialect
from allocation.service_layer.books import BatchFields, Logged, Unreadable

BATCH = "reference, sku, purchased_quantity, allocated_quantity, eta, created_quantity, created_eta"
LINE = "l.orderid, l.sku, l.qty, l.batchref, l.since"


class Ask:
    """Runs a SELECT, whose parameters are `?`, and returns its rows. `event` are the columns of `decoded`."""

    def __init__(self, connection: Connection, dialect: Dialect) -> None:
        self._connection, self._dialect = connection, dialect
        self.event = f"version, type, schema_version, data, position, {dialect.day_of('at')}"

    def __call__(self, statement: str, *parameters: Any) -> Sequence[Any]:
        return self._connection.exec_driver_sql(self._dialect.sql(statement), parameters).fetchall()

    def day(self, column: str) -> str:
        """A column that holds a day, as text."""
        return self._dialect.text_of_day(column)


def history_of(ask: Ask, sku: str, after: int, page: int) -> Iterator[Logged]:
    """The events of one product, `page` at a time."""
    while True:
        rows = ask(
            f"SELECT {ask.event} FROM event_log WHERE sku = ? AND version > ? ORDER BY version LIMIT ?",
            sku,
            after,
            page,
        )
        yield from decoded(rows)
        if len(rows) < page:
            return
        after = rows[-1][0]


def decoded(rows: Iterable[Sequence[Any]]) -> Iterator[Logged]:
    for version, kind, schema_version, data, position, day in rows:
        try:
            yield version, decode_event(kind, data, schema_version), position, day
        except BadMessage as bad:
            yield version, Unreadable(str(bad)), position, day


def batches_from(rows: Iterable[Sequence[Any]]) -> list[BatchFields]:
    return [
        (ref, sku, bought, allocated, _day(eta), created, _day(created_eta))
        for ref, sku, bought, allocated, eta, created, created_eta in rows
    ]


def _day(value: Any) -> Any:
    """A calendar day. SQLite keeps any text in its place: what is no day comes back as it is, and is equal to none."""
    try:
        return to_date(value)
    except ValueError:
        return value
