"""Where log and tables differ, and how to correct that. No input or output: `verify` brings the rows."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from allocation.domain.errors import Available, CorruptLog
from allocation.domain.model import Batch, Product
from allocation.service_layer.books import BatchFields, Correction, LineFields, Projected, Stored, Unreadable
from allocation.service_layer.envelope import LogPosition
from allocation.service_layer.read_models import Movements, StockLevel, movements_of
from allocation.service_layer.snapshot_checks import SnapshotCheck, Wrong, unlike_rows

MOST_CHARACTERS = 1_000
"""At most so many describe a difference: the text is kept, and written again with each step of the self-audit."""

_NOTHING = "has no such row"
_NOWHERE = "the table has it neither on a batch of this sku nor waiting"


StrayLine = tuple[str, str, str]
"""orderid, sku, and the reference of the batch that the line is on, and should not be on."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that is not as it must be: in which table, at which row, and what (cut after `MOST_CHARACTERS`).
    `repaired`: it was corrected."""

    table: str
    place: str
    problem: str
    repaired: bool = False

    def __post_init__(self) -> None:
        if len(self.problem) > MOST_CHARACTERS:
            object.__setattr__(self, "problem", f"{self.problem[: MOST_CHARACTERS - 3]}...")

    def __str__(self) -> str:
        return f"{self.table} {self.place}: {self.problem}"


@dataclass(slots=True)
class Comparison:
    """What was found of one product. Without a `correction`, nothing can be corrected, or nothing has to be.

    `strangers` are lines of other products that are on its batches.
    """

    differences: list[Difference] = field(default_factory=list)
    correction: Correction | None = None
    strangers: list[StrayLine] = field(default_factory=list)


@dataclass(slots=True)
class Folded:
    """What a product's events say: the product, and what stopped the fold (`corrupt`; None: nothing). For the read
    models: the `level` at the version that the stored level has; the version made by the event at whose position that
    is stored (`version_told_at`; 0: there is no such event); the movements; the snapshots that are wrong; the last
    event, and the last one that the projection of levels has seen."""

    product: Product
    corrupt: Difference | None = None
    level: tuple[Available, ...] | None = None
    version_told_at: int = 0
    movements: dict[str, Movements] = field(default_factory=dict)
    snapshots: Sequence[Wrong] = ()
    last_seq: int = 0
    last_seq_seen: int = 0


def fold(product: Product, stored: Stored) -> Folded:
    """Apply the events to the product, up to the first one that cannot have happened."""
    projected = stored.projected or Projected()
    level = projected.level if isinstance(projected.level, StockLevel) else None
    folded, snapshots = Folded(product), SnapshotCheck(projected.snapshots)
    for version, event, seq, day in stored.events:
        if version != product.version_number + 1:
            folded.corrupt = _corrupt(stored, version, f"version {product.version_number + 1} is missing before it")
            break
        if isinstance(event, Unreadable):
            folded.corrupt = _corrupt(stored, version, event.reason)
            break
        if seq <= folded.last_seq:  # a feed gives it before the event that it follows, and the past lacks that one
            folded.corrupt = _corrupt(stored, version, f"it stands at {seq}, the event before it at {folded.last_seq}")
            break
        try:
            product.apply(event)
        except CorruptLog as corrupt:
            folded.corrupt = _corrupt(stored, version, str(corrupt))
            break
        folded.last_seq = seq
        if snapshots.is_on:
            snapshots.take(product, event, seq)
        if level is not None and seq == level.position.seq:
            folded.version_told_at = version
        if level is not None and version == level.version:
            folded.level = product.availability()
        if seq <= projected.levels_until:
            folded.last_seq_seen = seq
        if seq <= projected.movements_until and (moved := movements_of(event)) is not None:
            if (known := folded.movements.get(day)) is None:
                folded.movements[day] = moved
            else:
                known.add(moved)
    snapshots.end()
    folded.snapshots = snapshots.wrong
    return folded


def _corrupt(stored: Stored, version: int, problem: str) -> Difference:
    return Difference("event_log", f"{stored.sku}, version {version}", problem)


def read_model_faults(folded: Folded, projected: Projected) -> Iterator[Difference]:
    """Compare the read models of a product with its events, as far as the projections have seen these."""
    product = folded.product
    if (problem := _level_fault(folded, projected)) is not None:
        yield Difference("stock_levels", product.sku, problem)
    if folded.movements != projected.movements:
        for day in sorted(folded.movements.keys() | projected.movements.keys()):
            says, has = folded.movements.get(day), projected.movements.get(day)
            if says != has:
                yield Difference("movements", f"{product.sku} {day}", f"the log says {says}, the table has {has}")
    for position, problem, _ in folded.snapshots:
        yield Difference("snapshots", f"{product.sku} {position}", problem)


def _level_fault(folded: Folded, projected: Projected) -> str | None:
    level, last_version = projected.level, folded.product.version_number
    has_passed = folded.last_seq <= projected.levels_until
    if isinstance(level, Unreadable):
        return level.reason
    if level is None:
        return f"its projection has passed it, but the table {_NOTHING}" if folded.last_seq and has_passed else None
    if level.version > last_version:
        return f"it is at version {level.version}, but the log ends at {last_version}"
    if level.available != folded.level:
        unlike = "; ".join(unlike_rows(level.available, folded.level or ()))
        return f"at version {level.version} {unlike or 'the log says the same in another order'}"
    if level.version < last_version and has_passed:
        return f"it is at version {level.version}, but its projection has passed {last_version}"
    if not 0 < folded.version_told_at <= level.version:
        return f"its position is {level.position}, where the log has no event that led to it"
    if level.position.seq < folded.last_seq and has_passed:
        last = LogPosition(level.position.partition, folded.last_seq)
        return f"its position is {level.position}, but its projection has passed {last}"
    return None


def compare(product: Product, stored: Stored) -> Comparison:
    """Compare the rows of a product with what the log folds to."""
    found, mend = Comparison(), Correction(product.version_number)
    if (stored.version or 0) != product.version_number or (stored.version == 0):
        says = "the log has no such product" if not product.version_number else _says(product.version_number)
        has = _NOTHING if stored.version is None else f"has {stored.version}"
        found.differences.append(Difference("products", stored.sku, f"{says}, the table {has}"))
    _compare_batches(product, stored.batches, found, mend)
    _compare_lines(product, stored.lines, found, mend)
    if found.differences:
        found.correction = mend
    return found


def _compare_batches(product: Product, rows: Sequence[BatchFields], found: Comparison, mend: Correction) -> None:
    there = set()
    for row in rows:
        ref = row[0]
        there.add(ref)
        batch = product.batches.get(ref)
        if batch is None:
            found.differences.append(Difference("batches", ref, f"the log has no such batch of {product.sku}"))
            mend.batches_gone.append(ref)
        elif row != (folded := _fields(batch)):
            found.differences.append(Difference("batches", ref, _unlike(_BATCH, folded, row)))
            mend.batches.append(batch)
    if len(there) != len(product.batches) or mend.batches_gone:
        for batch in product.batches:
            if batch.reference not in there:
                problem = f"{_says(batch.purchased_quantity)} of {product.sku}, the table {_NOTHING}"
                found.differences.append(Difference("batches", batch.reference, problem))
                mend.batches.append(batch)


def _compare_lines(product: Product, rows: Sequence[LineFields], found: Comparison, mend: Correction) -> None:
    lines, sku, right = product.lines, product.sku, 0
    for orderid, owner, qty, batchref, since in rows:
        line = lines.get(orderid) if owner == sku else None
        if line is not None and line.batchref == batchref and line.qty == qty and line.since == since:
            right += 1
        elif line is not None:
            folded, row = (line.qty, line.batchref, line.since), (qty, batchref, since)
            found.differences.append(Difference("order_lines", f"{orderid} {owner}", _unlike(_LINE, folded, row)))
            mend.lines.append(line)
        elif owner == sku:
            problem = f"the log has no such line; it {_stands(batchref, qty)}"
            found.differences.append(Difference("order_lines", f"{orderid} {owner}", problem))
            mend.lines_gone.append((orderid, owner))
        else:
            problem = f"it is for {owner}, but on {batchref}, a batch of {sku}"
            found.differences.append(Difference("order_lines", f"{orderid} {owner}", problem))
            found.strangers.append((orderid, owner, batchref or ""))
    if right + len(mend.lines) != len(lines):
        there = {row[0] for row in rows if row[1] == sku}
        for line in lines.values():
            if line.orderid not in there:
                problem = f"the log says that it {_stands(line.batchref, line.qty)}; {_NOWHERE}"
                found.differences.append(Difference("order_lines", f"{line.orderid} {sku}", problem))
                mend.lines.append(line)


def stock_faults(sku: str, batches: Sequence[BatchFields], lines: Sequence[LineFields]) -> Iterator[Difference]:
    """Check the tables alone: counters are sums, nothing is oversold, no line waits that could be served."""
    promised: dict[str, int] = {}
    least_waiting: LineFields | None = None
    for line in lines:
        if line[3] is not None:
            promised[line[3]] = promised.get(line[3], 0) + line[2]
        elif least_waiting is None or line[2] < least_waiting[2]:
            least_waiting = line
    for ref, owner, bought, allocated, *_ in batches:
        taken = promised.get(ref, 0)
        if taken != allocated:
            yield Difference("batches", ref, f"it says that {allocated} are allocated, but its lines have {taken}")
        if max(taken, allocated) > bought:
            yield Difference("batches", ref, f"it is oversold: {max(taken, allocated)} of {bought}")
        if least_waiting is not None and owner == sku and least_waiting[2] <= bought - max(taken, allocated):
            place, free = f"{least_waiting[0]} {sku}", bought - max(taken, allocated)
            yield Difference("order_lines", place, f"it waits for {least_waiting[2]}, but {ref} has {free} free")
            least_waiting = None


def suspects(differences: Collection[Difference]) -> list[str]:
    """The orders whose lines differ."""
    return [x.place.partition(" ")[0] for x in differences if x.table == "order_lines"]


_BATCH = ("reference", "sku", "purchased_quantity", "allocated_quantity", "eta", "created_quantity", "created_eta")
_LINE = ("qty", "batchref", "since")


def _fields(batch: Batch) -> BatchFields:
    return (
        batch.reference,
        batch.sku,
        batch.purchased_quantity,
        batch.allocated_quantity,
        batch.eta,
        *batch.created_as,
    )


def _unlike(names: Sequence[str], folded: Sequence[Any], row: Sequence[Any]) -> str:
    unlike = [
        f"{name}: the log says {a}, the table has {b}" for name, a, b in zip(names, folded, row, strict=True) if a != b
    ]
    return "; ".join(unlike)


def _says(value: int) -> str:
    return f"the log says {value}"


def _stands(batchref: str | None, qty: int) -> str:
    return f"waits for {qty}" if batchref is None else f"has {qty} on {batchref}"
