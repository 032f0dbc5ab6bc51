"""The time machine over HTTP: as of, history, traces, explanations, what if."""

from collections.abc import Iterator

import pytest

from allocation.bootstrap import Application, bootstrap
from allocation.config import Settings
from allocation.domain.commands import Allocate, ChangeBatchQuantity, CreateBatch
from allocation.entrypoints.flask_app import create_app
from tests.e2e.conforming import ConformingClient, Json
from tests.e2e.conftest import DATABASES
from tests.fakes import NOON, SetClock


@pytest.fixture(scope="module", params=DATABASES)
def application(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Application]:
    """One a database for all tests here: they only read, or keep to skus of their own."""
    url = "memory:"
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path_factory.mktemp('past')}/allocation.db"
    elif request.param == "postgres":
        url = request.getfixturevalue("postgres_server").create_database()
    built = bootstrap(Settings(database_url=url), clock=SetClock())
    yield built
    built.close()


@pytest.fixture(scope="module")
def shop(application: Application) -> ConformingClient:
    """Every call a minute after the one before, the first at noon."""
    client = ConformingClient(create_app(application).test_client())
    for call in (
        lambda: client.has_batch("batch-1", "RED-CHAIR", 10),  # 0-1
        lambda: client.allocate("order-1", "RED-CHAIR", 8, headers={"X-Correlation-Id": "anna-7"}),  # 0-2
        lambda: client.allocate("order-2", "RED-CHAIR", 5, if_short="wait"),  # 0-3, 0-4
        lambda: client.has_batch("batch-2", "RED-CHAIR", 20, "2031-05-01"),  # 0-5, 0-6: order-2 is served
        lambda: client.delete("/v1/allocations/order-1/RED-CHAIR"),  # 0-7, 0-8
        lambda: client.has_batch("batch-3", "SMALL-TABLE", 4),  # 0-9
    ):
        call()
        application.clock.step(60)  # type: ignore[attr-defined]  # it is a SetClock
    return client


def at(place: str, client: ConformingClient) -> Json:
    answer = client.get(f"/v1/products/RED-CHAIR?at={place}")
    assert answer.status_code == 200
    return answer.json


def test_a_product_is_read_as_it_was_at_a_place_and_at_a_moment(shop: ConformingClient) -> None:
    assert at("0-4", shop)["waiting"] == [{"orderid": "order-2", "qty": 5}]
    assert at("0-4", shop) == at("2031-03-01T12:02:59Z", shop) == at("2031-03-01T13:02:00%2B01:00", shop)
    assert at("0-5", shop)["version"] == 5
    assert at("0-8", shop) == at("2099-01-01", shop) == shop.get("/v1/products/RED-CHAIR").json
    missing = shop.get("/v1/products/RED-CHAIR?at=0-0")
    assert (missing.status_code, missing.json["type"]) == (404, "/docs#problem-unknown-sku")
    assert missing.json["detail"] == "No batch of RED-CHAIR was bought by then"
    assert "ever bought" in shop.get("/v1/products/RED-CHIAR").json["detail"]
    assert shop.get("/v1/products/SMALL-TABLE?at=0-8").status_code == 404


def test_an_order_is_read_as_it_was_also_when_it_is_gone_by_now(shop: ConformingClient) -> None:
    assert shop.get("/v1/orders/order-1").status_code == 404
    assert shop.get("/v1/orders/order-1?at=0-6").json["lines"] == [
        {"sku": "RED-CHAIR", "qty": 8, "status": "allocated", "batchref": "batch-1", "eta": None}
    ]
    missing = shop.get("/v1/orders/order-2?at=0-1")
    assert (missing.status_code, missing.json["type"]) == (404, "/docs#problem-unknown-order")
    assert missing.json["detail"] == "There was no order order-2 then"
    assert shop.get("/v1/orders/order-1").json["detail"] == "There is no order order-1"


