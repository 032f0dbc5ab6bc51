"""One long load on one database, and fault after fault: processes killed at named points, servers stopped, a worker
held up for longer than its lease. Everybody who dies is started again; at the end all is judged by the oracles.
"""

import random
import signal
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from tests.e2e.crowd import UNAVAILABLE, Crowd
from tests.e2e.promises import assert_expected, assert_true
from tests.e2e.shoppers import Shop, crowd_of, stock_up
from tests.e2e.truth import Tables, assert_sound, faults_of_feed
from tests.faults.destinations import Listener, Postbox
from tests.faults.oracle import (
    QUERIES,
    await_head,
    faults_after_the_commit,
    faults_of_mail,
    faults_of_told_lines,
    lagging,
    read_after_the_commit,
    rows,
)
from tests.faults.programs import Web, Worker
from tests.faults.trigger import AFTER_COMMIT, BEFORE_COMMIT, BEFORE_CURSOR, Trigger, point
from tests.servers.postgres import PrivatePostgres
from tests.servers.redis import PrivateRedis

SKUS = [f"SHELF-{n}" for n in range(40)]
CLIENTS, THREADS = 64, 32  # in all processes of the service
LEAST_IN_FLIGHT = 16
LEASE_SECONDS = 1.0
MOST_ANSWERS_BEFORE, MOST_ANSWERS_AFTER = 150, 100
UNAVAILABLE_WHILE_STOPPED = 16
PATIENCE_SECONDS = 90.0
_LOOK_SECONDS = 0.02

PROJECTIONS = ["count_movements", "project_stock_levels"]
OUTSIDE = ["publish_allocated_event", "send_out_of_stock_notification"]
REDIS_KILLED, POSTGRES_STOPPED, WORKER_HELD_UP = "Redis, killed", "PostgreSQL, stopped at once", "worker, SIGSTOP"

Fault = Callable[[], float]
"""Lets something break while the crowd goes on; answers when it did (`time.monotonic`)."""


@dataclass
class Tally:
    """The faults of one kind: how many commands were in flight at each."""

    in_flight: list[int] = field(default_factory=list)

    @property
    def counted(self) -> list[int]:
        """A fault that caught fewer commands is made up for by another."""
        return [n for n in self.in_flight if n >= LEAST_IN_FLIGHT]


