"""The aggregate decides which batch serves a line, who waits, and what happens when a line lets go."""

from datetime import date

import pytest

from allocation.domain.errors import (
    MAX_QUANTITY,
    Available,
    BatchExists,
    InvalidQuantity,
    InvalidSku,
    NotEnoughStock,
    OrderLineExists,
    UnknownOrderLine,
)
from allocation.domain.events import Allocated, Backordered, BatchCreated, Cancelled, Deallocated, OutOfStock
from allocation.domain.model import Batch, OrderLine, Product
from tests.unit.chairs import LATER, SKU, TODAY, TOMORROW, line, placements, product, stocked

# As in the book


def test_stock_on_hand_is_preferred_to_a_shipment() -> None:
    on_hand, shipment = Batch("on-hand", "RETRO-CLOCK", 100), Batch("shipment", "RETRO-CLOCK", 100, eta=TOMORROW)
    clock = Product("RETRO-CLOCK", [shipment, on_hand])
    clock.allocate(OrderLine("oref", "RETRO-CLOCK", 10))
    assert (on_hand.available_quantity, shipment.available_quantity) == (90, 100)


def test_earlier_shipments_are_preferred() -> None:
    speedy, normal, slow = (
        Batch("speedy", "SPOON", 100, eta=TODAY),
        Batch("normal", "SPOON", 100, eta=TOMORROW),
        Batch("slow", "SPOON", 100, eta=LATER),
    )
    Product("SPOON", [normal, slow, speedy]).allocate(OrderLine("order1", "SPOON", 10))
    assert [b.available_quantity for b in (speedy, normal, slow)] == [90, 100, 100]


def test_of_two_alike_the_smaller_reference_is_preferred() -> None:
    assert product(Batch("b2", SKU, 5), Batch("b1", SKU, 5), Batch("b3", SKU, 5)).allocate(line("o", 1)) == "b1"


def test_a_preferred_batch_that_is_too_small_is_passed_over() -> None:
    assert product(Batch("small", SKU, 2), Batch("large", SKU, 20, LATER)).allocate(line("o", 3)) == "large"


def test_allocating_answers_the_batch_and_records_it() -> None:
    chairs = product(Batch("b1", SKU, 100), Batch("b2", SKU, 100, TOMORROW))
    assert chairs.allocate(line("oref", 10)) == "b1"
    assert chairs.events[-1] == Allocated(orderid="oref", sku=SKU, qty=10, batchref="b1")


def test_nothing_left_is_told_as_an_event_and_answers_none() -> None:
    chairs = product(Batch("b1", SKU, 10, eta=TODAY))
    chairs.allocate(line("order1", 10))
    assert chairs.allocate(line("order2", 1)) is None
    assert chairs.events[-1] == OutOfStock(sku=SKU)


def test_allocating_raises_the_version_number() -> None:
    chairs = Product(SKU, [Batch("b1", SKU, 100)])
    chairs.version_number = 7
    chairs.allocate(line("oref", 10))
    assert chairs.version_number == 8


def test_whether_a_line_fits_can_be_asked_without_allocating() -> None:
    chairs = product(Batch("b1", SKU, 10), Batch("b2", SKU, 20, LATER))
    assert chairs.can_allocate(line("o", 20))
    assert not chairs.can_allocate(line("o", 21))
    assert not chairs.can_allocate(line("o", 1, sku="BLUE-CHAIR"))
    assert (chairs.events, chairs.version_number) == ([], 0)


# Allocating


def test_the_same_line_again_keeps_its_batch_and_records_nothing() -> None:
    chairs = stocked(b1=10, b2=10)
    chairs.allocate(line("o1", 4))
    chairs.events.clear()
    assert chairs.allocate(line("o1", 4)) == "b1"
    assert chairs.allocate(line("o1", 4), wait=False) == "b1"
    assert chairs.events == []


def test_the_same_line_again_with_another_quantity_is_refused() -> None:
    chairs = stocked(b1=10)
    chairs.allocate(line("o1", 4))
    with pytest.raises(OrderLineExists) as refusal:
        chairs.allocate(line("o1", 5))
    assert refusal.value == OrderLineExists("o1", SKU, 4)


def test_a_line_that_finds_nothing_waits() -> None:
    chairs = stocked(b1=10)
    assert chairs.allocate(line("o1", 11)) is None
    assert chairs.events == [Backordered("o1", SKU, 11), OutOfStock(SKU)]
    assert placements(chairs) == {"o1": None}


def test_a_waiting_line_asked_again_still_waits_and_is_not_told_twice() -> None:
    chairs = stocked(b1=10)
    chairs.allocate(line("o1", 11))
    chairs.events.clear()
    assert chairs.allocate(line("o1", 11)) is None
    assert chairs.allocate(line("o1", 11), wait=False) is None
    assert chairs.events == []


def test_a_line_that_will_not_wait_is_refused_and_told_what_there_is() -> None:
    chairs = product(Batch("b1", SKU, 3), Batch("b2", SKU, 4), Batch("b3", SKU, 9, LATER), Batch("b4", SKU, 5, TODAY))
    with pytest.raises(NotEnoughStock) as refusal:
        chairs.allocate(line("o1", 10), wait=False)
    assert refusal.value.available == (Available(None, 7, 4), Available(TODAY, 5, 5), Available(LATER, 9, 9))
    assert str(refusal.value) == "No batch of RED-CHAIR has 10 left"
    assert (chairs.events, placements(chairs)) == ([], {})


def test_batches_with_nothing_left_are_not_available() -> None:
    chairs = stocked(b1=3, b2=5)
    chairs.allocate(line("o1", 3))
    assert chairs.availability() == (Available(None, 5, 5),)


