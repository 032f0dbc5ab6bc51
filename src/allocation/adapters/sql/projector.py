"""State from events: folds a group's events into the final rows of the state tables.

One row for each key, and the last state wins: writing event by event, or type by type, would violate a CHECK half-way
or lose a line that came, went and came back.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from typing import assert_never

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


@dataclass(slots=True)
class BatchRow:
    """What changed in a batch: more or fewer pieces allocated, another quantity, another day (if `moved`)."""

    allocated: int = 0
    qty: int | None = None
    moved: bool = False
    eta: date | None = None
    created: BatchCreated | None = None


LineRow = tuple[int, str | None, int]
"""qty, batchref, and the version to take as `since` if the line is new."""


@dataclass(slots=True)
class Rows:
    """`lines` are to be written over existing rows (but `since` stays), after the `gone` ones were deleted."""

    batches: defaultdict[str, BatchRow] = field(default_factory=partial(defaultdict, BatchRow))
    lines: dict[tuple[str, str], LineRow] = field(default_factory=dict)
    gone: set[tuple[str, str]] = field(default_factory=set)


def project(events: Iterable[tuple[Event, int]]) -> Rows:
    """Fold events, each with the version it made, in order."""
    rows = Rows()
    for event, version in events:
        match event:
            case Allocated():
                _line(rows, event, event.batchref, version)
                rows.batches[event.batchref].allocated += event.qty
            case Deallocated():
                _line(rows, event, None, version)
                rows.batches[event.batchref].allocated -= event.qty
            case Backordered():
                _line(rows, event, None, version)
            case Cancelled():
                rows.lines.pop((event.orderid, event.sku), None)
                rows.gone.add((event.orderid, event.sku))
            case BatchCreated():
                rows.batches[event.ref] = BatchRow(qty=event.qty, eta=event.eta, created=event)
            case BatchQuantityChanged():
                rows.batches[event.ref].qty = event.qty
            case BatchEtaChanged():
                row = rows.batches[event.ref]
                row.moved, row.eta = True, event.eta
            case OutOfStock():
                pass  # a notification changes the version only
            case _:
                assert_never(event)
    return rows


def _line(rows: Rows, event: Allocated | Deallocated | Backordered, batchref: str | None, version: int) -> None:
    key = (event.orderid, event.sku)
    known = rows.lines.get(key)
    rows.lines[key] = (event.qty, batchref, known[2] if known else version)
