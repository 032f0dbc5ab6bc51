"""What surrounds a message: its identity, and where an event stands in the log."""

from collections import Counter
from datetime import UTC, datetime

import pytest

from allocation.adapters.clock import SystemClock, TimeOrderedIds
from allocation.domain.commands import CreateBatch
from allocation.domain.events import OutOfStock
from allocation.service_layer.envelope import CommandEnvelope, EventEnvelope, LogPosition, partition_of
from allocation.service_layer.errors import IdReused
from allocation.service_layer.unit_of_work import Handled
from tests.fakes import NOON

CHAIRS = CreateBatch("b1", "RED-CHAIR", 10)


def test_a_command_is_known_by_its_source_and_id() -> None:
    assert CommandEnvelope(CHAIRS, "id-1", NOON, "c", source="queue").key == ("queue", "id-1")


def test_events_are_ordered_by_sku() -> None:
    assert EventEnvelope(OutOfStock("RED-CHAIR"), "e", NOON, LogPosition(0, 1), 1, "c", None).key == "RED-CHAIR"


def test_a_position_names_its_partition() -> None:
    assert str(LogPosition(3, 14)) == "3-14"


def test_a_sku_lives_in_the_same_partition_forever() -> None:
    """These figures are in databases out there: a test that has to be changed here has lost data."""
    homes = {sku: partition_of(sku, 8) for sku in ("RED-CHAIR", "SMALL-TABLE", "TASTELESS-LAMP", "'", "~")}
    assert homes == {"RED-CHAIR": 5, "SMALL-TABLE": 1, "TASTELESS-LAMP": 3, "'": 6, "~": 6}


def test_skus_spread_over_the_partitions() -> None:
    homes = Counter(partition_of(f"CHAIR-{n}", 4) for n in range(1000))
    assert set(homes) == {0, 1, 2, 3}
    assert min(homes.values()) > 150


@pytest.mark.parametrize("sku", ["RED-CHAIR", "\ud800", ""])
def test_one_partition_is_home_to_all_and_any_text_has_a_home(sku: str) -> None:
    assert partition_of(sku, 1) == 0
    assert 0 <= partition_of(sku, 7) < 7


def test_an_answer_is_the_same_for_the_message_and_its_twins() -> None:
    mine, twin = (CommandEnvelope(CHAIRS, "id-1", NOON, "c", brought_id=True) for _ in range(2))
    handled = Handled(mine, events=[(OutOfStock("RED-CHAIR"), 1)], changed=True, position=LogPosition(0, 1))
    assert handled.answer_to(mine).repeated is False
    assert handled.answer_to(twin).repeated is True
    assert handled.answer_to(twin).position == LogPosition(0, 1)


def test_another_command_under_the_id_gets_no_answer_of_the_first() -> None:
    mine = CommandEnvelope(CHAIRS, "id-1", NOON, "c", brought_id=True)
    other = CommandEnvelope(CreateBatch("b1", "RED-CHAIR", 11), "id-1", NOON, "c", brought_id=True)
    answer = Handled(mine, "secret").answer_to(other)  # type: ignore[arg-type]  # any result will do
    assert isinstance(answer.error, IdReused)
    assert answer.result is None


@pytest.mark.parametrize(("changed", "brought", "kept"), [(0, 0, False), (1, 0, True), (0, 1, True), (1, 1, True)])
def test_the_inbox_keeps_what_changed_something_and_what_may_come_again(
    changed: bool, brought: bool, kept: bool
) -> None:
    envelope = CommandEnvelope(CHAIRS, "id-1", NOON, "c", brought_id=bool(brought))
    assert Handled(envelope, changed=bool(changed)).is_kept is kept


def test_the_clock_tells_utc() -> None:
    assert SystemClock().now().tzinfo is UTC
    assert abs((SystemClock().now() - datetime.now(UTC)).total_seconds()) < 60


def test_minted_ids_are_many_and_different() -> None:
    ids = [*TimeOrderedIds().several(2000), *(TimeOrderedIds().new() for _ in range(2000))]
    assert len(set(ids)) == 4000
    assert {len(x) for x in ids} == {32}
    assert {(x[12], x[16] in "89ab") for x in ids} == {("7", True)}, "version 7, variant 10 (RFC 9562, section 5.7)"


def test_minted_ids_carry_the_time_in_front() -> None:
    minted = datetime.fromtimestamp(int(TimeOrderedIds().new()[:12], 16) / 1000, UTC)
    assert abs((minted - datetime.now(UTC)).total_seconds()) < 60
