"""kill -9 of the service at any moment under load, and of PostgreSQL: what was told is so, and the rest can be asked
for again.

ALLOCATION_TEST_KILLS says how often the service is killed, over both databases; ALLOCATION_TEST_SEED makes a run choose
the same moments and requests as another (what the machine makes of them differs all the same).
"""

import os
import random
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest

from tests.e2e.crowd import UNAVAILABLE, Crowd, Entry
from tests.e2e.promises import OUTCOME_UNKNOWN, assert_expected, assert_true
from tests.e2e.service import PATIENCE_SECONDS, Service
from tests.e2e.shoppers import Shop, crowd_of, stock_up
from tests.e2e.truth import Tables, assert_sound, faults_of_feed
from tests.servers.postgres import Postgres, PrivatePostgres

KILLS_EACH = max(1, int(os.environ.get("ALLOCATION_TEST_KILLS", "12")) // 2)
SEED = int(os.environ.get("ALLOCATION_TEST_SEED", random.randrange(1_000_000)))
SKUS = [f"TABLE-{n}" for n in range(40)]
WORKERS = {"sqlite": 1, "postgres": 2}
CLIENTS, THREADS = 64, 32  # in all workers; so that many are in the middle of it whenever some have just been answered
LEAST_IN_FLIGHT = 16
MOST_ANSWERS_BEFORE_A_KILL = 250
MOST_SECONDS_MORE = 0.05
ANSWERS_BEFORE_AN_OUTAGE = 1_000
UNAVAILABLE_BEFORE_ITS_END = 64


@dataclass
class Campaign:
    """One database, one service, killed over and over while its clients go on."""

    in_flight: list[int] = field(default_factory=list)
    requests: int = 0
    acknowledged: int = 0
    done_but_not_told: int = 0

    @property
    def kills(self) -> int:
        """Those that count: a kill that caught fewer commands in flight is made up for by another."""
        return sum(n >= LEAST_IN_FLIGHT for n in self.in_flight)

    def __str__(self) -> str:
        counted = [n for n in self.in_flight if n >= LEAST_IN_FLIGHT]
        return (
            f"{len(counted)} kills with {min(counted)} commands in flight or more, median "
            f"{statistics.median(counted):.0f} (and {len(self.in_flight) - len(counted)} kills with fewer); "
            f"{self.requests} requests, {self.acknowledged} commands acknowledged, {self.done_but_not_told} done but "
            "not told until they were repeated"
        )

    def wage(self, url: str, workers: int, kills: int, rng: random.Random) -> "Campaign":
        with Service(url, workers=workers, threads=THREADS // workers) as service:
            shop = Shop(SKUS, lambda: self.kills >= kills, keyed=0.8)
            assert Crowd(service.port, [stock_up(shop, SKUS, 1, 200)]).run()
            crowd = Crowd(service.port, crowd_of(shop, CLIENTS, rng.randrange(1_000_000)))
            while self.kills < kills:
                begin = len(crowd.journal)
                killed_at = killed_under_load(service, crowd, rng)
                self.in_flight.append(unanswered_commands(crowd.journal[begin:], killed_at))
                assert len(self.in_flight) <= 2 * kills, f"the load is too low: {self.in_flight}"
                service.start()
                assert_true(crowd.journal, assert_sound(url))
            assert crowd.run(), "the service hung up on somebody"
        self.judge(crowd.journal, shop, assert_sound(url))
        return self

    def judge(self, journal: list[Entry], shop: Shop, tables: Tables) -> None:
        assert_expected(journal, None)
        assert_true(journal, tables)
        assert faults_of_feed(shop.feed, tables) == [], "who followed the feed over all the kills missed something"
        logged = {row["correlation_id"] for row in tables.log}
        self.requests = len(journal)
        self.acknowledged = sum(entry.is_done and entry.request.method != "GET" for entry in journal)
        self.done_but_not_told = sum(e.status is None and e.correlation_id in logged for e in journal)


def killed_under_load(service: Service, crowd: Crowd, rng: random.Random) -> float:
    """Let the crowd go on, and kill the service at some moment. Answers when; nobody has a connection then."""

    def kill() -> float:
        enough = crowd.answers + rng.randint(1, MOST_ANSWERS_BEFORE_A_KILL)
        crowd.wait_until(lambda: crowd.answers >= enough)
        time.sleep(rng.uniform(0, MOST_SECONDS_MORE))  # an answer must not tell when: any moment may be the one
        return service.kill_all()

    finished, killed_at = crowd.run_while(kill)
    assert not finished, "the shoppers came to their end before the kill"
    return killed_at


def unanswered_commands(journal: list[Entry], killed_at: float) -> int:
    """How many had been sent to the service that was killed then, and got no answer from it."""
    lost = [entry for entry in journal if entry.status is None and entry.sent_at <= killed_at]
    return sum(entry.request.method != "GET" for entry in lost)


@pytest.fixture(scope="module")
def campaigns(
    postgres_server: Postgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[Campaign]]]:
    """Both at the same time: a service that starts leaves a processor to the other."""
    urls = {
        "sqlite": f"sqlite:///{tmp_path_factory.mktemp('crashes') / 'allocation.db'}",
        "postgres": postgres_server.create_database(),
    }
    with ThreadPoolExecutor(2) as threads:
        yield {
            name: threads.submit(Campaign().wage, url, WORKERS[name], KILLS_EACH, random.Random(f"{SEED}-{name}"))
            for name, url in urls.items()
        }
    postgres_server.drop_database(urls["postgres"])


@pytest.mark.slow
@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_after_a_kill_every_answer_given_is_true_and_every_request_can_be_repeated(
    database: str, campaigns: dict[str, Future[Campaign]], measured: Callable[[str], None]
) -> None:
    seen = campaigns[database].result()
    assert seen.kills == KILLS_EACH
    measured(f"kill -9, {database}, {WORKERS[database]} workers, seed {SEED}: {seen}")


@pytest.mark.slow
def test_while_postgres_is_down_clients_are_told_to_come_back_and_afterwards_all_is_well(
    measured: Callable[[str], None],
) -> None:
    with PrivatePostgres(durable=True) as postgres:
        url = postgres.create_database()
        with Service(url, commit_patience_seconds=1) as service:
            shop = Shop(SKUS, lambda: crowd.answers >= 2 * ANSWERS_BEFORE_AN_OUTAGE)
            assert Crowd(service.port, [stock_up(shop, SKUS, 1, 200)]).run()
            crowd = Crowd(service.port, crowd_of(shop, 32, SEED))
            finished, health = crowd.run_while(lambda: an_outage(postgres, service, crowd))
            assert finished, "the service hung up on somebody"
            tables = assert_sound(url)
            journal = crowd.journal
            assert "Traceback" not in service.words()
    assert health == (503, 200, 200)
    assert_expected(journal, UNAVAILABLE)
    assert_true(journal, tables)
    assert faults_of_feed(shop.feed, tables) == []
    away = [entry for entry in journal if entry.status == UNAVAILABLE]
    assert all(int(entry.headers["retry-after"]) > 0 for entry in away)
    unknown = sum(entry.body["type"] == OUTCOME_UNKNOWN for entry in away)
    measured(f"PostgreSQL down, seed {SEED}: {len(journal)} requests, {len(away)} x 503, {unknown} of them unknown")


def an_outage(postgres: PrivatePostgres, service: Service, crowd: Crowd) -> tuple[int, int, int]:
    """Stop PostgreSQL at once, and start it again when enough clients have noticed. Answers whether the service said
    that it was ready, and alive, meanwhile, and whether it said that it was ready afterwards."""
    crowd.wait_until(lambda: crowd.answers >= ANSWERS_BEFORE_AN_OUTAGE)
    postgres.kill()
    crowd.wait_until(lambda: crowd.unavailable >= UNAVAILABLE_BEFORE_ITS_END)
    ready, alive = (service.ask("GET", path)[0] for path in ("/health/ready", "/health/live"))
    postgres.start()
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (ready_again := service.ask("GET", "/health/ready")[0]) != 200 and time.monotonic() < deadline:
        time.sleep(0.05)
    return ready, alive, ready_again
