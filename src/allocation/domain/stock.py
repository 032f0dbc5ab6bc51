"""The parts a product is made of: batches, order lines, and the two collections that answer questions about them.

The collections here are complete and in memory. An adapter may answer the same questions from what it has read so far,
and read on when more is needed; every decision comes out the same.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date

from allocation.domain.preferences import preference


@dataclass(unsafe_hash=True, slots=True)
class OrderLine:
    """What one order wants of one sku: on one batch (`batchref`), or waiting (None). Never on two.

    `since` is the product version that first accepted the line, and never changes: older lines are served first and
    give way last.
    """

    orderid: str
    sku: str
    qty: int
    batchref: str | None = field(default=None, compare=False)
    since: int = field(default=0, compare=False)


class Batch:
    """Stock bought together: on hand (`eta` None) or arriving on a day.

    Remembers how it was first created, so that the same `CreateBatch` again is recognised after later changes.
    """

    __slots__ = ("allocated_quantity", "created_as", "eta", "purchased_quantity", "reference", "sku")

    def __init__(
        self,
        ref: str,
        sku: str,
        qty: int,
        eta: date | None = None,
        allocated_quantity: int = 0,
        created_as: tuple[int, date | None] | None = None,
    ) -> None:
        self.reference = ref
        self.sku = sku
        self.eta = eta
        self.purchased_quantity = qty
        self.allocated_quantity = allocated_quantity
        self.created_as = created_as or (qty, eta)

    def __repr__(self) -> str:
        return (
            f"<Batch {self.reference}: {self.allocated_quantity} of {self.purchased_quantity} {self.sku}, {self.eta}>"
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Batch) and other.reference == self.reference

    def __hash__(self) -> int:
        return hash(self.reference)

    def __lt__(self, other: Batch) -> bool:
        return preference(self) < preference(other)

    def __gt__(self, other: Batch) -> bool:
        return preference(self) > preference(other)

    @property
    def available_quantity(self) -> int:
        return self.purchased_quantity - self.allocated_quantity

    def can_allocate(self, line: OrderLine) -> bool:
        return self.sku == line.sku and self.purchased_quantity - self.allocated_quantity >= line.qty

    def allocate(self, line: OrderLine) -> bool:
        """Take the line, unless it is on a batch already, wants nothing, or does not fit. Returns whether it did."""
        taken = self.allocated_quantity + line.qty
        fits = self.allocated_quantity < taken <= self.purchased_quantity
        if line.batchref is not None or not fits or line.sku != self.sku:
            return False
        line.batchref = self.reference
        self.allocated_quantity = taken
        return True

    def deallocate(self, line: OrderLine) -> None:
        """Release the line, if it is on this batch."""
        if line.batchref == self.reference:
            line.batchref = None
            self.allocated_quantity -= line.qty


class Batches(list[Batch]):
    """A product's batches in order of preference."""

    __slots__ = ("_by_reference",)

    def __init__(self, batches: Iterable[Batch] = ()) -> None:
        super().__init__(batches)
        self.sort(key=preference)
        self._by_reference = {batch.reference: batch for batch in self}

    def get(self, ref: str) -> Batch | None:
        return self._by_reference.get(ref)

    def add(self, batch: Batch) -> None:
        self._by_reference[batch.reference] = batch
        insort(self, batch)

    def change_eta(self, batch: Batch, eta: date | None) -> None:
        batch.eta = eta
        self.sort()

    def best_for(self, line: OrderLine) -> Batch | None:
        """The most preferred batch that has room for the line, which must be of the same sku."""
        qty = line.qty
        for batch in self:
            if batch.purchased_quantity - batch.allocated_quantity >= qty:
                return batch
        return None

    def largest_free(self) -> int:
        """The most that a single batch can still give. An adapter may leave out a batch that has gained nothing since
        it was read: no waiting line fits such a batch."""
        return max((batch.available_quantity for batch in self), default=0)

    def open(self) -> Iterable[Batch]:
        """Every batch that has something left, in order of preference."""
        return (batch for batch in self if batch.available_quantity > 0)


class Lines(dict[str, OrderLine]):
    """A product's order lines by order id."""

    __slots__ = ()

    def newest_on(self, ref: str) -> Iterator[OrderLine]:
        """The lines on a batch, the newest first."""
        return iter(sorted((x for x in self.values() if x.batchref == ref), key=_since, reverse=True))

    def oldest_waiting(self, at_most: Callable[[], int]) -> Iterator[OrderLine]:
        """The waiting lines whose quantity is at most what `at_most` says *when their turn comes*, oldest first.

        What `at_most` returns may only fall, and only because of what happens to a line that was yielded.
        """
        most = at_most()
        for line in sorted((x for x in self.values() if x.batchref is None and x.qty <= most), key=_since):
            if line.qty <= most:
                yield line
                most = at_most()


def _since(line: OrderLine) -> int:
    return line.since
