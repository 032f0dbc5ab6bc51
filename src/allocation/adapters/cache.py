"""The cache in this process's own memory, for one process that does everything."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from itertools import count
from threading import Lock

from allocation.service_layer.cache import Cache, Entry, Found, Places
from allocation.service_layer.envelope import LogPosition
from allocation.service_layer.waiting import Timer

KEEPER_SECONDS = 30.0
"""How long the cache trusts its place without a report from its keeper. Longer than a lease: if a worker dies, another
one continues in time."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Marks:
    """A log partition as the cache knows it. Answers from before `base` are not valid, nor are those of another
    life."""

    life: str
    position: int
    base: int
    forgotten_at: float = 0.0
    touched: dict[str, int] = field(default_factory=dict)


class MemoryCache(Cache):
    """At most `most_entries` answers, of which those not requested for longest are dropped first; at most `most_marks`
    marks for each partition: with the oldest marks, the answers from before them are dropped."""

    def __init__(
        self,
        timer: Timer,
        keeper_seconds: float = KEEPER_SECONDS,
        most_entries: int = 10_000,
        most_marks: int = 50_000,
    ) -> None:
        self._timer, self._keeper_seconds = timer, keeper_seconds
        self._most_entries, self._most_marks = most_entries, most_marks
        self._lock = Lock()
        self._lives = map(str, count())
        self._marks: dict[int, _Marks] = {}
        self._entries: OrderedDict[str, Entry] = OrderedDict()

    def look(self, key: str, partitions: Collection[int]) -> Found:
        with self._lock:
            entry = self._entries.get(key)
            if entry is None or not self._counts(entry):
                return self._found(partitions, None)
            self._entries.move_to_end(key)
            return self._found(partitions, entry.data)

    def fill(self, key: str, entry: Entry) -> bool:
        with self._lock:
            known = self._entries.get(key)
            if not self._counts(entry) or (known is not None and self._counts(known) and _is_older(entry, known)):
                return False
            self._entries[key] = entry
            self._entries.move_to_end(key)
            if len(self._entries) > self._most_entries:
                self._entries.popitem(last=False)
            return True

    def places(self, partitions: Collection[int]) -> Places:
        with self._lock:
            return {partition: marks.position for partition, marks in self._all_known(partitions).items()}

    def mark(self, partition: int, after: int, until: int, touched: Mapping[str, int]) -> None:
        with self._lock:
            marks = self._known(partition)
            if marks is None or marks.position < after:
                marks = self._begin_anew(LogPosition(partition, until))
            else:
                for thing, seq in touched.items():
                    # The latest are kept last, so the oldest are found at the front.
                    marks.touched[thing] = max(seq, marks.touched.pop(thing, 0))
                marks.position = max(marks.position, until)
                while len(marks.touched) > self._most_marks:
                    oldest = next(iter(marks.touched))
                    marks.base = max(marks.base, marks.touched.pop(oldest))
            marks.forgotten_at = self._timer.seconds() + self._keeper_seconds

    def confirm(self, position: LogPosition) -> None:
        with self._lock:
            marks = self._known(position.partition)
            if marks is None or marks.position != position.seq:
                marks = self._begin_anew(position)
            marks.forgotten_at = self._timer.seconds() + self._keeper_seconds

    def forget(self, partitions: Collection[int]) -> None:
        with self._lock:
            for partition in partitions:
                self._marks.pop(partition, None)

    def close(self) -> None:
        """There is nothing to close."""

    def _begin_anew(self, position: LogPosition) -> _Marks:
        _log.info("the cache starts over at %s", position)
        self._entries.clear()
        marks = self._marks[position.partition] = _Marks(next(self._lives), position.seq, position.seq)
        return marks

    def _known(self, partition: int) -> _Marks | None:
        marks = self._marks.get(partition)
        return marks if marks is not None and marks.forgotten_at > self._timer.seconds() else None

    def _found(self, partitions: Collection[int], data: bytes | None) -> Found:
        known = self._all_known(partitions)
        return Found(
            {partition: marks.position for partition, marks in known.items()},
            data,
            {partition: marks.life for partition, marks in known.items()},
        )

    def _all_known(self, partitions: Collection[int]) -> dict[int, _Marks]:
        known = {partition: self._known(partition) for partition in partitions}
        return {partition: marks for partition, marks in known.items() if marks is not None}

    def _counts(self, entry: Entry) -> bool:
        """Whether nothing that the answer depends on was touched since, and nothing was lost."""
        for partition, seq in entry.as_of.items():
            marks = self._known(partition)
            if marks is None or seq < marks.base or entry.lives.get(partition) != marks.life:
                return False
            if any(seq < marks.touched.get(thing, 0) for thing in entry.rests_on.get(partition, ())):
                return False
        return True


def _is_older(entry: Entry, known: Entry) -> bool:
    return any(seq < known.as_of.get(partition, 0) for partition, seq in entry.as_of.items())
