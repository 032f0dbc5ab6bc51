"""A lost lock, a bug or a second program can be refused by the tables themselves; it cannot oversell."""

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import IntegrityError

from allocation.adapters.sql.engine import make_engine
from allocation.bootstrap import Application
from allocation.domain.commands import Allocate, CreateBatch


@pytest.fixture
def engine(application: Application, database_url: str) -> Engine:
    """A second program on a shop with three of five lamps allocated."""
    application.bus.handle(CreateBatch("b1", "RETRO-LAMPSHADE", 5))
    application.bus.handle(Allocate("o1", "RETRO-LAMPSHADE", 3))
    return make_engine(database_url)


@pytest.mark.parametrize(
    "wrong",
    [
        "UPDATE batches SET allocated_quantity = 6",
        "UPDATE batches SET purchased_quantity = 2",
        "UPDATE batches SET allocated_quantity = -1",
        "INSERT INTO batches (reference, sku, purchased_quantity, allocated_quantity, created_quantity) "
        "VALUES ('b1', 'OTHER', 1, 0, 1)",
        "INSERT INTO order_lines (orderid, sku, qty, since) VALUES ('o1', 'RETRO-LAMPSHADE', 1, 9)",
        "UPDATE order_lines SET qty = 0",
        "INSERT INTO event_log SELECT log_partition, position, 'X', 1, 'x', type, schema_version, at, correlation_id, "
        "NULL, NULL, data FROM event_log",
        "INSERT INTO event_log SELECT log_partition, position + 9, sku, version, 'x', type, schema_version, at, "
        "correlation_id, NULL, NULL, data FROM event_log",
        "INSERT INTO inbox SELECT * FROM inbox",
    ],
)
def test_the_tables_refuse(engine: Engine, wrong: str) -> None:
    with engine.connect() as connection, pytest.raises(IntegrityError):
        connection.execute(text(wrong))
    engine.dispose()
