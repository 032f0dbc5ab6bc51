"""Alembic's entry: runs the steps on the connection that `migrate` hands it."""

from alembic import context

from allocation.adapters.sql.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