@pytest.mark.parametrize(
    "at",
    [
        "yesterday",
        "0-",
        "1-2-3",
        "2031-13-01",
        "0-01",
        "",
        "2031-03-01T12:02:59 01:00",
        "2031-03-01-05:00",
        "2031-03-01/2031-04-01",
        "2031-03-01x12:02",
    ],
)
def test_a_moment_that_is_none_is_told(memory_client: ConformingClient, at: str) -> None:
    answer = memory_client.get("/v1/products/RED-CHAIR", query_string={"at": at})
    assert answer.status_code == 422
    assert answer.json["errors"][0]["parameter"] == "at"
    assert "0-17" in answer.json["detail"]


@pytest.mark.parametrize("at", ["0-99", "1-1"])
def test_a_place_that_the_log_does_not_have_is_told(shop: ConformingClient, at: str) -> None:
    for path in ("/v1/products/RED-CHAIR", "/v1/orders/order-1", "/v1/shop"):
        answer = shop.get(f"{path}?at={at}")
        assert (answer.status_code, answer.json["type"]) == (422, "/docs#problem-unknown-position")


def test_the_whole_shop_is_read_page_by_page(shop: ConformingClient) -> None:
    first = shop.get("/v1/shop?limit=1&at=0-9").json
    assert first["next"] == "RED-CHAIR"
    second = shop.get("/v1/shop?limit=1&after=RED-CHAIR&at=0-9").json
    assert second["next"] is None
    assert [p["sku"] for p in first["products"] + second["products"]] == ["RED-CHAIR", "SMALL-TABLE"]
    [chair] = shop.get("/v1/shop?at=0-4").json["products"]
    assert chair == {
        "sku": "RED-CHAIR",
        "version": 4,
        "available_now": 2,
        "available": 2,
        "waiting_lines": 1,
        "waiting_qty": 5,
    }
    assert shop.get("/v1/shop?at=0-0").json == {"products": [], "next": None}


def told(steps: list[Json]) -> list[tuple[str, list[str]]]:
    return [(s["command"]["type"], [e["type"].removeprefix("allocation.") for e in s["events"]]) for s in steps]


def test_the_history_of_a_product_tells_who_asked_what_and_what_happened(shop: ConformingClient) -> None:
    page = shop.get("/v1/products/RED-CHAIR/history").json
    assert page["next"] is None
    assert told(page["steps"]) == [
        ("CreateBatch", ["BatchCreated"]),
        ("Allocate", ["Allocated"]),
        ("Allocate", ["Backordered", "OutOfStock"]),
        ("CreateBatch", ["BatchCreated", "Allocated"]),
        ("Deallocate", ["Deallocated", "Cancelled"]),
    ]
    asked = page["steps"][1]["command"]
    assert (asked["source"], asked["correlation_id"]) == ("POST /v1/allocations", "anna-7")
    assert asked["body"] == {"orderid": "order-1", "sku": "RED-CHAIR", "qty": 8, "if_short": "refuse"}
    assert asked["time"] == (NOON.replace(minute=1)).isoformat().replace("+00:00", "Z")
    first = shop.get("/v1/products/RED-CHAIR/history?limit=3").json
    rest = shop.get(f"/v1/products/RED-CHAIR/history?after={first['next']}").json
    assert told(first["steps"] + rest["steps"])[2:4] == [("Allocate", ["Backordered"]), ("Allocate", ["OutOfStock"])]
    assert shop.get("/v1/products/RED-CHIAR/history").status_code == 404


def test_the_history_of_a_batch_and_of_an_order(shop: ConformingClient) -> None:
    assert told(shop.get("/v1/batches/batch-1/history").json["steps"]) == [
        ("CreateBatch", ["BatchCreated"]),
        ("Allocate", ["Allocated"]),
        ("Deallocate", ["Deallocated"]),
    ]
    assert told(shop.get("/v1/orders/order-1/history").json["steps"]) == [
        ("Allocate", ["Allocated"]),
        ("Deallocate", ["Deallocated", "Cancelled"]),
    ]
    assert told(shop.get("/v1/orders/order-2/history").json["steps"]) == [
        ("Allocate", ["Backordered"]),
        ("CreateBatch", ["Allocated"]),
    ]
    assert shop.get("/v1/batches/batch-9/history").status_code == 404
    assert shop.get("/v1/orders/order-9/history").status_code == 404


