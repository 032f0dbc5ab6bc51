"""Time, ids and faults that a test decides about."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import count

from allocation.adapters.memory import MemoryStore, MemoryUnitOfWork
from allocation.service_layer.envelope import Clock, CommandEnvelope, Ids
from allocation.service_layer.unit_of_work import Handled
from allocation.service_layer.waiting import Timer

NOON = datetime(2031, 3, 1, 12, tzinfo=UTC)


class SetClock(Clock):
    """Stands still until it is set."""

    def __init__(self, moment: datetime = NOON) -> None:
        self.moment = moment

    def now(self) -> datetime:
        return self.moment

    def step(self, seconds: float) -> None:
        self.moment += timedelta(seconds=seconds)


class SetTimer(Timer):
    """Time passes only while somebody pauses; `pauses` holds for how long each time."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.pauses: list[float] = []

    def seconds(self) -> float:
        return self.now

    def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


class CountingIds(Ids):
    """1, 2, 3, ... as 32 hexadecimal digits."""

    def __init__(self) -> None:
        self._numbers = count(1)

    def new(self) -> str:
        return f"{next(self._numbers):032x}"

    def several(self, count: int) -> list[str]:
        return [self.new() for _ in range(count)]


class Diary:
    """Makes units of work on one memory store, keeps a diary of them, and lets them fail as told.

    `begin_fails` and `commit_fails` are raised one a transaction, in turn; then all goes well.
    """

    def __init__(self, store: MemoryStore | None = None) -> None:
        self.store = store or MemoryStore(CountingIds(), SetClock())
        self.begun: list[list[CommandEnvelope]] = []
        self.committed: list[list[Handled]] = []
        self.begin_fails: list[BaseException] = []
        self.commit_fails: list[BaseException] = []

    def __call__(self) -> MemoryUnitOfWork:
        return _DiaryUnitOfWork(self)


class _DiaryUnitOfWork(MemoryUnitOfWork):
    def __init__(self, diary: Diary) -> None:
        super().__init__(diary.store)
        self._diary = diary

    def begin(self, envelopes: Sequence[CommandEnvelope]) -> dict[tuple[str, str], Handled]:
        self._diary.begun.append(list(envelopes))
        if self._diary.begin_fails:
            raise self._diary.begin_fails.pop(0)
        return super().begin(envelopes)

    def commit(self, handled: Sequence[Handled]) -> None:
        if self._diary.commit_fails:
            raise self._diary.commit_fails.pop(0)
        super().commit(handled)
        self._diary.committed.append(list(handled))
