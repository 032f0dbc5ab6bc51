"""However much differs, what is said of it is short: it is kept, printed, and written again at each step."""

from datetime import date, timedelta

import msgspec

from allocation.domain.events import Backordered, BatchCreated, Event
from allocation.domain.model import Product
from allocation.service_layer.books import Logged, Projected, Stored
from allocation.service_layer.comparing import MOST_CHARACTERS, Difference, fold, read_model_faults
from allocation.service_layer.envelope import LogPosition
from allocation.service_layer.history.snapshots import Snapshot
from allocation.service_layer.read_models import StockLevel

CHAIR, MANY = "RED-CHAIR", 2_000
FIRST_DAY = date(2031, 5, 1)
EVENTS: list[Event] = [
    *(BatchCreated(f"b{n:04}", CHAIR, 1, FIRST_DAY + timedelta(days=n)) for n in range(MANY)),
    *(Backordered(f"o{n:04}", CHAIR, 9) for n in range(MANY)),
]
LAST = LogPosition(0, len(EVENTS))


def said_of(projected: Projected) -> list[Difference]:
    """Of these read models of a product with many batches and many lines that wait."""
    events: list[Logged] = [(n, event, n, "2031-05-01") for n, event in enumerate(EVENTS, 1)]
    folded = fold(Product(CHAIR), Stored(CHAIR, LAST.seq, events, projected=projected))
    return list(read_model_faults(folded, projected))


def test_of_a_snapshot_that_was_wiped_the_first_few_rows_are_named_and_the_others_counted() -> None:
    [said] = said_of(Projected(snapshots=[(LAST, Snapshot(CHAIR, LAST.seq, LAST))]))
    assert said.problem.startswith("the log says BatchThen(ref='b0000', qty=1,")
    assert said.problem.endswith("and 3,997 more")
    assert len(said.problem) < MOST_CHARACTERS


def test_of_a_level_that_was_wiped_the_first_few_days_are_named_and_the_others_counted() -> None:
    level = StockLevel(CHAIR, LAST.seq, LAST)
    [said] = said_of(Projected(level, levels_until=LAST.seq))
    assert said.problem.startswith(f"at version {LAST.seq} the log says Available(eta=datetime.date(2031, 5, 1), ")
    assert said.problem.endswith("and 1,997 more")


def test_a_level_in_another_order_is_another() -> None:
    product = Product(CHAIR)
    for event in EVENTS:
        product.apply(event)
    level = StockLevel(CHAIR, LAST.seq, LAST, product.availability()[::-1])
    [said] = said_of(Projected(level, levels_until=LAST.seq))
    assert said.problem == f"at version {LAST.seq} the log says the same in another order"


def test_whatever_else_is_said_of_a_difference_is_cut() -> None:
    said = Difference("event_log", CHAIR, "x" * 5_000)
    assert said.problem == "x" * (MOST_CHARACTERS - 3) + "..."
    kept = msgspec.json.encode({"table": "event_log", "place": CHAIR, "problem": "x" * 5_000})
    assert msgspec.json.decode(kept, type=Difference) == said, "so is what an earlier version kept"
