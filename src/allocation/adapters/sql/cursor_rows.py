"""The rows that say how far a subscription has come: created and removed with it, in the caller's transaction."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from sqlalchemy import Connection, Engine, delete, select

from allocation.adapters.sql.dialects import Dialect
from allocation.adapters.sql.engine import transaction, turn_to_write
from allocation.adapters.sql.tables import lanes, log_head, moment_text, subscriptions
from allocation.service_layer.subscriptions import first_epoch

_BEGIN_ON_POSTGRES = "BEGIN; SET LOCAL idle_in_transaction_session_timeout = '3s'"
"""Nothing here waits for anything outside. A worker that falls silent in the middle of it holds locks that the next
owner of its leases needs, so the server ends its session."""


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """A transaction that writes to the rows of subscriptions."""
    begin = "BEGIN IMMEDIATE" if engine.dialect.name == "sqlite" else _BEGIN_ON_POSTGRES
    with turn_to_write(engine), transaction(engine, begin) as connection:
        yield connection


def make_cursors(connection: Connection, dialect: Dialect, name: str, from_the_beginning: bool, now: datetime) -> None:
    """Create the cursors that the subscription lacks."""
    heads = connection.execute(select(log_head.c.log_partition, log_head.c.seq)).all()
    known = set(connection.scalars(select(subscriptions.c.log_partition).where(subscriptions.c.name == name)))
    new = [
        (name, head.log_partition, 0 if from_the_beginning else head.seq, "", first_epoch(now), moment_text(now))
        for head in heads
        if head.log_partition not in known
    ]
    if new:  # another worker that starts at the same moment may be faster
        dialect.run(connection, [dialect.inserting(subscriptions, new, "ON CONFLICT DO NOTHING")])


def forget(connection: Connection, name: str) -> None:
    """Remove its cursors and lanes."""
    connection.execute(delete(subscriptions).where(subscriptions.c.name == name))
    connection.execute(delete(lanes).where(lanes.c.subscription == name))
