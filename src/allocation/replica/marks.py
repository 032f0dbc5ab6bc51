"""What was seen of one log partition: everything up to a low-water mark, and ranges above it."""

from __future__ import annotations

import json
from bisect import bisect_right
from dataclasses import dataclass, field
from math import inf

MOST_RANGES = 256
"""What is seen beyond so many ranges is not remembered: it will be requested again, and dropped as known."""


@dataclass(slots=True)
class Marks:
    """`above` holds ranges (first, last), in order, none touching another or `low`."""

    low: int = 0
    above: list[tuple[int, int]] = field(default_factory=list)

    @property
    def highest(self) -> int:
        return self.above[-1][1] if self.above else self.low

    def has(self, seq: int) -> bool:
        at = bisect_right(self.above, (seq, inf))
        return seq <= self.low or (at > 0 and seq <= self.above[at - 1][1])

    def add(self, seq: int) -> None:
        """Note that this number was seen."""
        if self.has(seq):
            return
        at = bisect_right(self.above, (seq, inf))
        first = last = seq
        if at and self.above[at - 1][1] == seq - 1:
            at -= 1
            first = self.above.pop(at)[0]
        if at < len(self.above) and self.above[at][0] == seq + 1:
            last = self.above.pop(at)[1]
        if first == self.low + 1:
            self.low = last
        else:
            self.above.insert(at, (first, last))
            del self.above[MOST_RANGES:]

    def hole(self, behind: int, until: int) -> tuple[int, int] | None:
        """The first run of numbers that were not seen, after one number and up to another; None if there is none."""
        first = max(behind, self.low) + 1
        for begin, end in self.above:
            if first < begin:
                until = min(until, begin - 1)
                break
            first = max(first, end + 1)
        return (first, until) if first <= until else None

    def copy(self) -> Marks:
        return Marks(self.low, self.above.copy())

    def text(self) -> str:
        """The text to keep; `from_text` reads it."""
        return json.dumps([self.low, self.above], separators=(",", ":"))

    @classmethod
    def from_text(cls, text: str) -> Marks:
        low, above = json.loads(text)
        return cls(low, [(first, last) for first, last in above])
