"""Fork-join: no product is in two parts, everyone gets their own answer, and nothing is at work when it is over."""

from __future__ import annotations

import signal
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, count
from threading import Barrier, Event, Lock, Semaphore, get_ident

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allocation.domain.commands import Allocate, ChangeBatchEta, Command, CreateBatch, Deallocate
from allocation.service_layer.answers import Answer
from allocation.service_layer.envelope import CommandEnvelope, LogPosition
from allocation.service_layer.errors import Unavailable
from allocation.service_layer.fork_join import FEWEST, ForkJoin
from allocation.service_layer.observing import CORRELATION, correlated
from tests.fakes import NOON
from tests.thoroughness import examples

PATIENCE_SECONDS = 30


class Store:
    """Answers each command by its number, once `before` was called with its part."""

    def __init__(self, before: Callable[[Sequence[CommandEnvelope]], object] = lambda part: None) -> None:
        self.before = before
        self.parts: list[Sequence[CommandEnvelope]] = []
        self.threads: set[int] = set()
        self._lock = Lock()

    def send(self, part: Sequence[CommandEnvelope]) -> list[Answer]:
        self.before(part)
        with self._lock:
            self.parts.append(part)
            self.threads.add(get_ident())
        return [answer_to(envelope) for envelope in part]

    def skus(self) -> list[set[str]]:
        """Of each part that was handled."""
        return [{envelope.command.sku for envelope in part} for part in self.parts]  # type: ignore[union-attr]  # have one


def answer_to(envelope: CommandEnvelope) -> Answer:
    return Answer(position=LogPosition(0, int(envelope.id)))


def enveloped(commands: Sequence[Command]) -> list[CommandEnvelope]:
    return [CommandEnvelope(command, str(n), NOON, "import-1") for n, command in enumerate(commands)]


def ordered(*skus: str) -> list[CommandEnvelope]:
    return enveloped([Allocate(f"o-{n}", sku, 1) for n, sku in enumerate(skus)])


def tables_and_chairs(how_many: int = FEWEST) -> list[CommandEnvelope]:
    """By turns: they are one part each."""
    return ordered(*(("TABLE", "CHAIR")[n % 2] for n in range(how_many)))


@contextmanager
def at_once(width: int, before: Callable[[Sequence[CommandEnvelope]], object]) -> Iterator[tuple[Store, ForkJoin]]:
    store = Store(before)
    fork_join = ForkJoin(store.send, width, 1000)
    yield store, fork_join


# --- how a group is divided -----------------------------------------------------------------------------------------

GROUPS = st.lists(
    st.tuples(st.sampled_from([Allocate, Deallocate, CreateBatch]), st.integers(0, 12)), min_size=FEWEST, max_size=150
)


@examples(60)
@given(kinds=GROUPS, width=st.integers(2, 8), size=st.integers(10, 80))
def test_products_stay_whole_and_in_order_and_everyone_gets_their_own_answer(
    kinds: list[tuple[type, int]], width: int, size: int
) -> None:
    commands: list[Command] = []
    for n, (kind, product) in enumerate(kinds):
        sku = f"SKU-{product}"
        commands.append(Deallocate(f"o-{n}", sku) if kind is Deallocate else kind(f"new-{n}", sku, 1))
    store, group = Store(), enveloped(commands)
    fork_join = ForkJoin(store.send, width, size)
    answers = fork_join(group)
    assert answers == [answer_to(envelope) for envelope in group]
    most = next(parts for parts in count(width, width) if parts * size >= len(group))
    assert len(store.parts) == min(most, len({product for _, product in kinds})), "none is empty"
    assert sum(map(len, store.skus())) == len(set().union(*store.skus())), "a product is in two parts"
    for part in store.parts:
        numbers = [int(envelope.id) for envelope in part]
        assert numbers == sorted(numbers), "one has overtaken another"
    assert sorted(int(e.id) for e in chain.from_iterable(store.parts)) == list(range(len(group)))


def test_parts_are_as_equal_as_products_allow_and_always_the_same() -> None:
    pieces = {"A": 50, "B": 40, "C": 30, "D": 20, "E": 10}
    for _ in range(3):
        store = Store()
        fork_join = ForkJoin(store.send, 2, 1000)
        fork_join(ordered(*Counter(pieces).elements()))
        assert sorted(map(sorted, store.skus())) == [["A", "D", "E"], ["B", "C"]]


NO_PRODUCT = ChangeBatchEta("batch-1", None)
ONE_REFERENCE = [CreateBatch("batch-1", "CHAIR", 1), CreateBatch("batch-1", "TABLE", 1)]


@pytest.mark.parametrize(
    ("group", "width"),
    [
        pytest.param([], 2, id="nothing"),
        pytest.param(tables_and_chairs(FEWEST - 1), 2, id="few"),
        pytest.param(tables_and_chairs(), 1, id="one at a time"),
        pytest.param(ordered(*["CHAIR"] * FEWEST), 2, id="one product"),
        pytest.param(enveloped([e.command for e in tables_and_chairs()] + [NO_PRODUCT]), 2, id="names no product"),
        pytest.param(enveloped([*(e.command for e in tables_and_chairs()), *ONE_REFERENCE]), 2, id="one reference"),
    ],
)
def test_what_cannot_be_divided_goes_as_it_is_and_in_the_callers_thread(
    group: list[CommandEnvelope], width: int
) -> None:
    store = Store()
    fork_join = ForkJoin(store.send, width, 1000)
    assert fork_join(group) == [answer_to(envelope) for envelope in group]
    assert (store.parts, store.threads) == ([group], {get_ident()})


