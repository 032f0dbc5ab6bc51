"""Read models that projections write: stock levels by position, movements by day; and the workers that deliver now."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TEXT

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

Bytewise = sa.Text().with_variant(TEXT(collation="C"), "postgresql")

Moment = sa.String(32).with_variant(sa.DateTime(timezone=True), "postgresql")


def upgrade() -> None:
    op.create_table(
        "workers",
        sa.Column("owner", Bytewise, primary_key=True),
        sa.Column("lives_until", Moment, nullable=False),
    )
    op.create_table(
        "stock_levels",
        sa.Column("sku", Bytewise, primary_key=True),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("log_partition", sa.SmallInteger, nullable=False),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.Column("available", sa.Text, nullable=False),
    )
    op.create_index("ix_stock_levels_by_position", "stock_levels", ["log_partition", "position"])
    op.create_table(
        "movements",
        sa.Column("sku", Bytewise, primary_key=True),
        sa.Column("day", sa.Date, primary_key=True),
        sa.Column("received", sa.BigInteger, nullable=False),
        sa.Column("allocated", sa.BigInteger, nullable=False),
        sa.Column("deallocated", sa.BigInteger, nullable=False),
        sa.Column("backordered", sa.BigInteger, nullable=False),
        sa.Column("cancelled", sa.BigInteger, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("workers")
    op.drop_table("movements")
    op.drop_table("stock_levels")
