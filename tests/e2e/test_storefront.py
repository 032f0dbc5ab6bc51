"""The example storefront beside the real service: it answers while that is stopped, and catches up."""

import http.client
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from allocation.adapters.brokers.redis_pubsub import connect
from tests.e2e.service import PATIENCE_SECONDS, Service, ask
from tests.e2e.test_docs import ROOT, expect_as_shown, run, steps
from tests.servers.process import LOOPBACK, PrivateServer

README = ROOT / "examples" / "storefront" / "README.md"


class Storefront(PrivateServer):
    """`python -m examples.storefront` on a port of its own, over a service at a port."""

    name = "storefront"

    def __init__(self, allocation_port: int, *options: str) -> None:
        super().__init__()
        self._options = ["--allocation", f"http://{LOOPBACK}:{allocation_port}", *options]

    def command(self) -> list[str]:
        own = ["--port", str(self.port), "--file", str(self.folder / "storefront.db"), "--every", "0.05"]
        return [sys.executable, "-m", "examples.storefront", *own, *self._options]

    def environment(self) -> dict[str, str]:
        return super().environment() | {"PYTHONPATH": str(ROOT)}

    def is_ready(self) -> bool:
        try:
            return "Storefront" in self.page()
        except (OSError, http.client.HTTPException):
            return False

    def page(self) -> str:
        connection = http.client.HTTPConnection(LOOPBACK, self.port, timeout=PATIENCE_SECONDS)
        try:
            connection.request("GET", "/")
            return connection.getresponse().read().decode()
        finally:
            connection.close()

    def can_i_buy(self, sku: str, qty: int) -> tuple[int, Any]:
        connection = http.client.HTTPConnection(LOOPBACK, self.port, timeout=PATIENCE_SECONDS)
        try:
            return ask(connection, "GET", f"/can-i-buy/{sku}?qty={qty}")
        finally:
            connection.close()

    def knows(self, sku: str, version: int) -> bool:
        return bool(self.can_i_buy(sku, 1)[1].get("version") == version)


def wait_until(true: Callable[[], bool]) -> None:
    pause = Event()
    for _ in range(int(PATIENCE_SECONDS / 0.02)):
        if true():
            return
        pause.wait(0.02)
    raise AssertionError("it did not come true")


@pytest.fixture
def service() -> Iterator[Service]:
    with Service() as running:
        yield running


@pytest.fixture
def storefront(service: Service) -> Iterator[Storefront]:
    with Storefront(service.port) as running:
        yield running


def buys(service: Service, ref: str, qty: int, eta: str | None = None) -> None:
    assert service.ask("POST", "/v1/batches", {"ref": ref, "sku": "RED-CHAIR", "qty": qty, "eta": eta})[0] == 201


def test_it_answers_while_the_service_is_stopped_and_catches_up(service: Service, storefront: Storefront) -> None:
    buys(service, "batch-1", 5)
    buys(service, "batch-2", 40, "2031-05-01")
    wait_until(lambda: storefront.knows("RED-CHAIR", 2))
    wait_until(lambda: "does not answer" not in storefront.page())
    service.stop()
    wait_until(lambda: "does not answer" in storefront.page())
    status, told = storefront.can_i_buy("RED-CHAIR", 3)
    assert (status, told["can_buy"], told["comes"]) == (200, True, "now")
    storefront.kill()
    storefront.start()
    status, later = storefront.can_i_buy("RED-CHAIR", 20)
    assert (status, later["can_buy"], later["comes"]) == (200, True, "2031-05-01")
    assert later["known_at"] == told["known_at"], "nothing was heard meanwhile"
    assert later["age_seconds"] > told["age_seconds"]
    service.start()
    line = {"orderid": "order-1", "sku": "RED-CHAIR", "qty": 4}
    assert service.ask("POST", "/v1/allocations", line)[0] == 201
    wait_until(lambda: storefront.knows("RED-CHAIR", 3))
    assert storefront.can_i_buy("RED-CHAIR", 3)[1]["comes"] == "2031-05-01"
    wait_until(lambda: storefront.can_i_buy("RED-CHAIR", 3)[1]["known_at"] > told["known_at"])
    wait_until(lambda: "does not answer" not in storefront.page())


def test_a_newcomer_sees_what_its_readme_shows(service: Service, storefront: Storefront, tmp_path: Path) -> None:
    told = steps(README)
    ports = {"5005": service.port, "5006": storefront.port}
    buying, asking = list(told)
    for step in (buying, asking):
        for known, port in ports.items():
            step.commands = step.commands.replace(f"{LOOPBACK}:{known}", f"{LOOPBACK}:{port}")
    (tmp_path / "one").mkdir()
    [(code, printed)] = run([buying], tmp_path / "one")
    assert (code, printed.count('"position"')) == (0, 2)
    wait_until(lambda: storefront.knows("ADORABLE-SETTEE", 2))
    for state in ("running", "stopped"):
        (tmp_path / state).mkdir()
        expect_as_shown([asking], run([asking], tmp_path / state))
        service.stop()


def test_it_hears_of_a_level_by_redis_long_before_it_asks_again(redis_url: str) -> None:
    client, channel = connect(redis_url), "allocation:stock_level"
    options = ["--redis", redis_url, "--every", "600"]
    publish_to = redis_url.replace("redis://", "redis+pubsub://")
    with Service(publish_to=publish_to) as service, Storefront(service.port, *options) as storefront:
        wait_until(lambda: "does not answer" not in storefront.page())
        wait_until(lambda: bool(dict(client.pubsub_numsub(channel))[channel.encode()]))
        buys(service, "batch-1", 5)
        wait_until(lambda: storefront.knows("RED-CHAIR", 1))
        for body in ("{", "[]", '{"data": 5}', level("RED-CHAIR", 7), level("RED-CHAIR", 6), level("LAST", 1)):
            client.publish(channel, body)
        wait_until(lambda: storefront.knows("LAST", 1))
        assert storefront.can_i_buy("RED-CHAIR", 1)[1]["version"] == 7


def level(sku: str, version: int) -> str:
    """A message of the kind."""
    return json.dumps({"specversion": "1.0", "data": {"sku": sku, "version": version, "available": []}})
