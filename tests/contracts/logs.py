"""The contract of the event log: gapless, in order of version, and its times never step back."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime, timedelta

import pytest

from allocation.domain.commands import Allocate, CreateBatch, IfShort
from allocation.domain.events import Allocated, Backordered, BatchCreated, OutOfStock
from allocation.service_layer.envelope import EventEnvelope, LogPosition, partition_of
from allocation.service_layer.errors import Conflict
from allocation.service_layer.unit_of_work import Handled
from tests.contracts.harness import MakeStore, Opened, transact
from tests.fakes import NOON

CHAIRS = CreateBatch("b1", "RED-CHAIR", 10)


def check_log(log: list[EventEnvelope]) -> None:
    """Positions without a gap in each partition, versions without a gap for each sku, times in order."""
    places: defaultdict[int, int] = defaultdict(int)
    versions: defaultdict[str, int] = defaultdict(int)
    times: dict[int, datetime] = {}
    for logged in log:
        place = logged.position
        places[place.partition] += 1
        versions[logged.key] += 1
        assert (place.seq, logged.version) == (places[place.partition], versions[logged.key])
        assert logged.time >= times.get(place.partition, logged.time)
        times[place.partition] = logged.time
    assert len({logged.id for logged in log}) == len(log)


class LogContract:
    def test_positions_and_versions_are_gapless_whatever_was_refused_or_rolled_back(self, opened: Opened) -> None:
        opened.group(CHAIRS, CreateBatch("b2", "BLUE-CHAIR", 3))
        for n in range(6):
            opened.group(Allocate(f"o{n}", "RED-CHAIR", 3, IfShort.REFUSE), Allocate(f"o{n}", "BLUE-CHAIR", 1))
            with opened.unit_of_work() as uow:
                uow.begin([opened.bus.envelope(CHAIRS)])
                product = uow.products.get("RED-CHAIR")
                assert product is not None
                product.create_batch("never", 1)
        log = opened.log()
        check_log(log)
        assert len(log) == 2 + 3 + 3 + 2 * 3  # who waits for a blue chair leaves two events

    def test_an_event_is_read_as_it_was_written(self, opened: Opened) -> None:
        opened.clock.moment = NOON + timedelta(microseconds=123_456)
        answer = opened.ask(
            CHAIRS, "id-1", correlation_id="request-7", causation_id="mail-1", traceparent="00-a-b-01", source="queue"
        )
        [logged] = opened.log()
        assert logged == EventEnvelope(
            BatchCreated("b1", "RED-CHAIR", 10),
            logged.id,
            NOON + timedelta(microseconds=123_456),
            LogPosition(0, 1),
            version=1,
            correlation_id="request-7",
            causation_id="id-1",
            traceparent="00-a-b-01",
            schema_version=1,
        )
        assert logged.time.utcoffset() == timedelta(0)
        assert answer.position == logged.position

    def test_a_command_is_told_the_position_of_its_last_event(self, opened: Opened) -> None:
        made, waits, again, placed = opened.group(
            CHAIRS, Allocate("o1", "RED-CHAIR", 99), Allocate("o1", "RED-CHAIR", 99), Allocate("o2", "RED-CHAIR", 1)
        )
        assert [type(logged.event) for logged in opened.log()] == [BatchCreated, Backordered, OutOfStock, Allocated]
        assert made.position == LogPosition(0, 1)
        assert waits.position == LogPosition(0, 3)
        assert (again.changed, again.position) == (False, None)
        assert placed.position == LogPosition(0, 4)

    def test_an_event_without_a_trace_has_none(self, opened: Opened) -> None:
        opened.handle(CHAIRS)
        assert opened.log()[0].traceparent is None

    def test_times_never_step_back_though_the_clock_does(self, opened: Opened) -> None:
        for n, seconds in enumerate((0, 5, -60, 1, 120)):
            opened.clock.step(seconds)
            opened.handle(CreateBatch(f"b{n}", "RED-CHAIR", 1))
        assert [(logged.time - NOON).total_seconds() for logged in opened.log()] == [0, 5, 5, 5, 66]

    @pytest.mark.parametrize("version", [1, 2])
    def test_a_version_stands_once(self, opened: Opened, version: int) -> None:
        opened.group(CHAIRS, Allocate("o1", "RED-CHAIR", 1))
        envelope = opened.bus.envelope(Allocate("o2", "RED-CHAIR", 1))
        forged = (Allocated("o2", "RED-CHAIR", 1, "b1"), version)
        with pytest.raises(Conflict):
            transact(opened, [], [Handled(envelope, events=[forged], changed=True)])
        assert len(opened.log()) == 2
        assert opened.views.line("o2", "RED-CHAIR") is None

    def test_a_command_knows_the_place_of_its_last_event(self, opened: Opened) -> None:
        first, second, third = opened.group(CHAIRS, Allocate("o1", "RED-CHAIR", 99), Allocate("o2", "RED-CHAIR", 1))
        assert [x.position for x in (first, second, third)] == [LogPosition(0, n) for n in (1, 3, 4)]

    def test_partitions_are_gapless_each_and_a_sku_stays_in_its_own(self, make_store: MakeStore) -> None:
        opened = make_store(4).open()
        skus = [f"CHAIR-{n}" for n in range(12)]
        opened.group(*(CreateBatch(f"batch-{sku}", sku, 10) for sku in skus))
        for n in range(3):
            opened.group(*(Allocate(f"o{n}", sku, 4) for sku in reversed(skus)))
        log = opened.log()
        check_log(log)
        assert {logged.position.partition for logged in log} == {0, 1, 2, 3}
        assert all(logged.position.partition == partition_of(logged.key, 4) for logged in log)
        assert len(log) == 12 * (1 + 2 + 2)

    def test_a_group_over_several_partitions_is_there_as_one_or_not_at_all(self, make_store: MakeStore) -> None:
        opened = make_store(4).open()
        opened.handle(CreateBatch("taken", "SMALL-TABLE", 10))
        envelopes = [opened.bus.envelope(CreateBatch(f"b{n}", f"CHAIR-{n}", 10)) for n in range(12)]
        forged = (BatchCreated("taken", "CHAIR-11", 10), 1)
        with pytest.raises(Conflict):
            transact(opened, envelopes[:-1], [Handled(envelopes[-1], events=[forged], changed=True)])
        assert [logged.key for logged in opened.log()] == ["SMALL-TABLE"]
        assert opened.views.batch("b0") is None
        opened.bus.handle_many(envelopes)
        check_log(opened.log())
        assert len(opened.log()) == 13
