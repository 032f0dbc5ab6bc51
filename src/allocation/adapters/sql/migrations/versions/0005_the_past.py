"""Snapshots of products, and indexes that find an order's cancelled lines and what belongs to one correlation."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TEXT

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

Bytewise = sa.Text().with_variant(TEXT(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "snapshots",
        sa.Column("sku", Bytewise, primary_key=True),
        sa.Column("position", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
    )
    postgres = op.get_bind().dialect.name == "postgresql"
    orderid = "(data::json ->> 'orderid')" if postgres else "json_extract(data, '$.orderid')"
    op.execute(f"CREATE INDEX ix_event_log_cancelled ON event_log ({orderid}) WHERE type = 'Cancelled'")
    op.execute("CREATE INDEX ix_inbox_correlation ON inbox (correlation_id, at) WHERE correlation_id <> id")


def downgrade() -> None:
    op.drop_index("ix_inbox_correlation", "inbox")
    op.drop_index("ix_event_log_cancelled", "event_log")
    op.drop_table("snapshots")
