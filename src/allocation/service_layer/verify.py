"""Verify and rebuild, in one function: it checks that the tables are what the log folds to, or makes them so.

It walks in small steps, each on one consistent snapshot, so that nobody waits for it and its memory does not grow with
the shop (only with its largest product). It can stop between any two steps, and continue from the place it reported.

The log and the inbox are the truth: what is wrong with them is reported and never rewritten. If a partition of the log
has holes, its products are not repaired either: their rows may be the only record of what was lost.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from allocation.domain.model import Product
from allocation.service_layer.books import Books, Stored
from allocation.service_layer.comparing import (
    Difference,
    Folded,
    StrayLine,
    compare,
    fold,
    read_model_faults,
    stock_faults,
    suspects,
)
from allocation.service_layer.envelope import LogPosition, partition_of
from allocation.service_layer.errors import Conflict, ConnectionLost
from allocation.service_layer.log_checks import log_faults
from allocation.service_layer.read_models import StockLevel

PARTS = ("log", "products", "commands", "strays", "ids")
"""The parts of a walk, in this order: positions; folded products against their rows; the inbox against the log; order
lines on batches that do not exist; event ids."""


class ForgedPlace(ValueError):
    """Not a place that a walk can have reported."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a walk continues: in which part, after what; as text `part:partition:after`."""

    part: str = PARTS[0]
    partition: int = 0
    after: str = ""

    def __str__(self) -> str:
        return f"{self.part}:{self.partition}:{self.after}"

    @classmethod
    def parse(cls, text: str) -> Place:
        """Raises `ForgedPlace`."""
        part, _, rest = text.partition(":")
        partition, _, after = rest.partition(":")
        numbers = [partition, after or "0"] if part == "log" else [partition]
        if part not in PARTS or not all(n.isdecimal() and len(n) <= MOST_DIGITS for n in numbers):
            raise ForgedPlace(f"{text!r} is not a place of a walk")
        return cls(part, int(partition), after)


MOST_DIGITS = 18
"""The most digits of a place's numbers: so many fit a BIGINT for certain."""


@dataclass(frozen=True, slots=True)
class Steps:
    """How much a step looks at at most."""

    products: int = 500
    events: int = 20_000
    rows: int = 10_000


@dataclass(frozen=True, slots=True)
class Step:
    """What one step looked at and found, and where to continue (None: it was the last step)."""

    part: str
    looked_at: int
    differences: Sequence[Difference]
    goes_on: Place | None
    products: int = 0


