"""Subscriptions: cursors with leases, lanes, discards; dead letters."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TEXT

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

Bytewise = sa.Text().with_variant(TEXT(collation="C"), "postgresql")
Moment = sa.String(32).with_variant(sa.DateTime(timezone=True), "postgresql")


def upgrade() -> None:
    op.create_table(
        "subscriptions",
        sa.Column("name", Bytewise, primary_key=True),
        sa.Column("log_partition", sa.SmallInteger, primary_key=True, autoincrement=False),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.Column("owner", Bytewise, nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("leased_until", Moment, nullable=False),
        postgresql_with={"fillfactor": 50},
    )
    op.create_table(
        "lanes",
        sa.Column("subscription", Bytewise, primary_key=True),
        sa.Column("key", Bytewise, primary_key=True),
        sa.Column("log_partition", sa.SmallInteger, nullable=False),
        sa.Column("next_position", sa.BigInteger, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("due_at", Moment),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("discarded_by", sa.Text),
        sa.Column("discarded_why", sa.Text),
    )
    op.create_table(
        "discards",
        sa.Column("subscription", Bytewise, primary_key=True),
        sa.Column("log_partition", sa.SmallInteger, primary_key=True, autoincrement=False),
        sa.Column("position", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("key", Bytewise, nullable=False),
        sa.Column("discarded_by", sa.Text, nullable=False),
        sa.Column("why", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("at", Moment, nullable=False),
    )
    op.create_table(
        "dead_letters",
        sa.Column("id", Bytewise, primary_key=True),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("at", Moment, nullable=False),
    )


def downgrade() -> None:
    for table in ("dead_letters", "discards", "lanes", "subscriptions"):
        op.drop_table(table)
