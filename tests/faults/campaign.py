"""One long load on one database, and fault after fault: processes killed at named points, servers stopped, a worker
held up for longer than its lease. Everybody who dies is started again; at the end all is judged by the oracles.
"""

import random
import signal
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.e2e.crowd import UNAVAILABLE, Crowd
from tests.e2e.promises import assert_expected, assert_true
from tests.e2e.shoppers import Shop, crowd_of, stock_up
from tests.e2e.truth import assert_sound, faults_of_feed
from tests.faults.destinations import Listener, Postbox
from tests.faults.oracle import (
    assert_none,
    await_head,
    await_overtaken,
    cursor_of,
    faults_after_the_commit,
    faults_of_commands,
    faults_of_facts,
    faults_of_mail,
    faults_of_told_levels,
    faults_of_told_lines,
    read_after_the_commit,
    rows,
)
from tests.faults.programs import Consumer, Web, Worker
from tests.faults.streams import Reader, Sender, last_levels
from tests.faults.trigger import (
    AFTER_COMMIT,
    BEFORE_ACKNOWLEDGEMENT,
    BEFORE_COMMIT,
    BEFORE_CURSOR,
    Trigger,
    point,
)
from tests.servers.postgres import PrivatePostgres
from tests.servers.redis import PrivateRedis

SKUS = [f"SHELF-{n}" for n in range(40)]
CLIENTS, THREADS = 64, 32  # in all processes of the service
LEAST_IN_FLIGHT = 16
LEASE_SECONDS = 1.0
MOST_ANSWERS_BEFORE, MOST_ANSWERS_AFTER = 300, 150
COMMANDS_AT_ONCE = 100
CALM = 0.5
UNAVAILABLE_WHILE_STOPPED = 16
PATIENCE_SECONDS = 90.0
_LOOK_SECONDS = 0.02

COUNTING, LEVELS = "count_movements", "project_stock_levels"
REDIS_KILLED, POSTGRES_STOPPED, WORKER_HELD_UP = "Redis, killed", "PostgreSQL, stopped at once", "worker, SIGSTOP"

Fault = Callable[[], float]
"""Lets something break while the crowd goes on; answers when it did (`time.monotonic`)."""


