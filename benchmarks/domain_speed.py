"""How fast the domain decides, and how fast it folds events, with nothing around it."""

import time
from dataclasses import dataclass

from allocation.domain.events import Event
from allocation.domain.model import Batch, OrderLine, Product
from allocation.entrypoints.garbage import rare_collection
from benchmarks.measure import Table, median, spread_of, take_turns

SKU = "RED-CHAIR"


@dataclass(frozen=True, slots=True)
class Size:
    rounds: int = 5
    lines: int = 200_000


def tables(size: Size) -> list[Table]:
    """Runs everything; answers one table."""
    events = _decide(size.lines)[1]
    subjects = {"decisions": lambda _: _decide(size.lines)[0], "events folded": lambda _: _fold(events)}
    with rare_collection():
        samples = take_turns(subjects, size.rounds, "domain")
    rows: list[list[str | float | int | None]] = [
        [name, median(rates), spread_of(rates)] for name, rates in samples.items()
    ]
    header = ["domain only, one thread", "per second", "lowest to highest"]
    notes = [
        f"{size.lines:,} allocations to one product with three open batches, none of which is full; "
        f"then their events are folded; {size.rounds} rounds, alternating; medians. The garbage collector runs as "
        "rarely as in the service.",
        "Aims: 350,000 decisions/s, 1,000,000 events/s.",
    ]
    return [Table("domain", "The domain alone", header, rows, notes)]


def _decide(count: int) -> tuple[float, list[Event]]:
    product = Product(SKU, [Batch(f"batch-{n}", SKU, 10 * count) for n in range(3)])
    lines = [OrderLine(f"order-{n}", SKU, 1 + n % 3) for n in range(count)]
    begin = time.perf_counter()
    for line in lines:
        product.allocate(line)
    return count / (time.perf_counter() - begin), product.events


def _fold(events: list[Event]) -> float:
    product = Product(SKU, [Batch(f"batch-{n}", SKU, 10 * len(events)) for n in range(3)])
    begin = time.perf_counter()
    for event in events:
        product.apply(event)
    return len(events) / (time.perf_counter() - begin)
