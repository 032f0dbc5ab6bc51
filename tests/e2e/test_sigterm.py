"""SIGTERM under load: whoever was heard gets an answer, the process ends in good order, nothing is half done."""

import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.e2e.crowd import Crowd, Entry
from tests.e2e.promises import assert_expected, assert_true
from tests.e2e.service import Service
from tests.e2e.shoppers import Shop, crowd_of, stock_up
from tests.e2e.truth import assert_sound, faults_of_feed

CLIENTS = 48
SKUS = [f"LAMP-{n}" for n in range(10)]
STOPS = 2
LEAST_IN_FLIGHT = 16
LONGEST_END_SECONDS = 15
ON_THE_WAY_SECONDS = 0.02
"""A connection that seems idle may be closed while a request is on its way there (RFC 9112, section 9.3.1)."""


@pytest.mark.slow
@pytest.mark.parametrize(("database", "workers"), [("sqlite", 1), ("postgres", 2)])
def test_sigterm_under_load_loses_no_answer(
    database: str, workers: int, request: pytest.FixtureRequest, measured: Callable[[str], None]
) -> None:
    """Every command brings a key, and whatever comes under a key leaves its row in the inbox, a refusal too. So a
    request that got no answer, and left no row, was never heard."""
    url = request.getfixturevalue(f"{database}_url")
    rng = random.Random(f"{database}-{STOPS}")
    ends: list[float] = []
    in_flight: list[int] = []
    with Service(url, workers=workers) as service:
        shop = Shop(SKUS, lambda: len(ends) >= STOPS, keyed=1.0)
        assert Crowd(service.port, [stock_up(shop, SKUS, 1, 200)]).run()
        crowd = Crowd(service.port, crowd_of(shop, CLIENTS, 1))
        while len(ends) < STOPS:
            begin = len(crowd.journal)
            _, (code, asked_at, seconds) = crowd.run_while(lambda: ended_under_load(service, crowd, rng))
            assert code == 0, service.words()
            ends.append(seconds)
            life = crowd.journal[begin:]
            in_flight.append(sum(was_in_flight(entry, asked_at) for entry in life))
            done = {row["correlation_id"] for row in assert_sound(url).inbox}
            unanswered = [entry for entry in life if entry.status is None]
            assert [str(entry) for entry in unanswered if entry.correlation_id in done] == [], "done, and not told"
            assert [str(entry) for entry in unanswered if entry.sent_at < asked_at - ON_THE_WAY_SECONDS] == []
            service.start()
        assert crowd.run()
    tables = assert_sound(url)
    assert_expected(crowd.journal, None)
    assert_true(crowd.journal, tables)
    assert faults_of_feed(shop.feed, tables) == []
    assert max(ends) < LONGEST_END_SECONDS
    assert min(in_flight) >= LEAST_IN_FLIGHT
    lost = sum(entry.status is None for entry in crowd.journal)
    measured(
        f"SIGTERM, {database}, {workers} workers: {STOPS} times with {in_flight} in flight, gone after at most "
        f"{max(ends):.1f} s; {len(crowd.journal)} requests, {lost} sent too late to be heard, the others answered"
    )


def was_in_flight(entry: Entry, moment: float) -> bool:
    return entry.sent_at <= moment and (entry.answered_at is None or entry.answered_at > moment)


def ended_under_load(service: Service, crowd: Crowd, rng: random.Random) -> tuple[int, float, float]:
    """Exit code, when it was asked to end, and the seconds that it took."""
    enough = crowd.answers + rng.randint(50, 400)
    crowd.wait_until(lambda: crowd.answers >= enough)
    time.sleep(rng.uniform(0, 0.05))  # an answer must not tell when
    code, asked_at = service.terminate()
    return code, asked_at, time.monotonic() - asked_at


@pytest.mark.slow
def test_who_waits_for_events_does_not_hold_up_the_end(sqlite_url: str) -> None:
    """It is answered at once, with nothing."""
    with Service(sqlite_url) as service, ThreadPoolExecutor(1) as threads:
        assert service.ask("PUT", "/v1/subscriptions/all", {"delivery": "pull"})[0] == 201
        waiting = threads.submit(service.ask, "POST", "/v1/subscriptions/all:receive", {"wait_seconds": 20})
        for _ in range(20):  # behind one of these it has been heard
            assert service.ask("GET", "/health/live")[0] == 200
        assert not waiting.done()
        code, begin = service.terminate()
        assert (code, waiting.result()) == (0, (200, {"deliveries": [], "has_seen_all": True}))
        assert time.monotonic() - begin < 10