class Campaign:
    """A service with `workers` beside it (none: it delivers by itself) and consumers, on the database at `url`, and all
    that is around them. `wage` does faults, `judge` says whether all is well, `report` what happened."""

    def __init__(
        self, name: str, url: str, stack: ExitStack, folder: Path, seed: int, workers: int, consumers: int
    ) -> None:
        self.name, self.url, self.rng = name, url, random.Random(f"{seed}-{name}")
        self.trigger = Trigger(folder)
        self.postgres: PrivatePostgres | None = None
        self.redis = stack.enter_context(PrivateRedis(durable=True))
        self.postbox = stack.enter_context(Postbox())
        self.listener = stack.enter_context(Listener(self.redis.url, "line_allocated"))
        self.reader = stack.enter_context(Reader(self.redis.url, random.Random(f"{seed}-reader")))
        self.sender = Sender(self.redis.url, random.Random(f"{seed}-sender"))
        streams = f"{self.redis.url.replace('redis:', 'redis+streams:')}?lease_seconds={LEASE_SECONDS}"
        settings = {"redis_url": self.redis.url, "publish_to": streams, "receive_from": streams}
        settings |= {"smtp_url": self.postbox.url, "lease_seconds": LEASE_SECONDS}
        processes = max(1, workers)
        self.web = Web(url, folder, workers=processes, threads=THREADS // processes, **settings)
        self.workers = [Worker(url, folder, **settings) for _ in range(workers)]
        self.consumers = [Consumer(url, folder, **settings) for _ in range(consumers)]
        self.programs = [self.web, *self.workers, *self.consumers]
        for program in self.programs:
            stack.callback(program.close)
        self._start()
        self._is_over = False
        self.shop = Shop(SKUS, lambda: self._is_over, keyed=0.8)
        assert Crowd(self.web.port, [stock_up(self.shop, SKUS, 1, 200)]).run()
        self.crowd = Crowd(self.web.port, crowd_of(self.shop, CLIENTS, self.rng.randrange(1_000_000)))
        self.subscriptions = [row["name"] for row in rows(url, "SELECT name FROM subscriptions ORDER BY name")]
        self.in_flight: dict[str, list[int]] = {name: [] for name in self.faults}

    def _start(self) -> None:
        """The service first, which makes the tables; then the others, all at once."""
        self.web.start()
        for program in self.programs[1:]:
            program.launch()
        for program in self.programs[1:]:
            program.await_work()

    @property
    def faults(self) -> dict[str, Fault]:
        """By name, as they stand in the report."""
        deaths = [("web", at) for at in (BEFORE_COMMIT, AFTER_COMMIT)]
        deaths += [("worker", at) for at in (BEFORE_COMMIT, AFTER_COMMIT, BEFORE_CURSOR)]
        there: dict[str, Fault] = {point(role, at): self._killed(role, at) for role, at in deaths}
        if self.consumers:
            for at in (BEFORE_COMMIT, AFTER_COMMIT, BEFORE_ACKNOWLEDGEMENT):
                there[point("consumer", at)] = self._consumer_killed(at)
        there[REDIS_KILLED] = self._redis_killed
        if self.postgres is not None:
            there[POSTGRES_STOPPED] = self._postgres_stopped
        if len(self.workers) > 1:
            there[WORKER_HELD_UP] = self._worker_held_up
        return there

    def wage(self, each: int, progress: Callable[[str], None]) -> None:
        """So many faults of each kind, in an order of chance. One that catches too few commands in flight is made up
        for by another."""
        faults = self.faults
        due = [name for name in faults for _ in range(each)]
        self.rng.shuffle(due)
        for number in range(1, 2 * len(due) + 1):
            name = due.pop()
            in_flight = self._strike(faults[name])
            self.in_flight.setdefault(name, []).append(in_flight)
            if in_flight < LEAST_IN_FLIGHT:
                due.insert(self.rng.randrange(len(due) + 1), name)
            progress(f"{self.name}: {number} faults, {len(due)} to go; {name}, {in_flight} commands in flight")
            if not due:
                break
        assert not due, f"the load is too low:\n{self.report()}"
        self._is_over = True
        assert self.crowd.run(), "the service hung up on somebody"

    def _strike(self, fault: Fault) -> int:
        """How many commands were in flight."""
        begin = len(self.crowd.journal)
        self._caught: int | None = None
        _, moment = self.crowd.run_while(fault)
        for program in self.programs:
            program.await_work()
        if self.rng.random() < CALM:  # else the next one strikes in the middle of the recovery
            await_head(self.url)
        return self.crowd.in_flight(moment, begin) if self._caught is None else self._caught

    # What can break. Each runs beside the crowd.

    def _killed(self, role: str, moment: str) -> Fault:
        def fault() -> float:
            self._load()
            self.trigger.arm(point(role, moment, self.rng.choice(self.subscriptions) if role == "worker" else ""))
            strike = self.trigger.await_strike()
            struck = self._of_group(strike.group)
            struck.await_death()
            struck.launch()
            if struck is not self.web:  # else nobody has a connection any more
                self._answers(self.rng.randint(0, MOST_ANSWERS_AFTER))
                self.crowd.rest()
            return strike.at

        return fault

    def _consumer_killed(self, moment: str) -> Fault:
        """In flight is what then is in the streams, unread or not acknowledged."""

        def fault() -> float:
            self._load()
            self.trigger.arm(point("consumer", moment))
            self.sender.send(COMMANDS_AT_ONCE, self.shop.batches)
            strike = self.trigger.await_strike()
            struck = self._of_group(strike.group)
            struck.await_death()
            self._caught = self.sender.waiting()
            struck.launch()
            self._answers(self.rng.randint(0, MOST_ANSWERS_AFTER))
            self.crowd.rest()
            return strike.at

        return fault

    def _redis_killed(self) -> float:
        self._load()
        moment = time.monotonic()
        self.redis.kill()
        self._answers(self.rng.randint(1, MOST_ANSWERS_AFTER))
        self.redis.start()
        self._answers(self.rng.randint(0, MOST_ANSWERS_AFTER))
        self.crowd.rest()
        return moment

    def _postgres_stopped(self) -> float:
        assert self.postgres is not None
        self._load()
        noticed = self.crowd.unavailable
        moment = time.monotonic()
        self.postgres.kill()
        self.crowd.wait_until(lambda: self.crowd.unavailable >= noticed + UNAVAILABLE_WHILE_STOPPED)
        self.crowd.rest()
        self.postgres.start()
        return moment

    def _worker_held_up(self) -> float:
        """Stopped between a delivery and the cursor, until another has taken over and passed it; then it goes on. One
        with a read model to write tries to, and says that it may not; another may just see that its lease is gone."""
        subscription = self.rng.choice([COUNTING, LEVELS, *self.subscriptions])
        self._load()
        self.trigger.arm(point("worker", BEFORE_CURSOR, subscription), signal.SIGSTOP)
        strike = self.trigger.await_strike()
        before = cursor_of(self.url, subscription)
        stopped = self._of_group(strike.group)
        self._answers(self.rng.randint(0, MOST_ANSWERS_AFTER))
        self.crowd.rest()
        await_overtaken(self.url, before)
        fenced = f"{subscription}, partition 0: another worker took over"
        said = stopped.words().count(fenced)
        stopped.go_on()
        if subscription in (COUNTING, LEVELS):
            assert stopped.says(fenced, said + 1), stopped.words()[-2_000:]
        return strike.at

    def _load(self) -> None:
        """Let orders and changes come in, for a while of chance."""
        if self.consumers:
            self.sender.send(self.rng.randint(1, COMMANDS_AT_ONCE), self.shop.batches)
        self._answers(self.rng.randint(1, MOST_ANSWERS_BEFORE))

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
        self._drain()
        tables = assert_sound(self.url)
        assert_expected(self.crowd.journal, None, UNAVAILABLE)
        assert_true(self.crowd.journal, tables)
        faults = [
            *faults_of_feed(self.shop.feed, tables),
            *faults_after_the_commit(tables, read_after_the_commit(self.url)),
            *faults_of_facts(self.reader.seen, tables),
            *faults_of_told_levels(last_levels(self.redis.url), tables),
            *faults_of_told_lines(self.listener.heard, tables),
            *faults_of_mail(self.postbox.message_ids, tables),
            *faults_of_commands(self.sender.sent, tables),
        ]
        assert_none(faults)

    def _drain(self) -> None:
        """Until all commands are handled, all events delivered, and all facts read."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self.consumers and self.sender.waiting() and time.monotonic() < deadline:
            time.sleep(_LOOK_SECONDS)
        await_head(self.url)
        events = sum(row["seq"] for row in rows(self.url, "SELECT seq FROM log_head"))
        while len({fact.id for fact in self.reader.seen}) < events and time.monotonic() < deadline:
            time.sleep(_LOOK_SECONDS)

    def report(self) -> str:
        """Each kind of fault: how often, how many commands were in flight. What went through, and what came twice."""
        lines = [f"{self.name}:", f"{'':<48}{'deaths':>7}{'in flight, least':>18}{'median':>8}{'(not counted)':>15}"]
        total = 0
        for name, found in sorted(self.in_flight.items()):
            counted = [n for n in found if n >= LEAST_IN_FLIGHT]
            total += len(counted)
            least, median = (min(counted), f"{statistics.median(counted):.0f}") if counted else ("-", "-")
            lines.append(f"{name:<48}{len(counted):>7}{least:>18}{median:>8}{len(found) - len(counted):>15}")
        lines.append(f"{'all':<48}{total:>7}")
        told = {
            "facts read from Redis Streams": [fact.id for fact in self.reader.seen],
            "line_allocated heard on pub/sub": [message["id"] for message in self.listener.heard],
            "mails": self.postbox.message_ids,
        }
        lines += [f"{len(ids)} {what}, {len(ids) - len(set(ids))} of them duplicates" for what, ids in told.items()]
        lines[-3] += f" (the reader fell over {self.reader.falls} times between reading and acknowledging)"
        done = sum(entry.is_done for entry in self.crowd.journal)
        lines.append(f"{len(self.crowd.journal)} requests, {done} answered; {len(self.sender.sent)} commands by Redis")
        return "\n".join(lines)


@contextmanager
def embedded(folder: Path, seed: int) -> Iterator[Campaign]:
    """One process on SQLite, which serves and delivers."""
    with ExitStack() as stack:
        yield Campaign("embedded", f"sqlite:///{folder / 'allocation.db'}", stack, folder, seed, 0, 0)


@contextmanager
def large(folder: Path, seed: int) -> Iterator[Campaign]:
    """Two processes that serve, two that deliver, one that takes commands from Redis, on PostgreSQL."""
    with ExitStack() as stack:
        postgres = stack.enter_context(PrivatePostgres(durable=True))
        campaign = Campaign("large", postgres.create_database(), stack, folder, seed, 2, 1)
        campaign.postgres = postgres
        yield campaign
