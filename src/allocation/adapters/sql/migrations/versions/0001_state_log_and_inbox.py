"""The first tables: state, event log, inbox."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TEXT

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

Bytewise = sa.Text().with_variant(TEXT(collation="C"), "postgresql")
Moment = sa.String(32).with_variant(sa.DateTime(timezone=True), "postgresql")


def upgrade() -> None:
    op.create_table(
        "products",
        sa.Column("sku", Bytewise, primary_key=True),
        sa.Column("version_number", sa.BigInteger, nullable=False),
        sa.CheckConstraint("version_number >= 0", name="ck_products_version"),
        postgresql_with={"fillfactor": 50},
    )
    op.create_table(
        "batches",
        sa.Column("reference", Bytewise, primary_key=True),
        sa.Column("sku", Bytewise, nullable=False),
        sa.Column("purchased_quantity", sa.Integer, nullable=False),
        sa.Column("allocated_quantity", sa.Integer, nullable=False),
        sa.Column("eta", sa.Date),
        sa.Column("created_quantity", sa.Integer, nullable=False),
        sa.Column("created_eta", sa.Date),
        sa.Column(
            "is_open",
            sa.Boolean,
            sa.Computed("allocated_quantity < purchased_quantity", persisted=True),
            nullable=False,
        ),
        sa.CheckConstraint(
            "0 <= allocated_quantity AND allocated_quantity <= purchased_quantity",
            name="ck_batches_never_oversold",
        ),
        postgresql_with={"fillfactor": 50},
    )
    op.create_index("ix_batches_sku", "batches", ["sku"])
    op.create_index(
        "ix_batches_open_by_preference",
        "batches",
        ["sku", sa.text("coalesce(eta, '0001-01-01')"), "reference"],
        postgresql_where=sa.text("is_open"),
        sqlite_where=sa.text("is_open"),
    )
    op.create_table(
        "order_lines",
        sa.Column("orderid", Bytewise, primary_key=True),
        sa.Column("sku", Bytewise, primary_key=True),
        sa.Column("qty", sa.Integer, nullable=False),
        sa.Column("batchref", Bytewise),
        sa.Column("since", sa.BigInteger, nullable=False),
        sa.CheckConstraint("qty > 0", name="ck_order_lines_qty"),
    )
    for name, columns, where in (
        ("ix_order_lines_on_batch", ["batchref", "since"], "batchref IS NOT NULL"),
        ("ix_order_lines_waiting", ["sku", "qty", "since"], "batchref IS NULL"),
    ):
        op.create_index(name, "order_lines", columns, postgresql_where=sa.text(where), sqlite_where=sa.text(where))
    op.create_table(
        "log_head",
        sa.Column("log_partition", sa.SmallInteger, primary_key=True, autoincrement=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("last_at", Moment, nullable=False),
        postgresql_with={"fillfactor": 10},
    )
    op.create_table(
        "event_log",
        sa.Column("log_partition", sa.SmallInteger, primary_key=True, autoincrement=False),
        sa.Column("position", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("sku", Bytewise, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("id", Bytewise, nullable=False),
        sa.Column("type", Bytewise, nullable=False),
        sa.Column("schema_version", sa.SmallInteger, nullable=False),
        sa.Column("at", Moment, nullable=False),
        sa.Column("correlation_id", Bytewise, nullable=False),
        sa.Column("causation_id", Bytewise),
        sa.Column("traceparent", Bytewise),
        sa.Column("data", sa.Text, nullable=False),
        sa.UniqueConstraint("sku", "version", name="uq_event_log_stream"),
    )
    op.create_table(
        "inbox",
        sa.Column("id", Bytewise, primary_key=True),
        sa.Column("source", Bytewise, primary_key=True),
        sa.Column("client", Bytewise, nullable=False),
        sa.Column("type", Bytewise, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("log_partition", sa.SmallInteger),
        sa.Column("position", sa.BigInteger),
        sa.Column("at", Moment, nullable=False),
        sa.Column("correlation_id", Bytewise, nullable=False),
        sa.Column("causation_id", Bytewise),
        sa.Column("traceparent", Bytewise),
    )


def downgrade() -> None:
    for table in ("inbox", "event_log", "log_head", "order_lines", "batches", "products"):
        op.drop_table(table)
