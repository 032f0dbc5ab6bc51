"""Appending to the log: in which order locks are asked for, however the events come."""

from __future__ import annotations

from datetime import timedelta

from allocation.adapters.clock import TimeOrderedIds
from allocation.adapters.sql.appending import Appender, Sample
from allocation.adapters.sql.dialects import SqliteDialect
from allocation.domain.commands import CreateBatch
from allocation.domain.events import BatchCreated
from allocation.service_layer.envelope import CommandEnvelope, partition_of
from allocation.service_layer.unit_of_work import Handled
from tests.fakes import NOON

PARTITIONS = 8


def made(sku: str, version: int) -> Handled:
    command = CommandEnvelope(CreateBatch(f"b-{version}", sku, 1), f"id-{version}", NOON, "request-1")
    return Handled(command, events=[(BatchCreated(f"b-{version}", sku, 1), version)], changed=True)


def test_partitions_are_locked_and_waited_for_in_one_order_however_their_events_come() -> None:
    """Two transactions that asked for the same locks in different orders would wait for each other."""
    home = {partition_of(sku, PARTITIONS): sku for sku in (f"SKU-{n}" for n in range(200))}
    handled = [made(home[partition], version) for version in (1, 2) for partition in sorted(home, reverse=True)]
    appending = Appender(SqliteDialect(), TimeOrderedIds(), PARTITIONS).append(handled, NOON + timedelta(hours=1))
    assert list(appending.takes) == list(range(PARTITIONS))
    samples = appending.samples()
    assert list(samples) == list(range(PARTITIONS))
    assert samples[3] == Sample(1, home[3], 1, samples[3].id)