class Walk:
    """One walk over the books. With `repair`, what differs is corrected under the product's lock.

    A lock that others hold is tried `attempts` times.
    """

    def __init__(
        self, books: Books, partitions: int, steps: Steps | None = None, repair: bool = False, attempts: int = 10
    ) -> None:
        self._books, self._partitions, self._steps, self._repair = books, partitions, steps or Steps(), repair
        self._holes: Collection[int] | None = None
        self._retrying = Retrying(
            retry=retry_if_exception_type((Conflict, ConnectionLost)),
            stop=stop_after_attempt(attempts),
            wait=wait_random_exponential(multiplier=0.02, max=1.0),
            reraise=True,
        )

    def run(self, place: Place | None = None) -> Iterator[Step]:
        """The steps from a place on. Raises `Unavailable` when the store cannot be reached; what was reported before
        stays valid."""
        goes_on: Place | None = place or Place()
        while goes_on is not None:
            step = self.step(goes_on)
            yield step
            goes_on = step.goes_on

    def step(self, place: Place) -> Step:
        """One step at a place."""
        parts: dict[str, Callable[[Place], Step]] = {
            "log": self._log,
            "products": self._products,
            "commands": self._commands,
            "strays": self._strays,
            "ids": self._ids,
        }
        return parts[place.part](place)

    def _log(self, place: Place) -> Step:
        after, limit = int(place.after or 0), self._steps.rows
        anchor = after > 0
        page = self._books.log(place.partition, after - anchor, limit + anchor)
        found = list(log_faults(place.partition, self._partitions, after, anchor, page))
        looked_at = max(len(page.rows) - anchor, 0)
        if page.head is None:
            return Step("log", looked_at, found, Place("log", place.partition, str(page.rows[-1][0])))
        last = place.partition + 1 >= self._partitions
        return Step("log", looked_at, found, Place("products") if last else Place("log", place.partition + 1))

    def _products(self, place: Place) -> Step:
        found: list[Difference] = []
        looked_at = 0
        with self._books.products(place.after, self._steps.products, self._steps.events) as page:
            unequal = []
            for stored in page:
                look = _look_at(stored)
                looked_at += look.folded.product.version_number
                if look.faults or look.read_model_faults:
                    unequal.append(look)
        for look in unequal:
            found += self._mended(look)
        goes_on = Place("products", 0, page[-1].sku) if page else Place("commands")
        return Step("products", looked_at, found, goes_on, len(page))

    def _mended(self, look: _Look) -> Iterator[Difference]:
        """What is wrong with a product, corrected if that is allowed and possible."""
        product = look.folded.product
        right = self._mend_lines(look.strangers)  # first: no batch of this product adds up while they are on it
        state = look.is_mendable and self._mend(product, suspects(look.faults))
        of_strangers = {f"{orderid} {sku}": sku in right for orderid, sku, _ in look.strangers}
        left_on = {ref for _, sku, ref in look.strangers if sku not in right}
        for fault in look.differences:
            yield replace(fault, repaired=of_strangers.get(fault.place, state))
        for fault in look.of_stock:
            yield replace(fault, repaired=state and fault.place not in left_on)
        shown = bool(look.read_model_faults) and self._mend_read_models(product.sku)
        yield from (replace(fault, repaired=shown) for fault in look.read_model_faults)

    def _may_mend(self, sku: str) -> bool:
        if self._repair and self._holes is None:
            self._holes = self._books.holes()
        return self._holes is not None and partition_of(sku, self._partitions) not in self._holes

    def _mend_lines(self, lines: Sequence[StrayLine]) -> set[str]:
        """Correct lines, wherever their rows say they are. Returns the skus whose lines are correct now."""
        by_sku: dict[str, list[str]] = {}
        for orderid, sku, _ in lines:
            by_sku.setdefault(sku, []).append(orderid)
        return {sku for sku, orderids in by_sku.items() if self._mend(Product(sku), orderids)}

    def _mend(self, product: Product, orderids: Collection[str]) -> bool:
        """Under the product's lock: fold what came meanwhile, compare again, correct. Returns whether it is correct
        now."""
        return self._may_mend(product.sku) and self._retrying(self._mend_once, product, orderids)

    def _mend_once(self, product: Product, orderids: Collection[str]) -> bool:
        with self._books.locked(product.sku, product.version_number, orderids) as locked:
            if fold(product, locked.stored).corrupt is not None:
                return False
            correction = compare(product, locked.stored).correction
            if correction is not None:
                locked.correct(correction)
        return True

    def _mend_read_models(self, sku: str) -> bool:
        return self._may_mend(sku) and self._retrying(self._mend_read_models_once, sku)

    def _mend_read_models_once(self, sku: str) -> bool:
        """While the projections are held: fold again, and write what they would have written by now.

        A level is written at its event's position, not at a later one: readers of levels in order would skip others.
        """
        with self._books.projecting(sku) as projecting:
            folded = fold(Product(sku), projecting.stored)
            if folded.corrupt is not None:
                return False
            product, level = folded.product, None
            if folded.last_seq_seen:
                position = LogPosition(partition_of(sku, self._partitions), folded.last_seq_seen)
                level = StockLevel(sku, product.version_number, position, product.availability())
            projecting.correct(level, folded.movements, {position: due for position, _, due in folded.snapshots})
        return True

    def _commands(self, place: Place) -> Step:
        searched = self._books.false_commands(place.after, self._steps.rows)
        found = [Difference("inbox", f"{command} ({source})", problem) for command, source, problem in searched.rows]
        goes_on = Place("strays") if searched.until is None else Place("commands", 0, searched.until)
        return Step("commands", searched.looked_at, found, goes_on)

    def _strays(self, place: Place) -> Step:
        searched = self._books.strays(place.after, self._steps.rows)
        mended = self._mend_lines(searched.rows)
        found = [
            Difference("order_lines", f"{x} {sku}", f"it is on {ref}, but there is no such batch", sku in mended)
            for x, sku, ref in searched.rows
        ]
        goes_on = Place("ids") if searched.until is None else Place("strays", 0, searched.until)
        return Step("strays", searched.looked_at, found, goes_on)

    def _ids(self, place: Place) -> Step:
        problem = "more than one event has this id"
        return Step("ids", 0, [Difference("event_log", x, problem) for x in self._books.doubled_ids()], None)


@dataclass(frozen=True, slots=True)
class _Look:
    """What is wrong with a product: where its rows differ from the log, where they contradict each other, and what is
    wrong with its read models; whether its rows can be corrected, and other products' lines on its batches."""

    folded: Folded
    differences: Sequence[Difference]
    of_stock: Sequence[Difference]
    read_model_faults: Sequence[Difference] = ()
    is_mendable: bool = False
    strangers: Sequence[StrayLine] = ()

    @property
    def faults(self) -> list[Difference]:
        return [*self.differences, *self.of_stock]


def _look_at(stored: Stored) -> _Look:
    folded = fold(Product(stored.sku), stored)
    of_stock = list(stock_faults(stored.sku, stored.batches, stored.lines))
    if folded.corrupt is not None:
        return _Look(folded, [folded.corrupt], of_stock)
    compared = compare(folded.product, stored)
    of_read_models = list(read_model_faults(folded, stored.projected)) if stored.projected is not None else []
    is_mendable = compared.correction is not None
    return _Look(folded, compared.differences, of_stock, of_read_models, is_mendable, compared.strangers)