def test_an_order_and_an_explanation_are_read_page_by_page(shop: ConformingClient) -> None:
    shop.has_batch("batch-8", "PLAIN-SOFA", 9)
    for _ in range(3):
        shop.allocate("order-8", "PLAIN-SOFA", 2)
        shop.delete("/v1/allocations/order-8/PLAIN-SOFA")
    for path, part in (
        ("/v1/orders/order-8/history", "steps"),
        ("/v1/allocations/order-8/PLAIN-SOFA/explanation", "decisions"),
    ):
        whole = shop.get(path).json
        assert (len(whole[part]), whole["next"]) == ({"steps": 6, "decisions": 3}[part], None)
        found, after = [], ""
        while (page := shop.get(f"{path}?limit=2{after}").json)["next"] is not None:
            found += page[part]
            after = f"&after={page['next']}"
        found += page[part]
        if part == "decisions":
            assert found == whole[part]
        else:
            assert [e for s in found for e in s["events"]] == [e for s in whole[part] for e in s["events"]]
        assert shop.get(f"{path}?limit=1001").status_code == shop.get(f"{path}?after=x").status_code == 422


def test_a_trace_leads_from_the_request_to_its_events_and_to_who_was_told(
    shop: ConformingClient, application: Application
) -> None:
    application.subscriptions.join("publish_allocated_event", from_the_beginning=True)
    application.subscriptions.join("send_out_of_stock_notification", from_the_beginning=True)
    traced = shop.get("/v1/traces/anna-7").json
    [command] = traced["commands"]
    assert (traced["more"], command["events_left_out"]) == (False, 0)
    assert command["command"]["body"]["orderid"] == "order-1"
    [event] = command["events"]
    assert event["event"]["data"]["batchref"] == "batch-1"
    assert event["deliveries"] == [
        {"subscription": "publish_allocated_event", "outcome": "waits", "because": "it has reached 0-0", "due_at": None}
    ]
    assert shop.get("/v1/traces/nobody").status_code == 404


@pytest.mark.parametrize("by_events", [True, False])
def test_a_chain_is_told_to_its_end(shop: ConformingClient, application: Application, by_events: bool) -> None:
    bus, cause, correlation_id = application.bus, "nothing", f"chain-{by_events}"
    for n in range(200):
        command = CreateBatch(f"link-{by_events}-{n}", f"LINK-{by_events}", 1)
        envelope = bus.envelope(command, correlation_id=correlation_id, causation_id=cause)
        bus.ask(envelope)
        cause = application.history.events(f"LINK-{by_events}", [n + 1])[0].id if by_events else envelope.id
    traced, depth = shop.plain.get(f"/v1/traces/{correlation_id}").json, 0  # a validator has no room for so deep a tree
    while traced["commands"]:
        [traced] = traced["commands"]
        [event] = traced["events"]
        traced, depth = event if by_events else traced, depth + 1
    assert depth == 200


def test_an_explanation_tells_of_every_batch_why(shop: ConformingClient) -> None:
    explained = shop.get("/v1/allocations/order-2/RED-CHAIR/explanation").json
    waited, served = explained["decisions"]
    assert (waited["batchref"], waited["note"], waited["command"]["type"]) == (None, None, "Allocate")
    assert waited["batches"] == [{"ref": "batch-1", "eta": None, "available": 2, "verdict": "too little left"}]
    assert (served["batchref"], served["note"], served["command"]["type"]) == ("batch-2", None, "CreateBatch")
    assert [(b["ref"], b["verdict"]) for b in served["batches"]] == [
        ("batch-1", "too little left"),
        ("batch-2", "taken"),
    ]
    assert shop.get("/v1/allocations/order-9/RED-CHAIR/explanation").status_code == 404


