"""What is refused leaves no trace; what happened is an event; what cannot have happened is not applied."""

from typing import get_args

import pytest

from allocation.domain.errors import (
    MAX_QUANTITY,
    BatchExists,
    CorruptLog,
    InvalidQuantity,
    NotEnoughStock,
    OrderLineExists,
    Refused,
    StaleVersion,
    UnknownBatch,
    UnknownOrderLine,
)
from allocation.domain.events import (
    Allocated,
    Backordered,
    BatchCreated,
    BatchEtaChanged,
    BatchQuantityChanged,
    Cancelled,
    Deallocated,
    Event,
    OutOfStock,
)
from allocation.domain.model import _APPLY
from tests.unit.chairs import LATER, SKU, TODAY, line, placements, product, stocked

# Refusals


REFUSED = {
    "unknown batch, quantity": (lambda p: p.change_batch_quantity("b9", 5), UnknownBatch),
    "unknown batch, eta": (lambda p: p.change_batch_eta("b9", TODAY), UnknownBatch),
    "unknown batch, both": (lambda p: p.change_batch("b9", 5, TODAY), UnknownBatch),
    "unknown line": (lambda p: p.deallocate("o9"), UnknownOrderLine),
    "will not wait": (lambda p: p.allocate(line("o9", 99), wait=False), NotEnoughStock),
    "other quantity": (lambda p: p.allocate(line("o1", 5)), OrderLineExists),
    "no quantity": (lambda p: p.allocate(line("o9", 0)), InvalidQuantity),
    "other batch": (lambda p: p.create_batch("b1", 11), BatchExists),
    "batch of nothing": (lambda p: p.create_batch("b9", 0), InvalidQuantity),
    "batch of less than nothing": (lambda p: p.change_batch_quantity("b1", -1), InvalidQuantity),
    "stale version": (lambda p: p.require_version(1), StaleVersion),
}


@pytest.mark.parametrize("why", REFUSED)
def test_a_refusal_records_nothing_and_changes_nothing(why: str) -> None:
    chairs = stocked(b1=10)
    chairs.allocate(line("o1", 4))
    chairs.allocate(line("o2", 40))
    chairs.events.clear()
    before = (chairs.version_number, placements(chairs), chairs.availability())
    command, kind = REFUSED[why]
    with pytest.raises(kind) as refusal:
        command(chairs)
    assert isinstance(refusal.value, Refused)
    assert chairs.events == []
    assert (chairs.version_number, placements(chairs), chairs.availability()) == before


def test_the_version_the_caller_has_seen_is_checked() -> None:
    chairs = stocked(b1=10)
    chairs.require_version(1)
    with pytest.raises(StaleVersion) as refusal:
        chairs.require_version(0)
    assert refusal.value == StaleVersion(SKU, expected=0, actual=1)


# Events make the state


def test_every_event_raises_the_version_by_one() -> None:
    chairs = product()
    chairs.create_batch("b1", 10)
    chairs.allocate(line("o1", 6))
    chairs.allocate(line("o2", 6))
    chairs.change_batch_quantity("b1", 5)
    chairs.deallocate("o1")
    assert chairs.version_number == len(chairs.events)


def test_folding_the_events_gives_the_product() -> None:
    chairs = product()
    chairs.create_batch("b1", 10)
    chairs.create_batch("b2", 3, LATER)
    chairs.allocate(line("o1", 6))
    chairs.allocate(line("o2", 6))
    chairs.change_batch("b1", 5, TODAY)
    chairs.deallocate("o1")
    folded = product()
    for event in chairs.events:
        folded.apply(event)
    assert folded.events == []
    assert folded.version_number == chairs.version_number
    assert placements(folded) == placements(chairs)
    assert [repr(b) for b in folded.batches] == [repr(b) for b in chairs.batches]


def test_a_replayed_product_knows_a_batch_as_it_was_first_created() -> None:
    folded = product()
    history: list[Event] = [BatchCreated("b1", SKU, 10, None), BatchQuantityChanged("b1", SKU, 7)]
    for event in history:
        folded.apply(event)
    assert folded.create_batch("b1", 10).purchased_quantity == 7


