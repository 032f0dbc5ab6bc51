"""A batch and an order line meet: the first chapter of the book, in tests of our own words."""

from datetime import date, timedelta

import pytest

from allocation.domain.model import Batch, OrderLine
from allocation.domain.preferences import preference

TODAY = date(2031, 3, 1)
TOMORROW = TODAY + timedelta(days=1)
NEXT_MONTH = TODAY + timedelta(days=30)


def batch_and_line(sku: str, bought: int, wanted: int) -> tuple[Batch, OrderLine]:
    return Batch("batch-001", sku, bought, eta=TODAY), OrderLine("order-123", sku, wanted)


def test_an_allocated_line_leaves_less_available() -> None:
    batch, line = batch_and_line("SMALL-TABLE", 20, 2)
    batch.allocate(line)
    assert batch.available_quantity == 18


@pytest.mark.parametrize(
    ("bought", "wanted", "fits"),
    [(20, 2, True), (2, 20, False), (2, 2, True)],
    ids=["plenty", "too few", "just enough"],
)
def test_a_line_fits_when_enough_is_left(bought: int, wanted: int, fits: bool) -> None:
    batch, line = batch_and_line("ELEGANT-LAMP", bought, wanted)
    assert batch.can_allocate(line) is fits


def test_a_batch_takes_no_line_of_another_sku() -> None:
    batch = Batch("batch-001", "UNCOMFORTABLE-CHAIR", 100, eta=None)
    line = OrderLine("order-123", "EXPENSIVE-TOASTER", 10)
    assert not batch.can_allocate(line)
    batch.allocate(line)
    assert (batch.available_quantity, line.batchref) == (100, None)


def test_allocating_a_line_twice_takes_its_quantity_once() -> None:
    batch, line = batch_and_line("ANGULAR-DESK", 20, 2)
    batch.allocate(line)
    batch.allocate(line)
    assert batch.available_quantity == 18


def test_a_line_that_does_not_fit_changes_nothing() -> None:
    batch, line = batch_and_line("ANGULAR-DESK", 2, 20)
    batch.allocate(line)
    assert (batch.available_quantity, line.batchref) == (2, None)


def test_a_deallocated_line_gives_its_quantity_back() -> None:
    batch, line = batch_and_line("EXPENSIVE-FOOTSTOOL", 20, 2)
    batch.allocate(line)
    batch.deallocate(line)
    assert (batch.available_quantity, line.batchref) == (20, None)


def test_only_a_line_on_the_batch_can_be_deallocated() -> None:
    batch, stranger = batch_and_line("DECORATIVE-TRINKET", 20, 2)
    batch.deallocate(stranger)
    assert batch.available_quantity == 20


def test_a_line_on_one_batch_goes_on_no_other() -> None:
    first, line = batch_and_line("RED-CHAIR", 20, 2)
    second = Batch("batch-002", "RED-CHAIR", 20)
    first.allocate(line)
    second.allocate(line)
    assert (line.batchref, second.available_quantity) == ("batch-001", 20)


def test_a_batch_remembers_how_it_was_created() -> None:
    batch = Batch("batch-001", "RED-CHAIR", 20, TODAY)
    batch.purchased_quantity, batch.eta = 5, None
    assert batch.created_as == (20, TODAY)


def test_a_batch_is_known_by_its_reference() -> None:
    assert Batch("batch-001", "RED-CHAIR", 20) == Batch("batch-001", "RED-CHAIR", 7, TODAY)
    assert Batch("batch-001", "RED-CHAIR", 20) != Batch("batch-002", "RED-CHAIR", 20)
    assert Batch("batch-001", "RED-CHAIR", 20) != "batch-001"
    assert len({Batch("batch-001", "RED-CHAIR", 20), Batch("batch-001", "RED-CHAIR", 7)}) == 1


def test_stock_on_hand_comes_first_then_the_earliest_then_the_reference() -> None:
    on_hand = Batch("z-on-hand", "RED-CHAIR", 1)
    also_on_hand = Batch("a-on-hand", "RED-CHAIR", 1)
    soon, soon_too, late = (
        Batch("b", "RED-CHAIR", 1, TOMORROW),
        Batch("c", "RED-CHAIR", 1, TOMORROW),
        Batch("a", "RED-CHAIR", 1, NEXT_MONTH),
    )
    assert sorted([late, soon_too, on_hand, soon, also_on_hand]) == [also_on_hand, on_hand, soon, soon_too, late]
    assert late > soon_too > soon > on_hand
    assert preference(on_hand) < preference(Batch("a", "RED-CHAIR", 1, date.min + timedelta(days=1)))


def test_a_batch_shows_what_it_holds() -> None:
    assert repr(Batch("batch-001", "RED-CHAIR", 20, TODAY, 3)) == "<Batch batch-001: 3 of 20 RED-CHAIR, 2031-03-01>"
