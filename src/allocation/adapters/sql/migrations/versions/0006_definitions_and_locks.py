"""Subscriptions that users define; pullers' locks on lanes."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TEXT

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

Bytewise = sa.Text().with_variant(TEXT(collation="C"), "postgresql")
Moment = sa.String(32).with_variant(sa.DateTime(timezone=True), "postgresql")


def upgrade() -> None:
    op.create_table(
        "definitions",
        sa.Column("name", Bytewise, primary_key=True),
        sa.Column("definition", sa.Text, nullable=False),
        sa.Column("stopped", sa.Text),
    )
    op.add_column("lanes", sa.Column("lock_token", Bytewise))
    op.add_column("lanes", sa.Column("locked_until", Moment))


def downgrade() -> None:
    op.drop_column("lanes", "locked_until")
    op.drop_column("lanes", "lock_token")
    op.drop_table("definitions")