# Events that cannot have happened

OTHER = "BLUE-CHAIR"
IMPOSSIBLE = {
    "a batch twice": BatchCreated("b1", SKU, 10),
    "a batch of nothing": BatchCreated("b9", SKU, 0),
    "a batch of too much": BatchCreated("b9", SKU, MAX_QUANTITY + 1),
    "a batch of another sku": BatchCreated("b9", OTHER, 10),
    "a quantity below what is promised": BatchQuantityChanged("b1", SKU, 3),
    "a quantity below zero": BatchQuantityChanged("b2", SKU, -1),
    "a quantity of too much": BatchQuantityChanged("b1", SKU, MAX_QUANTITY + 1),
    "a quantity of an unknown batch": BatchQuantityChanged("b9", SKU, 10),
    "a quantity under another sku": BatchQuantityChanged("b1", OTHER, 10),
    "an eta of an unknown batch": BatchEtaChanged("b9", SKU, TODAY),
    "an eta under another sku": BatchEtaChanged("b1", OTHER, TODAY),
    "a line on an unknown batch": Allocated("o9", SKU, 1, "b9"),
    "a line on two batches": Allocated("placed", SKU, 4, "b2"),
    "a line on its batch twice": Allocated("placed", SKU, 4, "b1"),
    "a line on a batch without room": Allocated("o9", SKU, 7, "b1"),
    "a waiting line with another quantity": Allocated("waiting", SKU, 5, "b1"),
    "a line of nothing": Allocated("o9", SKU, 0, "b1"),
    "a line that makes stock": Allocated("o9", SKU, -4, "b1"),
    "a line of another sku": Allocated("o9", OTHER, 1, "b1"),
    "an unknown line off its batch": Deallocated("o9", SKU, 4, "b1"),
    "a waiting line off a batch": Deallocated("waiting", SKU, 40, "b1"),
    "a line off another batch": Deallocated("placed", SKU, 4, "b2"),
    "a line off an unknown batch": Deallocated("placed", SKU, 4, "b9"),
    "another quantity off its batch": Deallocated("placed", SKU, 3, "b1"),
    "a line off its batch under another sku": Deallocated("placed", OTHER, 4, "b1"),
    "a placed line that begins to wait": Backordered("placed", SKU, 4),
    "a waiting line that begins to wait": Backordered("waiting", SKU, 40),
    "a line of nothing that waits": Backordered("o9", SKU, 0),
    "a line of another sku that waits": Backordered("o9", OTHER, 4),
    "an unknown line cancelled": Cancelled("o9", SKU, 4),
    "a line cancelled on its batch": Cancelled("placed", SKU, 4),
    "another quantity cancelled": Cancelled("waiting", SKU, 41),
    "a line cancelled under another sku": Cancelled("waiting", OTHER, 40),
    "another sku out of stock": OutOfStock(OTHER),
}


@pytest.mark.parametrize("what", IMPOSSIBLE)
def test_an_event_that_cannot_have_happened_is_never_applied(what: str) -> None:
    chairs = stocked(b1=10, b2=10)
    chairs.allocate(line("placed", 4))
    chairs.allocate(line("waiting", 40))
    before = (chairs.version_number, placements(chairs), [repr(b) for b in chairs.batches])
    with pytest.raises(CorruptLog, match="cannot have happened to RED-CHAIR after its version 5"):
        chairs.apply(IMPOSSIBLE[what])
    assert (chairs.version_number, placements(chairs), [repr(b) for b in chairs.batches]) == before


def test_a_corrupt_log_is_no_refusal() -> None:
    assert not issubclass(CorruptLog, Refused)


def test_each_kind_of_event_has_its_way_into_the_state() -> None:
    """Nothing else misses one: the first that is recorded would fail."""
    assert set(_APPLY) == set(get_args(Event))
