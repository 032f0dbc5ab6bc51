"""Stock levels and movements over HTTP, written by the worker a moment after the commit."""

import threading
from datetime import date, datetime

import pytest

from allocation.bootstrap import Application, bootstrap
from allocation.config import Settings
from allocation.entrypoints.flask_app import create_app
from allocation.service_layer.envelope import LogPosition
from tests.e2e.conforming import ConformingClient

PATIENT_LOOKS = 2000


def counted(application: Application, *positions: str) -> None:
    """Starts the worker. Returns when the read models know what the log has up to these positions."""
    application.worker.start()
    projections = {s.name for s in application.worker.subscriptions if s.from_the_beginning}
    awaited = {int(partition): int(seq) for partition, _, seq in (p.partition("-") for p in positions)}
    pause = threading.Event()
    for _ in range(PATIENT_LOOKS):
        cursors = [c for c in application.subscriptions.cursors() if c.subscription in projections]
        if all(c.seq >= awaited.get(c.partition, 0) for c in cursors):
            assert all(application.views.stock_reached(LogPosition(*place)) for place in awaited.items())
            return
        pause.wait(0.005)
    raise AssertionError("the worker does not come so far")


def test_stock_levels_are_paged_and_followed(client: ConformingClient, application: Application) -> None:
    client.has_batch("batch-1", "RED-CHAIR", 100)
    client.has_batch("batch-2", "RED-CHAIR", 50, "2031-05-01")
    client.has_batch("batch-3", "SMALL-TABLE", 5)
    last = client.allocate("order-1", "SMALL-TABLE", 5)
    counted(application, last.json["position"])
    seen, after = [], ""
    while levels := (page := client.get(f"/v1/stock?limit=1{after}").json)["levels"]:
        seen += levels
        after = f"&after={page['next']}"
    chairs = [{"eta": None, "qty": 100, "largest": 100}, {"eta": "2031-05-01", "qty": 50, "largest": 50}]
    assert seen == [
        {"sku": "RED-CHAIR", "version": 2, "available": chairs},
        {"sku": "SMALL-TABLE", "version": 2, "available": []},
    ]
    nothing_new = client.get(f"/v1/stock?after={last.json['position']}").json
    assert (nothing_new["levels"], nothing_new["next"]) == ([], page["next"])
    assert datetime.fromisoformat(nothing_new["as_of"]) > application.views.events((), 10).events[-1].time


def test_while_nobody_counts_stock_is_of_the_time_before_the_first_event(client: ConformingClient) -> None:
    client.has_batch("batch-1", "RED-CHAIR", 100)
    client.has_batch("batch-2", "RED-CHAIR", 100)
    page = client.get("/v1/stock").json
    assert (page["levels"], page["as_of"]) == ([], client.events()[0]["time"])


def test_movements_of_a_product_are_told_by_day(client: ConformingClient, application: Application) -> None:
    client.has_batch("batch-1", "RED-CHAIR", 100)
    client.allocate("order-1", "RED-CHAIR", 10)
    last = client.allocate("order-2", "RED-CHAIR", 500, if_short="wait")
    counted(application, last.json["position"])
    answer = client.get("/v1/products/RED-CHAIR/movements")
    assert answer.json["sku"] == "RED-CHAIR"
    [day] = answer.json["days"]
    assert date.fromisoformat(day.pop("day")) <= application.clock.now().date()
    assert day == {"received": 100, "allocated": 10, "deallocated": 0, "backordered": 500, "cancelled": 0}


def test_movements_of_a_product_that_was_never_bought_are_404(client: ConformingClient) -> None:
    answer = client.get("/v1/products/RED-CHIAR/movements")
    assert (answer.status_code, answer.json["sku"]) == (404, "RED-CHIAR")
    client.has_batch("batch-1", "RED-CHAIR", 100)
    assert client.get("/v1/products/RED-CHAIR/movements").json == {"sku": "RED-CHAIR", "days": []}


@pytest.mark.parametrize(
    "path",
    [
        "/v1/stock?limit=0",
        "/v1/stock?limit=1001",
        "/v1/stock?limit=-1",
        "/v1/stock?after=",
        "/v1/stock?after=AAAAADAtMQ",
        "/v1/stock?after=0-1.0-2",
        "/v1/stock?sku=RED-CHAIR",
        "/v1/products/RED-CHAIR/movements?limit=1001",
        "/v1/products/RED-CHAIR/movements?after=0-1",
    ],
)
def test_a_parameter_that_cannot_be_meant_is_422(memory_client: ConformingClient, path: str) -> None:
    answer = memory_client.get(path)
    assert answer.status_code == 422
    assert answer.json["errors"][0]["parameter"]


def test_a_cursor_of_a_log_with_more_partitions_is_of_another_log(memory_client: ConformingClient) -> None:
    """Who holds it has to begin again, as after a restore: it is no mistake that could be corrected."""
    answer = memory_client.get("/v1/stock?after=1-1")
    assert (answer.status_code, answer.json["type"]) == (422, "/docs#problem-unknown-position")


def test_one_cursor_follows_all_partitions() -> None:
    application = bootstrap(Settings(database_url="memory:", log_partitions=3))
    client = ConformingClient(create_app(application).test_client())
    last = {}
    for n in range(20):
        answer = client.has_batch(f"batch-{n}", f"SKU-{n}", 10)
        last[answer.json["position"].partition("-")[0]] = answer.json["position"]
    counted(application, *last.values())
    seen, after = [], ""
    while levels := (page := client.get(f"/v1/stock?limit=7{after}").json)["levels"]:
        seen += [level["sku"] for level in levels]
        after = f"&after={page['next']}"
    assert sorted(seen) == sorted(f"SKU-{n}" for n in range(20))
    application.close()
