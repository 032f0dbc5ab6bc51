"""One long load on one database, and fault after fault: processes killed at named points, servers stopped, a worker
held up for longer than its lease. Everybody who dies is started again; at the end all is judged by the oracles.
"""

import random
import signal
import statistics
import time
from collections.abc import Callable

from tests.e2e.crowd import UNAVAILABLE
from tests.e2e.promises import assert_expected, assert_true
from tests.e2e.truth import assert_sound, faults_of_feed
from tests.faults.oracle import (
    assert_none,
    await_head,
    await_overtaken,
    faults_after_the_commit,
    faults_of_commands,
    faults_of_facts,
    faults_of_mail,
    faults_of_told_levels,
    faults_of_told_lines,
    read_after_the_commit,
)
from tests.faults.stage import Stage
from tests.faults.streams import last_levels
from tests.faults.trigger import (
    AFTER_COMMIT,
    BEFORE_ACKNOWLEDGEMENT,
    BEFORE_COMMIT,
    BEFORE_CURSOR,
    Trigger,
    point,
)

LEAST_IN_FLIGHT = 16
MOST_ANSWERS_BEFORE, MOST_ANSWERS_AFTER = 300, 150
COMMANDS_AT_ONCE = 100
CALM = 0.5
UNAVAILABLE_WHILE_STOPPED = 16

COUNTING, LEVELS = "count_movements", "project_stock_levels"
REDIS_KILLED, POSTGRES_STOPPED, WORKER_HELD_UP = "Redis, killed", "PostgreSQL, stopped at once", "worker, SIGSTOP"

Fault = Callable[[], float]
"""Lets something break while the crowd goes on; answers when it did (`time.monotonic`)."""


