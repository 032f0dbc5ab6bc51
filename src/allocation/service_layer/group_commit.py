"""Many callers, one transaction.

Leader and followers: a caller that finds no commit running leads. It takes along all callers that came while the last
group committed, and commits for all of them. Nobody waits for a group to fill up: a lone caller commits at once.

Then the callers leave one by one: each wakes the next, and the last one makes the next caller in the queue the leader.
Threads of one interpreter cannot leave together anyway; woken all at once, they would only compete for their turn, also
with the next leader, which measured slower and later (docs/profile.md). Callers that come meanwhile make the next group
larger.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from threading import Lock
from typing import Generic, TypeVar

from allocation.service_layer.errors import Overloaded

Asked = TypeVar("Asked")
Answered = TypeVar("Answered")


class _Caller(Generic[Asked, Answered]):
    """One waiting caller; `wake` is released when it is answered or when it is its turn to lead. `behind` holds the
    callers of its group that have yet to be woken."""

    __slots__ = ("answer", "asked", "behind", "failure", "leads", "wake")

    def __init__(self, asked: Asked) -> None:
        self.asked = asked
        self.answer: Answered | None = None
        self.failure: BaseException | None = None
        self.behind: Iterator[_Caller[Asked, Answered]] = iter(())
        self.leads = False
        self.wake = Lock()
        self.wake.acquire()


class GroupCommit(Generic[Asked, Answered]):
    """Gathers calls of `ask` from any thread into calls of `commit`, one at a time, in order of arrival.

    `commit` gets 1 to `group_limit` items and returns as many answers; what it raises is raised to every caller of the
    group. With more than `queue_limit` callers waiting, `ask` raises `Overloaded` at once.
    """

    def __init__(
        self, commit: Callable[[Sequence[Asked]], Sequence[Answered]], group_limit: int = 500, queue_limit: int = 10_000
    ) -> None:
        self._commit = commit
        self._group_limit = group_limit
        self._queue_limit = queue_limit
        self._mutex = Lock()
        self._waiting: deque[_Caller[Asked, Answered]] = deque()
        self._led = False

    def ask(self, asked: Asked) -> Answered:
        """Blocks until the group that holds `asked` is committed, and returns what `commit` returned for it."""
        caller: _Caller[Asked, Answered] = _Caller(asked)
        with self._mutex:
            if len(self._waiting) >= self._queue_limit:
                raise Overloaded(f"{self._queue_limit} commands wait already; try again in a second")
            self._waiting.append(caller)
            caller.leads = not self._led
            self._led = True
        if not caller.leads:
            caller.wake.acquire()
        if caller.leads:
            self._lead()
        self._wake_one(caller.behind)
        if caller.failure is not None:
            raise caller.failure
        return caller.answer  # type: ignore[return-value]  # answered: `_lead` set it, or set `failure`

    def _lead(self) -> None:
        """Commit for every caller that waits, the leader (first in the queue) included."""
        with self._mutex:
            group = [self._waiting.popleft() for _ in range(min(len(self._waiting), self._group_limit))]
        try:
            answers = self._commit([caller.asked for caller in group])
            for caller, answer in zip(group, answers, strict=True):
                caller.answer = answer
        except BaseException as failure:  # noqa: BLE001  # raised in every caller, this one included: none is left waiting
            for caller in group:
                caller.failure = failure
        behind = iter(group[1:])
        for caller in group:
            caller.behind = behind

    def _wake_one(self, behind: Iterator[_Caller[Asked, Answered]]) -> None:
        """Wake the next caller of the group that was answered; after the last of them, the leader of the next group."""
        if (caller := next(behind, None)) is not None:
            caller.wake.release()
            return
        with self._mutex:
            if self._waiting:
                self._waiting[0].leads = True
                self._waiting[0].wake.release()
            else:
                self._led = False