class Campaign:
    """`web` with `workers` beside it (none: it delivers by itself), on the database at `url`. What stands in `faults`
    can be asked for; `wage` does as many of each as it is told."""

    def __init__(self, name: str, url: str, stack: ExitStack, folder: Path, seed: int, workers: int) -> None:
        self.name, self.url, self.rng = name, url, random.Random(f"{seed}-{name}")
        self.trigger = Trigger(folder)
        self.postbox = stack.enter_context(Postbox())
        self.redis = stack.enter_context(PrivateRedis(durable=True))
        self.listener = stack.enter_context(Listener(self.redis.url, "line_allocated"))
        settings = {"smtp_url": self.postbox.url, "redis_url": self.redis.url, "lease_seconds": LEASE_SECONDS}
        processes = max(1, workers)
        self.web = Web(url, folder, workers=processes, threads=THREADS // processes, **settings)
        self.workers = [Worker(url, folder, **settings) for _ in range(workers)]
        self.programs = [self.web, *self.workers]
        self.tallies: dict[str, Tally] = {}
        self.postgres: PrivatePostgres | None = None
        for program in self.programs:
            stack.enter_context(program)
        self._is_over = False
        self.shop = Shop(SKUS, lambda: self._is_over, keyed=0.8)
        assert Crowd(self.web.port, [stock_up(self.shop, SKUS, 1, 200)]).run()
        self.crowd = Crowd(self.web.port, crowd_of(self.shop, CLIENTS, self.rng.randrange(1_000_000)))

    @property
    def faults(self) -> dict[str, Fault]:
        """By name, as they stand in the table."""
        there: dict[str, Fault] = {point("web", at): self._killed("web", at) for at in (BEFORE_COMMIT, AFTER_COMMIT)}
        there |= {
            point("worker", at): self._killed("worker", at) for at in (BEFORE_COMMIT, AFTER_COMMIT, BEFORE_CURSOR)
        }
        there[REDIS_KILLED] = self._redis_killed
        if self.postgres is not None:
            there[POSTGRES_STOPPED] = self._postgres_stopped
        if len(self.workers) > 1:
            there[WORKER_HELD_UP] = self._worker_held_up
        return there

    def wage(self, each: int, progress: Callable[[str], None] = lambda line: None) -> None:
        """So many faults of each kind, in an order of chance, and as many more as caught too few commands in flight."""
        due = [name for name in self.faults for _ in range(each)]
        self.rng.shuffle(due)
        most = 2 * len(due)
        while due:
            name = due.pop()
            in_flight = self._strike(self.faults[name])
            tally = self.tallies.setdefault(name, Tally())
            tally.in_flight.append(in_flight)
            if in_flight < LEAST_IN_FLIGHT:
                due.insert(self.rng.randrange(len(due) + 1), name)
            done = sum(len(t.in_flight) for t in self.tallies.values())
            assert done <= most, f"the load is too low:\n{self.table()}"
            progress(f"{self.name}: {done} faults, {len(due)} to go; last: {name}, {in_flight} commands in flight")
        self._is_over = True
        assert self.crowd.run(), "the service hung up on somebody"

    def _strike(self, fault: Fault) -> int:
        """How many commands were in flight."""
        begin = len(self.crowd.journal)
        _, moment = self.crowd.run_while(fault)
        for program in self.programs:
            program.await_work()
        if self.rng.random() < 0.5:  # else it strikes again in the middle of the recovery
            await_head(self.url)
        return self.crowd.in_flight(moment, begin)

    # What can break. Each runs beside the crowd.

    def _killed(self, role: str, moment: str) -> Fault:
        def fault() -> float:
            subscription = self.rng.choice(PROJECTIONS + OUTSIDE) if role == "worker" else ""
            self._answers(self.rng.randint(1, MOST_ANSWERS_BEFORE))
            self.trigger.arm(point(role, moment, subscription))
            strike = self.trigger.await_strike()
            struck = self._of_group(strike.group)
            struck.await_death()
            struck.launch()
            if struck is not self.web:  # else nobody has a connection any more
                self._answers(self.rng.randint(0, MOST_ANSWERS_AFTER))
                self.crowd.rest()
            return strike.at

        return fault

    def _redis_killed(self) -> float:
        self._answers(self.rng.randint(1, MOST_ANSWERS_BEFORE))
        moment = time.monotonic()
        self.redis.kill()
        self._answers(self.rng.randint(1, MOST_ANSWERS_AFTER))
        self.redis.start()
        self._answers(self.rng.randint(0, MOST_ANSWERS_AFTER))
        self.crowd.rest()
        return moment

    def _postgres_stopped(self) -> float:
        assert self.postgres is not None
        self._answers(self.rng.randint(1, MOST_ANSWERS_BEFORE))
        noticed = self.crowd.unavailable
        moment = time.monotonic()
        self.postgres.kill()
        self.crowd.wait_until(lambda: self.crowd.unavailable >= noticed + UNAVAILABLE_WHILE_STOPPED)
        self.crowd.rest()
        self.postgres.start()
        return moment

    def _worker_held_up(self) -> float:
        """Stopped between a delivery and the cursor, until another has taken over and passed it; then it goes on."""
        subscription = self.rng.choice(PROJECTIONS + OUTSIDE)
        self._answers(self.rng.randint(1, MOST_ANSWERS_BEFORE))
        self.trigger.arm(point("worker", BEFORE_CURSOR, subscription), signal.SIGSTOP)
        strike = self.trigger.await_strike()
        stopped = self._of_group(strike.group)
        self._answers(self.rng.randint(0, MOST_ANSWERS_AFTER))
        self.crowd.rest()
        await_overtaken(self.url, subscription)
        fenced = f"{subscription}, partition 0: another worker took over"
        said = stopped.words().count(fenced)
        stopped.go_on()
        stopped.await_words(fenced, said + 1)
        return strike.at

    def _answers(self, more: int) -> None:
        """Let the crowd have so many more."""
        enough = self.crowd.answers + more
        self.crowd.wait_until(lambda: self.crowd.answers >= enough)

    def _of_group(self, group: int) -> Web:
        [struck] = [program for program in self.programs if program.group == group]
        return struck

    # What must be so afterwards.

    def judge(self) -> None:
        """Raises `AssertionError` with what is wrong."""
        await_head(self.url)
        tables = assert_sound(self.url)
        assert_expected(self.crowd.journal, None, UNAVAILABLE)
        assert_true(self.crowd.journal, tables)
        faults = faults_of_feed(self.shop.feed, tables)
        faults += faults_after_the_commit(tables, read_after_the_commit(self.url))
        faults += faults_of_mail(self.postbox.message_ids, tables)
        faults += faults_of_told_lines(self.listener.heard, tables)
        assert not faults, f"{len(faults)} faults:\n" + "\n".join(faults[:20])

    def table(self) -> str:
        """Each kind of fault: how often, and how many commands were in flight."""
        lines = []
        for name, tally in sorted(self.tallies.items()):
            counted = tally.counted or [0]
            lines.append(
                f"{self.name:<10} {name:<52} {len(tally.counted):>4} faults, commands in flight: at least "
                f"{min(counted)}, median {statistics.median(counted):.0f}"
                f" ({len(tally.in_flight) - len(tally.counted)} more with fewer)"
            )
        return "\n".join(lines)


@contextmanager
def embedded(folder: Path, seed: int) -> Iterator[Campaign]:
    """One process on SQLite, which serves and delivers."""
    with ExitStack() as stack:
        yield Campaign("embedded", f"sqlite:///{folder / 'allocation.db'}", stack, folder, seed, workers=0)


@contextmanager
def large(folder: Path, seed: int) -> Iterator[Campaign]:
    """Two processes that serve, two that deliver, on PostgreSQL."""
    with ExitStack() as stack:
        postgres = stack.enter_context(PrivatePostgres(durable=True))
        campaign = Campaign("large", postgres.create_database(), stack, folder, seed, workers=2)
        campaign.postgres = postgres
        yield campaign
