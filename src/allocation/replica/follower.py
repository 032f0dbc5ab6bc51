"""Follows facts over a transport that may lose, duplicate and reorder them."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from threading import Event as Flag
from threading import Lock

from .facts import BEYOND, Fact, FeedUnavailable, NotAFact, fact_from, message_from
from .feed import MOST_AT_ONCE, Feed, Message
from .marks import Marks
from .rounds import Counts, Round
from .stores import ReplicaStore

MOST_HELD = 10_000
"""How many facts wait in memory for an earlier one; any more are dropped, and `check` finds them missing."""

_log = logging.getLogger(__name__)


class Replica:
    """Applies every fact of every product once, in order of its version, whatever the transport does.

    A missed version shows with the next message of its sku: exactly the missing ones are fetched at once. A lost tail,
    which nothing follows, shows in the numbers of the log: `check` asks for it, `grace_seconds` after it should have
    come. If the feed is unreachable, facts wait for those before them.

    All methods may be called from any thread; one call runs at a time, and this includes its requests to the feed. A
    log that was created anew, or restored from a backup, needs a new replica, because versions already passed would be
    taken for duplicates. The feed reports this (`AnotherLog`) as long as that log is shorter than what was seen.
    """

    def __init__(
        self,
        store: ReplicaStore,
        feed: Feed,
        grace_seconds: float = 2.0,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._feed, self._grace_seconds, self._now = store, feed, grace_seconds, now
        self._lock = Lock()
        self._marks = {partition: Marks.from_text(text) for partition, text in store.marks().items()}
        self._held: dict[str, dict[int, Fact]] = {}
        self._counts = Counts()
        self._began = now()
        self._heard_at: dict[int, float] = {}
        self._heights: deque[tuple[float, dict[int, int]]] = deque()
        self._ask_again_at = self._began
        self._trouble: FeedUnavailable | None = None

    def take(self, message: Message) -> int:
        """Take one message, as the transport gave it. Returns how many facts were applied: none, if it was a duplicate
        or has to wait; several, if some before it had to be fetched.

        Raises `NotAFact`, and what the store raises; pass the message again then, or let `check` find it missing. An
        unreachable feed raises nothing here.
        """
        fact = fact_from(message)
        with self._lock:
            self._heard_at[fact.partition] = self._now()
            round_ = self._begin()
            applied = self._take(fact, round_, by_feed=False)
            return applied + self._write(round_)

    def check(self) -> int:
        """Ask the feed for what should have come and did not. To be called about once a second; costs one request, and
        one more for each run of missing facts. Returns how many facts were applied.

        Raises `FeedUnavailable` if the feed did not answer, and what the store raises: call it again later. Also raises
        `AnotherLog`: calling it again will not help.
        """
        return self._heal(everything=False)

    def catch_up(self) -> int:
        """Fetch everything that is missing, without grace: for the start, so that a first copy comes in pages and not
        product by product. Returns and raises as `check` does."""
        return self._heal(everything=True)

    def counts(self) -> Counts:
        with self._lock:
            return replace(self._counts)

    def run(
        self,
        receive: Callable[[float], Iterable[bytes | Message]],
        stopping: Flag,
        check_seconds: float = 1.0,
        transport_errors: tuple[type[Exception], ...] = (OSError,),
    ) -> None:
        """Catch up, take what `receive(wait_seconds)` gives, and check, until `stopping` is set.

        `receive` gives the messages that arrive, one by one, and ends after `wait_seconds` without one; what it has not
        given when its caller leaves it, it gives at the next call. It is called before the feed is asked, so that the
        transport is listened to by then. A message without a fact, an unreachable feed and errors of the transport are
        logged, and it continues. Raises what the store raises, and `AnotherLog`.
        """
        check_at, heal = self._now(), self.catch_up
        while not stopping.is_set():
            try:
                for message in receive(max(check_at - self._now(), 0.0)):
                    self._take_any(message)
                    if stopping.is_set() or self._now() >= check_at:
                        break
            except transport_errors as error:
                _log.warning("the transport failed: %s", error)
                stopping.wait(check_seconds)
            if self._now() >= check_at:
                heal = self._healed(heal)
                check_at = self._now() + check_seconds

    def _healed(self, heal: Callable[[], int]) -> Callable[[], int]:
        """Call `heal`; returns what to call next time: `heal` again, or `check`, with grace, once it has caught up."""
        try:
            heal()
        except FeedUnavailable:
            return heal  # already logged
        return self.check

    def _take_any(self, message: bytes | Message) -> None:
        try:
            self.take(message_from(message) if isinstance(message, bytes) else message)
        except NotAFact as refused:
            with self._lock:
                self._counts.refused += 1
            _log.warning("a message was ignored: %s", refused)

    # One fact

    def _take(self, fact: Fact, round_: Round, by_feed: bool) -> int:
        """Returns how many facts had to be written at once to keep memory bounded."""
        applied = 0
        if fact.version > round_.version(fact.sku) + 1:
            self._counts.gaps += 1
            applied += self._fill(fact.sku, fact.version - 1, round_)
        ahead = fact.version - round_.version(fact.sku)
        if ahead == 1:
            round_.put(fact, by_feed)
            self._let_go(fact.sku, round_)
        elif ahead <= 0:
            self._counts.duplicates += not by_feed
            if by_feed or fact.partition in round_.marks:  # otherwise it names a partition that its product is not in
                round_.see(fact)
        elif not by_feed:  # what the feed gave, it gives again
            self._hold(fact)
        return applied

    def _fill(self, sku: str, until: int, round_: Round) -> int:
        """Fetch a product's missing facts up to a version, and nothing else."""
        applied = 0
        while (known := round_.version(sku)) < until:
            next_held = min((v for v in self._held.get(sku, ()) if v > known), default=until + 1)
            missing = min(next_held - 1, until) - known
            if missing:
                page = self._ask(self._feed.behind_version, sku, known, min(missing, MOST_AT_ONCE))
                for fact in page:
                    if fact.sku == sku and fact.version == round_.version(sku) + 1:
                        round_.put(fact, by_feed=True)
            self._let_go(sku, round_)
            if round_.version(sku) == known:
                return applied  # the feed is unreachable, or has not come so far itself
            applied += self._write(round_, MOST_AT_ONCE)
        return applied

    def _hold(self, fact: Fact) -> None:
        if sum(map(len, self._held.values())) < MOST_HELD:
            self._held.setdefault(fact.sku, {})[fact.version] = fact

    def _let_go(self, sku: str, round_: Round) -> None:
        """Apply the facts that waited for the present version, and drop those that it has passed."""
        waiting = self._held.get(sku)
        while waiting:
            first = min(waiting)
            if first > round_.version(sku) + 1:
                return
            fact = waiting.pop(first)
            if first > round_.version(sku):
                round_.put(fact, by_feed=False)
        self._held.pop(sku, None)

    # What no message reported

    def _heal(self, everything: bool) -> int:
        with self._lock:
            now = self._now()
            self._ask_again_at, self._trouble = now, None
            round_ = self._begin()
            applied = 0
            for sku in list(self._held):
                applied += self._fill(sku, min(self._held[sku]) - 1, round_)
            for partition, until in self._overdue(now, everything).items():
                applied += self._fill_holes(partition, until, round_)
            applied += self._fetch_tail(now, everything, round_)
            applied += self._write(round_)
            self._heights.append((now, {partition: marks.highest for partition, marks in self._marks.items()}))
            if self._trouble is not None:
                raise self._trouble
            return applied

    def _overdue(self, now: float, everything: bool) -> Mapping[int, int]:
        """By partition, up to which number everything should have come: the highest one seen `grace_seconds` ago."""
        if everything:
            self._heights.clear()
            return {partition: marks.highest for partition, marks in self._marks.items()}
        heights: dict[int, int] = {}
        while self._heights and self._heights[0][0] <= now - self._grace_seconds:
            heights = self._heights.popleft()[1]
        return heights

    def _fill_holes(self, partition: int, until: int, round_: Round) -> int:
        applied, behind = 0, 0
        while hole := round_.marks[partition].hole(behind, min(until, round_.marks[partition].highest)):
            first, last = hole
            only_here = dict.fromkeys(round_.marks, BEYOND) | {partition: first - 1}
            page = self._ask(self._feed.behind, only_here, min(last - first + 1, MOST_AT_ONCE))
            for fact in page:
                applied += self._take(fact, round_, by_feed=True)
            applied += self._write(round_, MOST_AT_ONCE)
            behind = max((fact.seq for fact in page if fact.partition == partition), default=0)
            if behind < first:
                return applied
        return applied

    def _fetch_tail(self, now: float, everything: bool, round_: Round) -> int:
        """Fetch what follows the highest number, in partitions that have been quiet; in others it is probably on its
        way."""

        def is_quiet(partition: int) -> bool:
            return everything or now - self._heard_at.get(partition, self._began) >= self._grace_seconds

        if not (everything or now - self._began >= self._grace_seconds):
            return 0
        applied = 0
        behind = {p: marks.highest if is_quiet(p) else BEYOND for p, marks in round_.marks.items()}
        while page := self._ask(self._feed.behind, behind, MOST_AT_ONCE):
            for fact in page:
                applied += self._take(fact, round_, by_feed=True)
            applied += self._write(round_, MOST_AT_ONCE)
            behind |= {fact.partition: fact.seq for fact in page}
            if len(page) < MOST_AT_ONCE:
                break
        return applied

    # Feed and store

    def _ask(self, question: Callable[..., Sequence[Message]], *what: object) -> Sequence[Fact]:
        """What the feed answers; nothing if it is unreachable, and for a while afterwards."""
        if self._now() < self._ask_again_at:
            return []
        self._counts.questions += 1
        try:
            facts = list(_facts(question(*what)))
        except FeedUnavailable as away:
            self._counts.unanswered += 1
            self._ask_again_at, self._trouble = self._now() + self._grace_seconds, away
            _log.warning("%s", away)
            return []
        self._counts.fetched += len(facts)
        return facts

    def _begin(self) -> Round:
        return Round(self._store, dict(self._marks))

    def _write(self, round_: Round, if_as_many_as: int = 0) -> int:
        """Write what has gathered, if it is at least so many facts. Returns how many were written."""
        if len(round_.facts) < if_as_many_as or not (round_.facts or round_.touched):
            return 0
        self._store.write(round_.facts, {p: round_.marks[p].text() for p in sorted(round_.touched)})
        written = len(round_.facts)
        self._counts.by_feed += round_.by_feed
        self._counts.by_transport += written - round_.by_feed
        self._marks = dict(round_.marks)
        round_.facts, round_.by_feed, round_.touched = [], 0, set()
        return written


def _facts(messages: Sequence[Message]) -> Iterator[Fact]:
    for message in messages:
        try:
            yield fact_from(message)
        except NotAFact as error:
            raise FeedUnavailable(f"the feed returned something that is not a fact: {error}") from error
