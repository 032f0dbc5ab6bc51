"""The tables. The database enforces the rules, too: a bug or a second program may be refused, but it cannot oversell.

Text is compared byte by byte (`COLLATE "C"`), as Python and SQLite do, so that the preference by reference is the same
everywhere. There is no foreign key from order lines to products: the product's lock already protects them.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Computed,
    Date,
    DateTime,
    Index,
    Integer,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import TEXT
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.expression import ColumnElement
from sqlalchemy.types import TypeEngine

metadata = MetaData()

REVISION = "0006"
"""The migration that results in these tables."""

Bytewise = Text().with_variant(TEXT(collation="C"), "postgresql")


class Moment(TypeDecorator[datetime]):
    """A moment in UTC: `timestamptz` on PostgreSQL; on SQLite ISO 8601 text of fixed width, which sorts by time."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(String(32) if dialect.name == "sqlite" else DateTime(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        return moment_text(value) if value is not None and dialect.name == "sqlite" else value

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        return datetime.fromisoformat(value) if isinstance(value, str) else value


def moment_text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


products = Table(
    "products",
    metadata,
    Column("sku", Bytewise, primary_key=True),
    Column("version_number", BigInteger, nullable=False),
    CheckConstraint("version_number >= 0", name="ck_products_version"),
    # Updated in every transaction: free room on the page keeps these updates out of the index.
    postgresql_with={"fillfactor": 50},
)

batches = Table(
    "batches",
    metadata,
    Column("reference", Bytewise, primary_key=True),
    Column("sku", Bytewise, nullable=False),
    Column("purchased_quantity", Integer, nullable=False),
    Column("allocated_quantity", Integer, nullable=False),
    Column("eta", Date),
    Column("created_quantity", Integer, nullable=False),
    Column("created_eta", Date),
    Column("is_open", Boolean, Computed("allocated_quantity < purchased_quantity", persisted=True), nullable=False),
    CheckConstraint(
        "0 <= allocated_quantity AND allocated_quantity <= purchased_quantity", name="ck_batches_never_oversold"
    ),
    Index("ix_batches_sku", "sku"),
    Index(
        "ix_batches_open_by_preference",
        "sku",
        text("coalesce(eta, '0001-01-01')"),
        "reference",
        postgresql_where=text("is_open"),
        sqlite_where=text("is_open"),
    ),
    postgresql_with={"fillfactor": 50},
)

order_lines = Table(
    "order_lines",
    metadata,
    Column("orderid", Bytewise, primary_key=True),
    Column("sku", Bytewise, primary_key=True),
    Column("qty", Integer, nullable=False),
    Column("batchref", Bytewise),
    Column("since", BigInteger, nullable=False),
    CheckConstraint("qty > 0", name="ck_order_lines_qty"),
    Index(
        "ix_order_lines_on_batch",
        "batchref",
        "since",
        postgresql_where=text("batchref IS NOT NULL"),
        sqlite_where=text("batchref IS NOT NULL"),
    ),
    Index(
        "ix_order_lines_waiting",
        "sku",
        "qty",
        "since",
        postgresql_where=text("batchref IS NULL"),
        sqlite_where=text("batchref IS NULL"),
    ),
)

log_head = Table(
    "log_head",
    metadata,
    Column("log_partition", SmallInteger, primary_key=True, autoincrement=False),
    Column("seq", BigInteger, nullable=False),
    Column("last_at", Moment, nullable=False),
    postgresql_with={"fillfactor": 10},
)
"""The counter of each log partition. Its rows, made once, say how many partitions the log has."""


class _OrderidOfEvent(ColumnElement[str]):
    """The field `orderid` of an event's data."""

    inherit_cache = True
    type = Text()


@compiles(_OrderidOfEvent, "sqlite")
def _on_sqlite(element: _OrderidOfEvent, compiler: SQLCompiler, **_: Any) -> str:
    return "json_extract(data, '$.orderid')"


@compiles(_OrderidOfEvent, "postgresql")
def _on_postgres(element: _OrderidOfEvent, compiler: SQLCompiler, **_: Any) -> str:
    return "(data::json ->> 'orderid')"


orderid_of_event = _OrderidOfEvent()