def test_what_if_tells_the_difference_and_changes_nothing(shop: ConformingClient) -> None:
    before, events = shop.get("/v1/products/RED-CHAIR").json, shop.events()
    commands: list[Json] = [
        {"type": "ChangeBatchEta", "ref": "batch-2", "eta": "2031-05-06"},
        {"type": "ChangeBatchQuantity", "ref": "batch-1", "qty": 0},
        {"type": "Allocate", "orderid": "rush", "sku": "RED-CHAIR", "qty": 300},
        {"type": "Allocate", "orderid": "rush", "sku": "RED-CHAIR", "qty": 15},
        {"type": "Deallocate", "orderid": "order-9", "sku": "BLUE-CHAIR"},
        {"type": "CreateBatch", "ref": "batch-9", "sku": "BLUE-CHAIR", "qty": 1, "eta": None},
        {"type": "ChangeBatch", "ref": "batch-9", "qty": 2, "eta": "2031-06-01"},
    ]
    answer = shop.post("/v1/what-if", json={"commands": commands})
    assert answer.status_code == 200
    refused = [a["refused"] and a["refused"]["title"] for a in answer.json["answers"]]
    assert refused == [None, None, "Out of stock", None, "Unknown order line", None, None]
    old, new = ({"status": "allocated", "batchref": "batch-2", "eta": f"2031-05-0{day}"} for day in (1, 6))
    changes = [(c["orderid"], c["change"], c["before"], c["after"]) for c in answer.json["changes"]]
    assert changes == [("order-2", "another day", old, new), ("rush", "promised", None, new)]
    assert (shop.get("/v1/products/RED-CHAIR").json, shop.events()) == (before, events)
    assert shop.get("/v1/products/BLUE-CHAIR").status_code == 404


def test_what_if_begins_in_the_past_if_it_is_told_to(shop: ConformingClient) -> None:
    asked = {"commands": [{"type": "ChangeBatchQuantity", "ref": "batch-1", "qty": 7}], "at": "0-4"}
    changes = shop.post("/v1/what-if", json=asked).json["changes"]
    assert [(c["orderid"], c["change"]) for c in changes] == [
        ("order-1", "starts to wait"),
        ("order-2", "stops waiting"),
    ]
    missing = {"commands": [{"type": "ChangeBatchQuantity", "ref": "batch-2", "qty": 7}], "at": "0-4"}
    assert shop.post("/v1/what-if", json=missing).json["answers"][0]["refused"]["title"] == "Unknown batch"


@pytest.mark.parametrize(
    ("asked", "place"),
    [
        ({}, "#/commands"),
        ({"commands": []}, "#/commands"),
        ({"commands": [{"type": "Burn", "ref": "b"}]}, "#/commands/0"),
        ({"commands": [{"type": "Deallocate", "orderid": "o"}]}, "#/commands/0/sku"),
        ({"commands": [{"type": "Deallocate", "orderid": "o", "sku": "S"}], "at": "soon"}, "#/at"),
    ],
)
def test_what_if_refuses_what_is_no_command(memory_client: ConformingClient, asked: Json, place: str) -> None:
    answer = memory_client.post("/v1/what-if", json=asked)
    assert answer.status_code == 422
    assert answer.json["errors"][0]["pointer"] == place


def test_a_command_that_was_refused_under_its_own_id_is_traced(shop: ConformingClient) -> None:
    headers = {"Idempotency-Key": "k-1", "X-Correlation-Id": "anna-8"}
    assert shop.allocate("order-3", "RED-CHAIR", 500, headers=headers).status_code == 409
    [command] = shop.get("/v1/traces/anna-8").json["commands"]
    assert (command["command"]["refused"], command["events"]) == ("No batch of RED-CHAIR has 500 left", [])


def test_commands_of_one_group_are_told_apart(shop: ConformingClient, application: Application) -> None:
    """Two senders chose the same id: each event finds the command that led to it."""
    shop.has_batch("batch-4", "TASTELESS-LAMP", 4)
    group = [
        application.bus.envelope(Allocate("o-7", "TASTELESS-LAMP", 1), "same", source="anna"),
        application.bus.envelope(ChangeBatchQuantity("batch-4", 0), "same", source="bert"),
    ]
    application.bus.handle_many(group)
    steps = shop.get("/v1/products/TASTELESS-LAMP/history?after=1").json["steps"]
    assert [(s["command"]["source"], len(s["events"])) for s in steps] == [("anna", 1), ("bert", 3)]
