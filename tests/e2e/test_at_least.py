"""Read your own writes: a read that names a position knows what was written there, or says that it cannot yet."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import redis

from allocation.adapters.cached_views import order_key
from allocation.bootstrap import Application, bootstrap
from allocation.config import Settings
from allocation.entrypoints.flask_app import create_app
from allocation.service_layer.envelope import LogPosition
from tests.e2e.conforming import ConformingClient
from tests.e2e.service import Service, WorkerProcess
from tests.fakes import SetTimer
from tests.integration.test_reactions import wait_until

CHAIR = "RED-CHAIR"
READS = [
    "/v1/orders/o1",
    f"/v1/allocations/o1/{CHAIR}",
    f"/v1/products/{CHAIR}",
    "/v1/batches/b1",
    "/allocations/o1",
]


@pytest.mark.parametrize("path", READS)
def test_a_read_knows_the_write_that_it_names(client: ConformingClient, path: str) -> None:
    client.has_batch("b1", CHAIR, 10)
    position = client.allocate("o1", CHAIR, 4).json["position"]
    plain, named = client.get(path), client.get(f"{path}?at_least={position}")
    assert (named.status_code, named.json) == (200, plain.json)


@pytest.mark.parametrize("path", READS)
@pytest.mark.parametrize("position", ["", "17", "0-", "-1", "0-1-2", "0-x", "0-01", "0--1", "0-1 ", "1-1", "0-\u0661"])
def test_what_is_no_position_of_this_log_is_422(memory_client: ConformingClient, path: str, position: str) -> None:
    answer = memory_client.get(path, query_string={"at_least": position})
    assert answer.status_code == 422
    assert answer.json["errors"] == [
        {"detail": "must be the `position` that a write returned, as in 0-17", "parameter": "at_least"}
    ]


def test_a_position_that_the_log_does_not_have_is_not_waited_for(database_url: str) -> None:
    timer = SetTimer()
    application = bootstrap(Settings(database_url=database_url), timer=timer)
    client = ConformingClient(create_app(application).test_client())
    client.has_batch("b1", CHAIR, 10)
    for path in READS:
        answer = client.get(f"{path}?at_least=0-999999999999999999")
        assert (answer.status_code, answer.json["type"]) == (503, "/docs#problem-not-reached")
    assert timer.pauses == []
    application.close()


def test_stock_levels_are_read_when_the_projection_has_come_so_far(database_url: str) -> None:
    timer = SetTimer()
    application = bootstrap(Settings(database_url=database_url), timer=timer)
    client = ConformingClient(create_app(application).test_client())
    position = client.has_batch("b1", CHAIR, 10).json["position"]
    answer = client.get(f"/v1/stock?at_least={position}")
    assert (answer.status_code, sum(timer.pauses)) == (503, pytest.approx(2.0))
    application.worker.start()
    wait_until(lambda: application.views.stock_reached(LogPosition(0, 1)))
    answer = client.get(f"/v1/stock?at_least={position}")
    assert [level["sku"] for level in answer.json["levels"]] == [CHAIR]
    application.close()


# Behind a cache


class Behind:
    """A service in memory whose cache was kept up to the order o1, and is not kept any more."""

    def __init__(self) -> None:
        self.timer = SetTimer()
        self.application: Application = bootstrap(Settings(database_url="memory:", cache="memory"), timer=self.timer)
        self.client = ConformingClient(create_app(self.application).test_client())
        self.application.worker.start()
        self.client.has_batch("b1", CHAIR, 10)
        assert self.client.allocate("o1", CHAIR, 4).json["position"] == "0-2"
        while not self.hits():
            self.application.worker.wake()
        self.application.worker.stop()

    def hits(self) -> bool:
        """Whether the order comes out of the cache by now."""
        self.application.views.order("o1")
        return self.application.cache_counters.hits > 0


@pytest.fixture
def behind() -> Iterator[Behind]:
    made = Behind()
    yield made
    made.application.close()


@pytest.mark.parametrize("path", [path for path in READS if "batches" not in path])
def test_a_cache_that_does_not_come_so_far_is_waited_for_and_then_told(behind: Behind, path: str) -> None:
    assert behind.client.get(path).status_code == 200
    position = behind.client.delete(f"/v1/allocations/o1/{CHAIR}").headers["Log-Position"]
    begin = behind.timer.seconds()
    answer = behind.client.get(f"{path}?at_least={position}")
    assert behind.timer.seconds() - begin == pytest.approx(2.0)
    assert (answer.status_code, answer.json["title"]) == (503, "Not reached yet")
    assert answer.headers["Retry-After"] == "1"
    assert position in answer.json["detail"]
    assert behind.client.get(path).status_code == 200, "without it, the answer there is"


def test_a_batch_is_read_from_the_database_and_not_waited_for(behind: Behind) -> None:
    position = behind.client.delete(f"/v1/allocations/o1/{CHAIR}").headers["Log-Position"]
    answer = behind.client.get(f"/v1/batches/b1?at_least={position}")
    assert (answer.status_code, answer.json["available"]) == (200, 10)
    assert behind.timer.pauses == []


def test_a_cache_whose_keeper_was_silent_for_long_is_gone_past(behind: Behind) -> None:
    position = behind.client.delete(f"/v1/allocations/o1/{CHAIR}").headers["Log-Position"]
    behind.timer.now += 60
    assert behind.client.get(f"/v1/orders/o1?at_least={position}").status_code == 404


@pytest.mark.slow
def test_what_is_written_at_one_process_is_read_at_another(postgres_url: str, redis_url: str) -> None:
    settings = {"database_url": postgres_url, "redis_url": redis_url, "cache": "redis", "workers": 1}
    with Service(**settings) as one, WorkerProcess(**settings) as worker, Service(**settings) as two:

        def write(n: int) -> str:
            status, answer = one.ask("POST", "/v1/allocations", {"orderid": f"o{n}", "sku": CHAIR, "qty": 1})
            assert status == 201, answer
            return str(answer["position"])

        one.ask("POST", "/v1/batches", {"ref": "b1", "sku": CHAIR, "qty": 1000, "eta": None})
        for n in range(50):
            position = write(n)
            assert two.ask("GET", f"/v1/orders/o{n}?at_least={position}")[0] == 200
            status, product = two.ask("GET", f"/v1/products/{CHAIR}?at_least={position}")
            assert (status, product["available_now"]) == (200, 1000 - n - 1)
        assert redis.Redis.from_url(redis_url).exists(f"{{allocation:cache}}:{order_key('o1')}")
        worker.stop()
        position = write(50)
        begin = time.monotonic()
        status, problem = two.ask("GET", f"/v1/products/{CHAIR}?at_least={position}")
        assert (status, problem["type"]) == (503, "/docs#problem-not-reached")
        assert 1.5 < time.monotonic() - begin < 20
        assert two.ask("GET", f"/v1/products/{CHAIR}")[1]["available_now"] == 950
        worker.start()
        status, product = two.ask("GET", f"/v1/products/{CHAIR}?at_least={position}")
        assert (status, product["available_now"]) == (200, 949)