event_log = Table(
    "event_log",
    metadata,
    Column("log_partition", SmallInteger, primary_key=True, autoincrement=False),
    Column("position", BigInteger, primary_key=True, autoincrement=False),
    Column("sku", Bytewise, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("id", Bytewise, nullable=False),
    Column("type", Bytewise, nullable=False),
    Column("schema_version", SmallInteger, nullable=False),
    Column("at", Moment, nullable=False),
    Column("correlation_id", Bytewise, nullable=False),
    Column("causation_id", Bytewise),
    Column("traceparent", Bytewise),
    Column("data", Text, nullable=False),
    UniqueConstraint("sku", "version", name="uq_event_log_stream"),
    # An order's present lines are found in `order_lines`; this index finds its other lines.
    Index(
        "ix_event_log_cancelled",
        orderid_of_event,
        postgresql_where=text("type = 'Cancelled'"),
        sqlite_where=text("type = 'Cancelled'"),
    ),
)

inbox = Table(
    "inbox",
    metadata,
    Column("id", Bytewise, primary_key=True),
    Column("source", Bytewise, primary_key=True),
    Column("client", Bytewise, nullable=False),
    Column("type", Bytewise, nullable=False),
    Column("body", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("log_partition", SmallInteger),
    Column("position", BigInteger),
    Column("at", Moment, nullable=False),
    Column("correlation_id", Bytewise, nullable=False),
    Column("causation_id", Bytewise),
    Column("traceparent", Bytewise),
    # A command that came without an id from its sender is found under its correlation by the primary key.
    Index(
        "ix_inbox_correlation",
        "correlation_id",
        "at",
        postgresql_where=text("correlation_id <> id"),
        sqlite_where=text("correlation_id <> id"),
    ),
)
"""The command log: every command that changed something or brought an id of its own, kept for good. `position` is that
of the last event that it led to; NULL: it changed nothing."""

subscriptions = Table(
    "subscriptions",
    metadata,
    Column("name", Bytewise, primary_key=True),
    Column("log_partition", SmallInteger, primary_key=True, autoincrement=False),
    Column("position", BigInteger, nullable=False),
    Column("owner", Bytewise, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("leased_until", Moment, nullable=False),
    postgresql_with={"fillfactor": 50},
)
"""The cursor of each subscription in each partition, and which worker may move it until when."""

workers = Table(
    "workers",
    metadata,
    Column("owner", Bytewise, primary_key=True),
    Column("lives_until", Moment, nullable=False),
)
"""The workers that deliver now, so that they can share the leases among them."""

lanes = Table(
    "lanes",
    metadata,
    Column("subscription", Bytewise, primary_key=True),
    Column("key", Bytewise, primary_key=True),
    Column("log_partition", SmallInteger, nullable=False),
    Column("next_position", BigInteger, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("due_at", Moment),
    Column("reason", Text, nullable=False),
    Column("discarded_by", Text),
    Column("discarded_why", Text),
    Column("lock_token", Bytewise),
    Column("locked_until", Moment),
)
"""A row exists only while its key lags behind its subscription's cursor."""

definitions = Table(
    "definitions",
    metadata,
    Column("name", Bytewise, primary_key=True),
    Column("definition", Text, nullable=False),
    Column("stopped", Text),
)
"""The subscriptions that users have defined, as JSON, and why one was stopped."""

discards = Table(
    "discards",
    metadata,
    Column("subscription", Bytewise, primary_key=True),
    Column("log_partition", SmallInteger, primary_key=True, autoincrement=False),
    Column("position", BigInteger, primary_key=True, autoincrement=False),
    Column("key", Bytewise, nullable=False),
    Column("discarded_by", Text, nullable=False),
    Column("why", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("at", Moment, nullable=False),
)
"""Every event that somebody had a subscription skip: who, why, and what had gone wrong."""

dead_letters = Table(
    "dead_letters",
    metadata,
    Column("id", Bytewise, primary_key=True),
    Column("source", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("at", Moment, nullable=False),
)
"""Messages that came in and could not be handled."""

stock_levels = Table(
    "stock_levels",
    metadata,
    Column("sku", Bytewise, primary_key=True),
    Column("version", BigInteger, nullable=False),
    Column("log_partition", SmallInteger, nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("available", Text, nullable=False),
    Index("ix_stock_levels_by_position", "log_partition", "position"),
)
"""A read model: the free stock of a sku by day, as JSON, in the order of the events that led to it."""

movements = Table(
    "movements",
    metadata,
    Column("sku", Bytewise, primary_key=True),
    Column("day", Date, primary_key=True),
    Column("received", BigInteger, nullable=False),
    Column("allocated", BigInteger, nullable=False),
    Column("deallocated", BigInteger, nullable=False),
    Column("backordered", BigInteger, nullable=False),
    Column("cancelled", BigInteger, nullable=False),
)
"""A read model: how many pieces moved on a day (UTC)."""

self_audit = Table(
    "self_audit",
    metadata,
    Column("id", SmallInteger, primary_key=True, autoincrement=False),
    Column("owner", Bytewise, nullable=False),
    Column("leased_until", Moment, nullable=False),
    Column("place", Text, nullable=False),
    Column("current_round", Text),
    Column("last_round", Text),
    postgresql_with={"fillfactor": 50},
)
"""One row: which worker audits until when, where it continues, the current round and the last one (as JSON)."""

snapshots = Table(
    "snapshots",
    metadata,
    Column("sku", Bytewise, primary_key=True),
    Column("position", BigInteger, primary_key=True, autoincrement=False),
    Column("version", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
)
"""A read model: the batches and waiting lines of a product at some of its versions, as JSON, which makes questions
about its past quick."""