class Campaign:
    """`wage` does faults, `judge` says whether all is well, `report` tells what happened."""

    def __init__(self, stage: Stage, seed: int) -> None:
        self.stage, self.rng = stage, random.Random(f"{seed}-{stage.name}")
        self.trigger = Trigger(stage.folder)
        self.faults = dict(self._kinds())
        self.in_flight: dict[str, list[int]] = {name: [] for name in self.faults}

    def _kinds(self) -> list[tuple[str, Fault]]:
        """What can break here, by the name in the report."""
        deaths = [("web", at) for at in (BEFORE_COMMIT, AFTER_COMMIT)]
        deaths += [("worker", at) for at in (BEFORE_COMMIT, AFTER_COMMIT, BEFORE_CURSOR)]
        if self.stage.consumers:
            deaths += [("consumer", at) for at in (BEFORE_COMMIT, AFTER_COMMIT, BEFORE_ACKNOWLEDGEMENT)]
        kinds = [(point(role, at), self._killed(role, at)) for role, at in deaths]
        kinds.append((REDIS_KILLED, self._redis_killed))
        if self.stage.postgres:
            kinds.append((POSTGRES_STOPPED, self._postgres_stopped))
        if len(self.stage.workers) > 1:
            kinds.append((WORKER_HELD_UP, self._worker_held_up))
        return kinds

    def wage(self, each: int, progress: Callable[[str], None]) -> None:
        """So many faults of each kind, in an order of chance. One that catches too few commands in flight is made up
        for by another."""
        due = [name for name in self.faults for _ in range(each)]
        self.rng.shuffle(due)
        for number in range(1, 2 * len(due) + 1):
            name = due.pop()
            in_flight = self._strike(self.faults[name])
            self.in_flight[name].append(in_flight)
            if in_flight < LEAST_IN_FLIGHT:
                due.insert(self.rng.randrange(len(due) + 1), name)
            progress(f"{self.stage.name}: {number} faults, {len(due)} to go; {name}, {in_flight} commands in flight")
            if not due:
                break
        assert not due, f"the load is too low:\n{self.report()}"
        self.stage.close_shop()

    def _strike(self, fault: Fault) -> int:
        """How many commands were in flight."""
        crowd, begin = self.stage.crowd, len(self.stage.crowd.journal)
        self._caught: int | None = None
        _, moment = crowd.run_while(fault)
        self.stage.await_work()
        if self.rng.random() < CALM:  # else the next one strikes in the middle of the recovery
            await_head(self.stage.url)
        return crowd.in_flight(moment, begin) if self._caught is None else self._caught

    # What can break. Each runs beside the crowd.

    def _killed(self, role: str, moment: str) -> Fault:
        """In flight for a consumer is what then is in the streams, unread or not acknowledged."""

        def fault() -> float:
            self._load()
            subscription = self.rng.choice(self.stage.subscriptions) if role == "worker" else ""
            self.trigger.arm(point(role, moment, subscription))
            if role == "consumer":
                self.stage.sender.send(COMMANDS_AT_ONCE, self.stage.shop.batches)
            strike = self.trigger.await_strike()
            struck = self.stage.of_group(strike.group)
            struck.await_death()
            if role == "consumer":
                self._caught = self.stage.sender.waiting()
            struck.launch()
            if struck is not self.stage.web:  # else nobody has a connection any more
                self._answers(self.rng.randint(0, MOST_ANSWERS_AFTER))
                self.stage.crowd.rest()
            return strike.at

        return fault

    def _redis_killed(self) -> float:
        self._load()
        moment = time.monotonic()
        self.stage.redis.kill()
        self._answers(self.rng.randint(1, MOST_ANSWERS_AFTER))
        self.stage.redis.start()
        self._answers(self.rng.randint(0, MOST_ANSWERS_AFTER))
        self.stage.crowd.rest()
        return moment

    def _postgres_stopped(self) -> float:
        postgres, crowd = self.stage.postgres, self.stage.crowd
        assert postgres is not None
        self._load()
        noticed = crowd.unavailable
        moment = time.monotonic()
        postgres.kill()
        crowd.wait_until(lambda: crowd.unavailable >= noticed + UNAVAILABLE_WHILE_STOPPED)
        crowd.rest()
        postgres.start()
        return moment

    def _worker_held_up(self) -> float:
        """Stopped between a delivery and the cursor, until another has taken over and passed it; then it goes on. One
        with a read model to write tries to, and says that it may not; another may just see that its lease is gone."""
        subscription = self.rng.choice([COUNTING, LEVELS, *self.stage.subscriptions])
        self._load()
        self.trigger.arm(point("worker", BEFORE_CURSOR, subscription), signal.SIGSTOP)
        strike = self.trigger.await_strike()
        stopped = self.stage.of_group(strike.group)
        self._answers(self.rng.randint(0, MOST_ANSWERS_AFTER))
        self.stage.crowd.rest()
        await_overtaken(self.stage.url, subscription)
        fenced = f"{subscription}, partition 0: another worker took over"
        said = stopped.words().count(fenced)
        stopped.go_on()
        if subscription in (COUNTING, LEVELS):
            assert stopped.says(fenced, said + 1), stopped.words()[-2_000:]
        return strike.at

    def _load(self) -> None:
        """Let orders and changes come in, for a while of chance."""
        if self.stage.consumers:
            self.stage.sender.send(self.rng.randint(1, COMMANDS_AT_ONCE), self.stage.shop.batches)
        self._answers(self.rng.randint(1, MOST_ANSWERS_BEFORE))

    def _answers(self, more: int) -> None:
        """Let the crowd have so many more."""
        crowd = self.stage.crowd
        enough = crowd.answers + more
        crowd.wait_until(lambda: crowd.answers >= enough)

    # What must be so afterwards, and what was.

    def judge(self) -> None:
        """Raises `AssertionError` with what is wrong."""
        stage = self.stage
        stage.drain()
        tables = assert_sound(stage.url)
        assert_expected(stage.crowd.journal, None, UNAVAILABLE)
        assert_true(stage.crowd.journal, tables)
        assert_none(
            [
                *faults_of_feed(stage.shop.feed, tables),
                *faults_after_the_commit(tables, read_after_the_commit(stage.url)),
                *faults_of_facts(stage.reader.seen, tables),
                *faults_of_told_levels(last_levels(stage.redis.url), tables),
                *faults_of_told_lines(stage.listener.heard, tables),
                *faults_of_mail(stage.postbox.message_ids, tables),
                *faults_of_commands(stage.sender.sent, tables),
            ]
        )

    def report(self) -> str:
        """Each kind of fault: how often, how many commands were in flight. What went through, and what came twice."""
        stage = self.stage
        lines = [f"{stage.name}:", f"{'':<48}{'faults':>7}{'in flight, least':>18}{'median':>8}{'(not counted)':>15}"]
        total = 0
        for name, found in sorted(self.in_flight.items()):
            counted = [n for n in found if n >= LEAST_IN_FLIGHT]
            total += len(counted)
            least, median = (min(counted), f"{statistics.median(counted):.0f}") if counted else ("-", "-")
            lines.append(f"{name:<48}{len(counted):>7}{least:>18}{median:>8}{len(found) - len(counted):>15}")
        lines.append(f"{'all':<48}{total:>7}")
        told = {
            "facts read from Redis Streams": [fact.id for fact in stage.reader.seen],
            "line_allocated heard on pub/sub": [message["id"] for message in stage.listener.heard],
            "mails": stage.postbox.message_ids,
        }
        lines += [f"{len(ids)} {what}, {len(ids) - len(set(ids))} of them duplicates" for what, ids in told.items()]
        done = sum(entry.is_done for entry in stage.crowd.journal)
        lines.append(
            f"{len(stage.crowd.journal)} requests, {done} answered; {len(stage.sender.sent)} commands by Redis; the "
            f"reader of facts fell over {stage.reader.falls} times between reading and acknowledging"
        )
        return "\n".join(lines)