def test_a_reference_that_comes_again_with_its_product_is_no_obstacle() -> None:
    group = enveloped([CreateBatch(f"batch-{n % 10}", f"SKU-{n % 10}", 1) for n in range(FEWEST)])
    store = Store()
    fork_join = ForkJoin(store.send, 2, 1000)
    fork_join(group)
    assert list(map(len, store.parts)) == [FEWEST // 2, FEWEST // 2]


# --- at once --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [2, 3, 8])
def test_as_many_parts_as_were_asked_for_are_at_work_at_the_same_time(width: int) -> None:
    meeting = Barrier(width)
    with at_once(width, lambda part: meeting.wait(PATIENCE_SECONDS)) as (store, fork_join):
        for _ in range(3):
            store.threads.clear()  # those of a group are gone after it, and their numbers given out again or not
            group = ordered(*(f"SKU-{n % width}" for n in range(FEWEST)))
            assert fork_join(group) == [answer_to(envelope) for envelope in group]
            assert len(store.threads) == width


def test_no_more_parts_are_at_work_than_were_asked_for_however_many_there_are() -> None:
    at_work = Semaphore(2)

    def before(part: Sequence[CommandEnvelope]) -> None:
        assert at_work.acquire(blocking=False), "a third one"
        time.sleep(0.01)  # long enough to meet another
        at_work.release()

    store, group = Store(before), ordered(*(f"SKU-{n % 20}" for n in range(200)))
    fork_join = ForkJoin(store.send, 2, 10)
    assert fork_join(group) == [answer_to(envelope) for envelope in group]
    assert [len(part) for part in store.parts] == [10] * 20


@pytest.mark.parametrize(("at_once", "best"), [(1, 50), (2, 400), (3, 600)])
def test_the_best_group_gives_each_thread_several_turns(at_once: int, best: int) -> None:
    fork_join = ForkJoin(Store().send, at_once, 50)
    assert fork_join.best_group == best


def test_what_is_logged_in_any_part_is_still_about_what_the_caller_does() -> None:
    told: list[str] = []

    def before(part: Sequence[CommandEnvelope]) -> None:
        correlation = CORRELATION.get()
        told.append(correlation() if correlation else "nothing")

    with at_once(2, before) as (_, fork_join), correlated("request-1"):
        fork_join(tables_and_chairs())
    assert told == ["request-1", "request-1"]


# --- failures -------------------------------------------------------------------------------------------------------


def is_of(sku: str, part: Sequence[CommandEnvelope]) -> bool:
    return part[0].command.sku == sku  # type: ignore[union-attr]  # these have one


@pytest.mark.parametrize("failure", [Unavailable("away"), ValueError("a bug"), KeyboardInterrupt()])
@pytest.mark.parametrize("failing", ["TABLE", "CHAIR"])
def test_who_fails_is_told_once_the_others_are_done(failing: str, failure: BaseException) -> None:
    both_are_at_work = Barrier(2)

    def before(part: Sequence[CommandEnvelope]) -> None:
        both_are_at_work.wait(PATIENCE_SECONDS)
        if is_of(failing, part):
            raise failure
        time.sleep(0.1)  # long enough for one who does not wait to be gone

    with at_once(2, before) as (store, fork_join):
        with pytest.raises(type(failure)) as raised:
            fork_join(tables_and_chairs())
        assert raised.value is failure
        assert [len(part) for part in store.parts] == [FEWEST // 2], "the other was at work still, or was not done"
        store.before = lambda part: None
        assert len(fork_join(tables_and_chairs())) == FEWEST, "the next group is handled as ever"


@pytest.mark.parametrize("failure", [Unavailable("away"), KeyboardInterrupt()])
def test_after_a_failure_or_ctrl_c_those_at_work_end_and_the_others_are_left(
    failure: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    caller, both_are_at_work, begun, none_is_left = get_ident(), Barrier(2), [], Event()

    class Parts(deque[object]):
        def clear(self) -> None:
            super().clear()
            none_is_left.set()

    def before(part: Sequence[CommandEnvelope]) -> None:
        begun.append(part)
        if len(begun) > 2:
            return
        if both_are_at_work.wait(PATIENCE_SECONDS) == 0:
            if isinstance(failure, Unavailable):
                raise failure
            signal.pthread_kill(caller, signal.SIGINT)
            while not none_is_left.wait(1):  # it came in the moment before the caller waits, and woke nobody
                signal.pthread_kill(caller, signal.SIGINT)
        assert none_is_left.wait(PATIENCE_SECONDS)

    monkeypatch.setattr("allocation.service_layer.fork_join.deque", Parts)
    store = Store(before)
    fork_join = ForkJoin(store.send, 2, 10)
    with pytest.raises(type(failure)):
        fork_join(ordered(*(f"SKU-{n % 20}" for n in range(200))))
    ended = len(store.parts) + isinstance(failure, Unavailable)
    assert ended == len(begun) == 2, "of 20"


def test_of_several_failures_the_first_part_s_is_told() -> None:
    def before(part: Sequence[CommandEnvelope]) -> None:
        raise Unavailable(part[0].command.sku)  # type: ignore[union-attr]  # these have one

    with at_once(2, before) as (_, fork_join), pytest.raises(Unavailable, match="TABLE"):
        fork_join(tables_and_chairs())
