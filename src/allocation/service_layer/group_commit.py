"""Many callers, one transaction.

Leader and followers: the caller that finds the door free leads. It takes along everyone who came while the last
group committed, commits for all, hands each their answer, and lets the next in line lead. Nobody waits for a group to
fill up: a lone caller commits at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from threading import Lock
from typing import Generic, TypeVar

from allocation.service_layer.errors import Overloaded

Asked = TypeVar("Asked")
Answered = TypeVar("Answered")


class _Caller(Generic[Asked, Answered]):
    """One waiting caller; `wake` is released when it is answered or when it is its turn to lead."""

    __slots__ = ("answer", "asked", "failure", "leads", "wake")

    def __init__(self, asked: Asked) -> None:
        self.asked = asked
        self.answer: Answered | None = None
        self.failure: BaseException | None = None
        self.leads = False
        self.wake = Lock()
        self.wake.acquire()


class GroupCommit(Generic[Asked, Answered]):
    """Gathers calls of `ask` from any thread into calls of `commit`, one at a time, in order of arrival.

    `commit` gets 1 to `group_limit` things and returns as many answers; what it raises is raised to every caller of
    the group. With more than `queue_limit` callers waiting, `ask` raises `Overloaded` at once.
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
        """Blocks until the group that holds `asked` is committed, and answers what `commit` answered for it."""
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
        if caller.failure is not None:
            raise caller.failure
        return caller.answer  # type: ignore[return-value]  # answered: `_lead` set it, or set `failure`

    def _lead(self) -> None:
        """Commit for everyone who waits, the leader (first in line) included."""
        with self._mutex:
            group = [self._waiting.popleft() for _ in range(min(len(self._waiting), self._group_limit))]
        try:
            answers = self._commit([caller.asked for caller in group])
            for caller, answer in zip(group, answers, strict=True):
                caller.answer = answer
        except BaseException as failure:  # noqa: BLE001  # raised in every caller, this one included: none is left waiting
            for caller in group:
                caller.failure = failure
        self._promote()
        for caller in group[1:]:
            caller.wake.release()

    def _promote(self) -> None:
        with self._mutex:
            if self._waiting:
                self._waiting[0].leads = True
                self._waiting[0].wake.release()
            else:
                self._led = False
