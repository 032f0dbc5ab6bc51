"""The state of the self-audit, and what it found last."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TEXT

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

Bytewise = sa.Text().with_variant(TEXT(collation="C"), "postgresql")
Moment = sa.String(32).with_variant(sa.DateTime(timezone=True), "postgresql")


def upgrade() -> None:
    op.create_table(
        "self_audit",
        sa.Column("id", sa.SmallInteger, primary_key=True, autoincrement=False),
        sa.Column("owner", Bytewise, nullable=False),
        sa.Column("leased_until", Moment, nullable=False),
        sa.Column("place", sa.Text, nullable=False),
        sa.Column("current_round", sa.Text),
        sa.Column("last_round", sa.Text),
        postgresql_with={"fillfactor": 50},
    )


def downgrade() -> None:
    op.drop_table("self_audit")
