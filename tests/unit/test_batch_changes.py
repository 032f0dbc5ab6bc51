"""A batch holds more or less than thought, or arrives on another day; lines give way by age."""

import pytest

from allocation.domain.errors import MAX_QUANTITY, InvalidQuantity
from allocation.domain.events import Allocated, BatchEtaChanged, BatchQuantityChanged, Deallocated, OutOfStock
from tests.unit.chairs import LATER, SKU, line, placements, stocked

# Another quantity


def test_a_grown_batch_serves_those_who_wait() -> None:
    chairs = stocked(b1=5)
    chairs.allocate(line("o1", 8))
    chairs.events.clear()
    chairs.change_batch_quantity("b1", 8)
    assert chairs.events == [BatchQuantityChanged("b1", SKU, 8), Allocated("o1", SKU, 8, "b1")]


def test_a_shrunken_batch_that_still_covers_its_lines_moves_nobody() -> None:
    chairs = stocked(b1=10)
    chairs.allocate(line("o1", 4))
    chairs.events.clear()
    chairs.change_batch_quantity("b1", 4)
    assert chairs.events == [BatchQuantityChanged("b1", SKU, 4)]


def test_from_a_shrunken_batch_the_newest_line_gives_way() -> None:
    chairs = stocked(b1=10)
    for orderid in ("old", "middle", "new"):
        chairs.allocate(line(orderid, 3))
    chairs.events.clear()
    chairs.change_batch_quantity("b1", 6)
    assert chairs.events == [Deallocated("new", SKU, 3, "b1"), BatchQuantityChanged("b1", SKU, 6), OutOfStock(SKU)]
    assert placements(chairs) == {"old": "b1", "middle": "b1", "new": None}


def test_a_line_that_gives_way_finds_another_batch_without_a_notification() -> None:
    chairs = stocked(b1=10, b2=10)
    chairs.allocate(line("o1", 8))
    chairs.events.clear()
    chairs.change_batch_quantity("b1", 2)
    assert chairs.events == [
        Deallocated("o1", SKU, 8, "b1"),
        BatchQuantityChanged("b1", SKU, 2),
        Allocated("o1", SKU, 8, "b2"),
    ]


def test_a_line_that_gives_way_may_return_to_what_is_left_of_its_batch() -> None:
    chairs = stocked(b1=10)
    chairs.allocate(line("old", 8))
    chairs.allocate(line("new", 2))
    chairs.events.clear()
    chairs.change_batch_quantity("b1", 7)
    assert placements(chairs) == {"old": None, "new": "b1"}
    assert chairs.events[-2:] == [Allocated("new", SKU, 2, "b1"), OutOfStock(SKU)]


def test_out_of_stock_comes_last_and_once_for_each_line_that_starts_to_wait() -> None:
    chairs = stocked(b1=10, b2=2)
    chairs.allocate(line("waits-already", 50))
    for orderid, qty in (("o1", 2), ("o2", 4), ("o3", 2), ("o4", 2)):
        chairs.allocate(line(orderid, qty))
    chairs.events.clear()
    chairs.change_batch_quantity("b1", 0)
    assert [type(e) for e in chairs.events] == [
        *[Deallocated] * 4,
        BatchQuantityChanged,
        Allocated,
        *[OutOfStock] * 3,
    ]
    assert placements(chairs) == {"waits-already": None, "o1": "b2", "o2": None, "o3": None, "o4": None}


def test_an_unchanged_quantity_is_no_news() -> None:
    chairs = stocked(b1=10)
    chairs.change_batch_quantity("b1", 10)
    assert chairs.events == []


@pytest.mark.parametrize("qty", [-1, MAX_QUANTITY + 1])
def test_a_batch_cannot_hold_an_impossible_quantity(qty: int) -> None:
    chairs = stocked(b1=10)
    with pytest.raises(InvalidQuantity) as refusal:
        chairs.change_batch_quantity("b1", qty)
    assert refusal.value.least == 0
    assert chairs.events == []


def test_a_batch_may_turn_out_to_be_empty_and_hold_something_later() -> None:
    chairs = stocked(b1=10)
    chairs.change_batch_quantity("b1", 0)
    assert chairs.allocate(line("o1", 1)) is None
    chairs.change_batch_quantity("b1", 1)
    assert placements(chairs) == {"o1": "b1"}


# Another ETA


def test_another_eta_moves_the_date_and_leaves_the_lines_where_they_are() -> None:
    chairs = stocked(b1=10, b2=10)
    chairs.allocate(line("o1", 4))
    chairs.events.clear()
    chairs.change_batch_eta("b1", LATER)
    assert chairs.events == [BatchEtaChanged("b1", SKU, LATER)]
    assert placements(chairs) == {"o1": "b1"}


def test_another_eta_counts_for_the_next_line() -> None:
    chairs = stocked(b1=10, b2=10)
    chairs.change_batch_eta("b1", LATER)
    assert chairs.allocate(line("o1", 1)) == "b2"
    chairs.change_batch_eta("b1", None)
    assert chairs.allocate(line("o2", 1)) == "b1"


def test_an_unchanged_eta_is_no_news() -> None:
    chairs = stocked(b1=10)
    chairs.change_batch_eta("b1", None)
    assert chairs.events == []


def test_quantity_and_eta_in_one_go_place_lines_by_the_new_date_and_tell_of_shortage_last() -> None:
    chairs = stocked(b1=10, b2=1)
    chairs.allocate(line("old", 6))
    chairs.allocate(line("new", 1))
    chairs.events.clear()
    chairs.change_batch("b1", 2, LATER)
    assert chairs.events == [
        BatchEtaChanged("b1", SKU, LATER),
        Deallocated("new", SKU, 1, "b1"),
        Deallocated("old", SKU, 6, "b1"),
        BatchQuantityChanged("b1", SKU, 2),
        Allocated("new", SKU, 1, "b2"),
        OutOfStock(SKU),
    ]


def test_quantity_and_eta_in_one_go_are_both_refused_where_one_is() -> None:
    chairs = stocked(b1=10)
    with pytest.raises(InvalidQuantity):
        chairs.change_batch("b1", -1, LATER)
    assert (chairs.events, chairs.batches[0].eta) == ([], None)


# Age


def test_a_line_keeps_its_age_for_life() -> None:
    chairs = stocked(b1=10)
    chairs.allocate(line("old", 6))
    chairs.allocate(line("young", 4))
    born = {x.orderid: x.since for x in chairs.lines.values()}
    chairs.change_batch_quantity("b1", 0)
    chairs.change_batch_quantity("b1", 4)
    assert placements(chairs) == {"old": None, "young": "b1"}
    chairs.change_batch_quantity("b1", 10)
    assert {x.orderid: x.since for x in chairs.lines.values()} == born
    chairs.change_batch_quantity("b1", 9)
    assert placements(chairs) == {"old": "b1", "young": None}


def test_the_age_of_a_line_is_the_version_that_accepted_it() -> None:
    chairs = stocked(b1=5)
    chairs.allocate(line("o1", 5))
    chairs.allocate(line("o2", 5))
    chairs.allocate(line("o3", 5))
    assert [x.since for x in chairs.lines.values()] == [2, 3, 5]  # version 4 was o2's OutOfStock
