"""Databases with tables and nothing in them."""

from allocation.adapters.sql.engine import make_engine
from allocation.adapters.sql.migrate import migrate


def migrated(url: str, partitions: int = 1) -> str:
    """Make the tables in an empty database."""
    engine = make_engine(url)
    migrate(engine, partitions)
    engine.dispose()
    return url
