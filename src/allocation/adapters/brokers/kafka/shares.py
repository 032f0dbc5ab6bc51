"""What a receiver keeps of a partition that is assigned to it: the deliveries that are not settled, and their order by
key."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import inf

from allocation.service_layer.broker import Delivery


@dataclass(slots=True)
class Kept:
    """A delivery that is not settled; `due` None: the caller has it."""

    delivery: Delivery
    due: float | None = None


@dataclass(slots=True, eq=False)
class Share:
    """A partition while it is ours: its unsettled deliveries, by offset, in order. Deliveries handed out during an
    earlier assignment belong to the receiver that has the partition now."""

    partition: int
    next_offset: int = 0
    committed: int = 0
    kept: dict[int, Kept] = field(default_factory=dict)

    @property
    def done_before(self) -> int:
        return next(iter(self.kept), self.next_offset)

    def due(self, now: float) -> Iterator[Kept]:
        """What may be handed out, skipping keys of which an earlier delivery has to wait."""
        blocked: set[str | int] = set()
        for line, due, kept in self._waiting():
            if due > now or line in blocked:
                blocked.add(line)
            else:
                yield kept

    def next_due(self) -> float:
        """When `due` may have something again, `inf` for never: a delivery waits for earlier ones of its key."""
        first: dict[str | int, float] = {}
        for line, due, _ in self._waiting():
            first.setdefault(line, due)
        return min(first.values(), default=inf)

    def _waiting(self) -> Iterator[tuple[str | int, float, Kept]]:
        """What is not handed out, each with the queue that it stands in: that of its key, or one of its own."""
        for offset, kept in self.kept.items():
            if kept.due is not None:
                yield offset if kept.delivery.key is None else kept.delivery.key, kept.due, kept


@dataclass(frozen=True, slots=True, eq=False)
class Token:
    """Where a delivery stands; kept by the caller that was given the delivery."""

    share: Share
    offset: int
