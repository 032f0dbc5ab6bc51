"""Group commit: who waits is taken along, everyone gets their own answer, nobody is left waiting."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Barrier, Event, Lock, Semaphore, get_ident
from typing import Any

import pytest

from allocation.service_layer import group_commit
from allocation.service_layer.errors import Overloaded
from allocation.service_layer.group_commit import GroupCommit

PATIENCE_SECONDS = 30


class Store:
    """Commits by doubling. While `gate` is closed a commit stands still, having told so by `busy`."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.threads: list[int] = []
        self.gate, self.busy = Event(), Semaphore(0)
        self.gate.set()
        self.fails: list[BaseException] = []
        self.at_once = Lock()

    def commit(self, group: Sequence[int]) -> list[int]:
        assert self.at_once.acquire(blocking=False), "two groups were committed at once"
        try:
            self.groups.append(list(group))
            self.threads.append(get_ident())
            self.busy.release()
            assert self.gate.wait(PATIENCE_SECONDS)
            if self.fails:
                raise self.fails.pop(0)
            return [2 * n for n in group]
        finally:
            self.at_once.release()


class Arrivals:
    """Counts who has come in, so that a test can wait for them."""

    def __init__(self) -> None:
        self._came = Semaphore(0)

    def queue(self) -> deque[Any]:
        came = self._came

        class Queue(deque[Any]):
            def append(self, caller: Any, /) -> None:
                super().append(caller)
                came.release()

        return Queue()

    def await_more(self, count: int) -> None:
        for _ in range(count):
            assert self._came.acquire(timeout=PATIENCE_SECONDS)


@pytest.fixture
def arrivals(monkeypatch: pytest.MonkeyPatch) -> Arrivals:
    arrivals = Arrivals()
    monkeypatch.setattr(group_commit, "deque", arrivals.queue)
    return arrivals


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(64) as pool:
        yield pool


def line_up(
    door: GroupCommit[int, int], store: Store, arrivals: Arrivals, threads: ThreadPoolExecutor, count: int
) -> list[Future[int]]:
    """Thread 0 leads and stands before the closed gate; 1 to `count` have come in behind it, in order."""
    store.gate.clear()
    futures = []
    for n in range(count + 1):
        futures.append(threads.submit(door.ask, n))
        arrivals.await_more(1)
        if n == 0:
            assert store.busy.acquire(timeout=PATIENCE_SECONDS)
    return futures


def results(futures: Sequence[Future[int]]) -> list[int]:
    return [future.result(PATIENCE_SECONDS) for future in futures]


def test_a_lone_caller_commits_at_once_and_by_itself(store: Store) -> None:
    door = GroupCommit(store.commit)
    assert [door.ask(n) for n in (1, 2)] == [2, 4]
    assert store.groups == [[1], [2]]
    assert set(store.threads) == {get_ident()}


def test_those_who_came_during_a_commit_are_the_next_group(
    store: Store, arrivals: Arrivals, threads: ThreadPoolExecutor
) -> None:
    futures = line_up(GroupCommit(store.commit), store, arrivals, threads, 5)
    store.gate.set()
    assert results(futures) == [0, 2, 4, 6, 8, 10]
    assert store.groups == [[0], [1, 2, 3, 4, 5]]


def test_the_lead_goes_to_the_first_in_line(store: Store, arrivals: Arrivals, threads: ThreadPoolExecutor) -> None:
    door = GroupCommit(store.commit, group_limit=2)
    futures = line_up(door, store, arrivals, threads, 5)
    store.gate.set()
    assert results(futures) == [0, 2, 4, 6, 8, 10]
    assert store.groups == [[0], [1, 2], [3, 4], [5]]
    assert len(set(store.threads)) == 4


def test_a_commit_that_raises_is_raised_to_all_of_its_group_and_to_no_other(
    store: Store, arrivals: Arrivals, threads: ThreadPoolExecutor
) -> None:
    futures = line_up(GroupCommit(store.commit, group_limit=3), store, arrivals, threads, 6)
    trouble = ValueError("disk full")
    store.fails = [trouble]
    store.gate.set()
    assert futures[0].exception(PATIENCE_SECONDS) is trouble
    assert results(futures[1:]) == [2, 4, 6, 8, 10, 12]
    futures = line_up(GroupCommit(store.commit), store, arrivals, threads, 4)
    store.fails = [SystemExit("the leader is asked to go"), trouble]
    store.gate.set()
    assert isinstance(futures[0].exception(PATIENCE_SECONDS), SystemExit)
    assert [future.exception(PATIENCE_SECONDS) for future in futures[1:]] == [trouble] * 4


def test_too_few_answers_leave_nobody_waiting(arrivals: Arrivals) -> None:
    door: GroupCommit[int, int] = GroupCommit(lambda group: [])
    with pytest.raises(ValueError, match="shorter"):
        door.ask(1)
    with pytest.raises(ValueError, match="shorter"):
        door.ask(2)


def test_the_door_is_open_again_after_a_failure(store: Store) -> None:
    door = GroupCommit(store.commit)
    store.fails = [ValueError("disk full")]
    with pytest.raises(ValueError, match="disk full"):
        door.ask(1)
    assert door.ask(2) == 4


def test_too_many_waiting_callers_are_turned_away_at_once(
    store: Store, arrivals: Arrivals, threads: ThreadPoolExecutor
) -> None:
    door = GroupCommit(store.commit, queue_limit=3)
    futures = line_up(door, store, arrivals, threads, 3)
    with pytest.raises(Overloaded, match="3 commands wait already"):
        door.ask(99)
    store.gate.set()
    assert results(futures) == [0, 2, 4, 6]
    assert store.groups == [[0], [1, 2, 3]]
    assert door.ask(5) == 10


def test_thirty_two_threads_hand_the_lead_on_and_each_gets_its_own_answer(
    store: Store, threads: ThreadPoolExecutor
) -> None:
    door = GroupCommit(store.commit, group_limit=7)
    barrier = Barrier(32, timeout=PATIENCE_SECONDS)

    def caller(name: int) -> list[int]:
        barrier.wait()
        return [door.ask(100 * name + n) for n in range(50)]

    answers = [future.result(PATIENCE_SECONDS) for future in [threads.submit(caller, name) for name in range(32)]]
    assert answers == [[2 * (100 * name + n) for n in range(50)] for name in range(32)]
    asked = [n for group in store.groups for n in group]
    assert sorted(asked) == sorted(100 * name + n for name in range(32) for n in range(50))
    assert max(map(len, store.groups)) <= 7
    for name in range(32):
        assert [n for n in asked if n // 100 == name] == [100 * name + n for n in range(50)], "a caller was overtaken"


def test_threads_are_answered_or_told_while_commits_fail_now_and_then(
    store: Store, threads: ThreadPoolExecutor
) -> None:
    door = GroupCommit(store.commit, group_limit=5)
    store.fails = [ValueError(f"trouble {n}") for n in range(40)]
    barrier = Barrier(16, timeout=PATIENCE_SECONDS)

    def caller(name: int) -> list[int]:
        barrier.wait()
        answers = []
        for n in range(50):
            try:
                answers.append(door.ask(n))
            except ValueError:
                answers.append(-n)
        return answers

    answers = [future.result(PATIENCE_SECONDS) for future in [threads.submit(caller, name) for name in range(16)]]
    assert all(answer in (2 * n, -n) for mine in answers for n, answer in enumerate(mine))
    assert store.fails == []