@pytest.mark.parametrize("qty", [0, -1, -1000, MAX_QUANTITY + 1])
def test_a_line_of_no_quantity_or_an_impossible_one_is_refused(qty: int) -> None:
    chairs = stocked(b1=10)
    with pytest.raises(InvalidQuantity):
        chairs.allocate(line("o1", qty))
    assert (chairs.events, chairs.availability()) == ([], (Available(None, 10, 10),))


def test_the_largest_quantity_can_be_bought_and_promised() -> None:
    chairs = stocked(b1=MAX_QUANTITY)
    assert chairs.allocate(line("o1", MAX_QUANTITY)) == "b1"
    assert chairs.batches[0].available_quantity == 0


def test_a_line_of_another_sku_is_refused() -> None:
    chairs = stocked(b1=10)
    with pytest.raises(InvalidSku):
        chairs.allocate(line("o1", 1, sku="BLUE-CHAIR"))
    assert (chairs.events, placements(chairs)) == ([], {})


# Taking in stock


def test_a_new_batch_is_recorded_and_there_to_promise_from() -> None:
    chairs = product()
    batch = chairs.create_batch("b1", 10, TODAY)
    assert (batch.reference, batch.available_quantity, batch.eta) == ("b1", 10, TODAY)
    assert chairs.events == [BatchCreated("b1", SKU, 10, TODAY)]


def test_the_same_batch_again_is_no_news() -> None:
    chairs = stocked(b1=10)
    chairs.allocate(line("o1", 4))
    chairs.events.clear()
    assert chairs.create_batch("b1", 10).available_quantity == 6
    assert chairs.events == []


def test_the_same_batch_again_is_no_news_after_it_changed() -> None:
    chairs = stocked(b1=10)
    chairs.change_batch_quantity("b1", 7)
    chairs.change_batch_eta("b1", LATER)
    chairs.events.clear()
    batch = chairs.create_batch("b1", 10)
    assert (batch.purchased_quantity, batch.eta, chairs.events) == (7, LATER, [])


@pytest.mark.parametrize(("qty", "eta"), [(11, None), (10, TODAY)])
def test_another_batch_under_a_known_reference_is_refused(qty: int, eta: date | None) -> None:
    chairs = stocked(b1=10)
    with pytest.raises(BatchExists):
        chairs.create_batch("b1", qty, eta)
    assert chairs.events == []


@pytest.mark.parametrize("qty", [0, -1, MAX_QUANTITY + 1])
def test_a_batch_of_no_or_an_impossible_quantity_is_refused(qty: int) -> None:
    chairs = product()
    with pytest.raises(InvalidQuantity) as refusal:
        chairs.create_batch("b1", qty)
    assert refusal.value.least == 1
    assert (chairs.events, chairs.version_number) == ([], 0)


def test_new_stock_serves_those_who_wait_oldest_first() -> None:
    chairs = stocked(b0=1)
    for orderid in ("first", "second", "third"):
        chairs.allocate(line(orderid, 4))
    chairs.events.clear()
    chairs.create_batch("b1", 9)
    assert chairs.events == [
        BatchCreated("b1", SKU, 9, None),
        Allocated("first", SKU, 4, "b1"),
        Allocated("second", SKU, 4, "b1"),
    ]
    assert placements(chairs)["third"] is None


def test_a_small_line_may_pass_a_large_one_that_cannot_be_served() -> None:
    chairs = stocked(b0=1)
    chairs.allocate(line("large", 50))
    chairs.allocate(line("small", 5))
    chairs.create_batch("b1", 10)
    assert placements(chairs) == {"large": None, "small": "b1"}


def test_a_new_line_does_not_overtake_a_waiting_one_that_could_be_served() -> None:
    chairs = stocked(b0=1)
    chairs.allocate(line("patient", 10))
    chairs.create_batch("b1", 10)
    assert chairs.allocate(line("latecomer", 10)) is None
    assert placements(chairs)["patient"] == "b1"


# Letting go


def test_a_deallocated_line_is_taken_off_its_batch_and_no_longer_owed() -> None:
    chairs = stocked(b1=10)
    chairs.allocate(line("o1", 4))
    chairs.events.clear()
    chairs.deallocate("o1")
    assert chairs.events == [Deallocated("o1", SKU, 4, "b1"), Cancelled("o1", SKU, 4)]
    assert (placements(chairs), chairs.availability()) == ({}, (Available(None, 10, 10),))


def test_a_waiting_line_is_cancelled_without_touching_a_batch() -> None:
    chairs = stocked(b1=1)
    chairs.allocate(line("o1", 4))
    chairs.events.clear()
    chairs.deallocate("o1")
    assert chairs.events == [Cancelled("o1", SKU, 4)]


def test_what_was_let_go_serves_those_who_wait_oldest_first() -> None:
    chairs = stocked(b1=10)
    for orderid, qty in (("holder", 10), ("first", 6), ("second", 6), ("third", 4)):
        chairs.allocate(line(orderid, qty))
    chairs.deallocate("holder")
    assert placements(chairs) == {"first": "b1", "second": None, "third": "b1"}


def test_a_line_that_is_not_there_cannot_be_deallocated() -> None:
    chairs = stocked(b1=10)
    with pytest.raises(UnknownOrderLine):
        chairs.deallocate("nobody")
    assert chairs.events == []


def test_a_cancelled_line_can_be_ordered_anew_and_is_young_then() -> None:
    chairs = stocked(b1=10)
    chairs.allocate(line("o1", 4))
    chairs.allocate(line("o2", 4))
    chairs.deallocate("o1")
    chairs.allocate(line("o1", 6))
    assert chairs.lines["o1"].since > chairs.lines["o2"].since
