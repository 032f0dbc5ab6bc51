"""Allocating order lines over HTTP."""

import pytest

from tests.e2e.conforming import ConformingClient


def test_a_line_is_promised_from_stock_on_hand_before_any_shipment(client: ConformingClient) -> None:
    client.has_batch("later", "RED-CHAIR", 100, "2031-05-02")
    client.has_batch("sooner", "RED-CHAIR", 100, "2031-05-01")
    client.has_batch("on-hand", "RED-CHAIR", 10)
    assert client.allocate("order-1", "RED-CHAIR", 10).json["batchref"] == "on-hand"
    assert client.allocate("order-2", "RED-CHAIR", 10).json["batchref"] == "sooner"


def test_a_promise_is_answered_with_201_its_batch_its_day_and_its_place_in_the_log(client: ConformingClient) -> None:
    client.has_batch("batch-1", "SMALL-TABLE", 20, "2031-05-01")
    answer = client.allocate("order-1", "SMALL-TABLE", 2)
    assert answer.status_code == 201
    assert answer.json == {
        "orderid": "order-1",
        "sku": "SMALL-TABLE",
        "qty": 2,
        "status": "allocated",
        "batchref": "batch-1",
        "eta": "2031-05-01",
        "position": "0-2",
    }
    assert client.get(answer.headers["Location"]).json == {k: v for k, v in answer.json.items() if k != "position"}


def test_the_same_line_again_is_answered_with_200_and_changes_nothing(client: ConformingClient) -> None:
    client.has_batch("batch-1", "RED-CHAIR", 100)
    first = client.allocate("order-1", "RED-CHAIR", 10)
    again = client.allocate("order-1", "RED-CHAIR", 10)
    assert again.status_code == 200
    assert again.json == first.json | {"position": None}
    assert client.get("/v1/batches/batch-1").json["available"] == 90


def test_the_same_line_with_another_quantity_is_409_and_says_what_the_order_has(client: ConformingClient) -> None:
    client.has_batch("batch-1", "RED-CHAIR", 100)
    client.allocate("order-1", "RED-CHAIR", 10)
    answer = client.allocate("order-1", "RED-CHAIR", 11)
    assert answer.status_code == 409
    assert answer.json["type"] == "/docs#problem-line-exists"
    assert answer.json["qty"] == 10
    assert client.get("/v1/batches/batch-1").json["available"] == 90


def test_an_unknown_sku_is_404(client: ConformingClient) -> None:
    answer = client.allocate("order-1", "RED-CHIAR", 10)
    assert answer.status_code == 404
    assert answer.json["sku"] == "RED-CHIAR"
    assert answer.json["detail"].startswith("Invalid sku RED-CHIAR")


def test_out_of_stock_is_409_with_what_is_available_and_when_and_changes_nothing(client: ConformingClient) -> None:
    client.has_batch("batch-1", "RED-CHAIR", 30)
    client.has_batch("batch-2", "RED-CHAIR", 20)
    client.has_batch("batch-3", "RED-CHAIR", 70, "2031-05-01")
    answer = client.allocate("order-1", "RED-CHAIR", 80)
    assert answer.status_code == 409
    assert answer.json["type"] == "/docs#problem-out-of-stock"
    assert answer.json["available"] == [
        {"eta": None, "qty": 50, "largest": 30},
        {"eta": "2031-05-01", "qty": 70, "largest": 70},
    ]
    assert client.get("/v1/orders/order-1").status_code == 404
    assert len(client.events()) == 3


def test_sold_out_is_409_with_nothing_available(client: ConformingClient) -> None:
    client.has_batch("batch-1", "RED-CHAIR", 30)
    client.allocate("order-1", "RED-CHAIR", 30)
    assert client.allocate("order-2", "RED-CHAIR", 1).json["available"] == []


def test_a_line_that_would_wait_is_accepted_with_202_and_served_when_stock_comes(client: ConformingClient) -> None:
    client.has_batch("batch-1", "RED-CHAIR", 5)
    waits = client.allocate("order-1", "RED-CHAIR", 10, if_short="wait")
    assert waits.status_code == 202
    assert waits.json | {"position": ""} == {
        "orderid": "order-1",
        "sku": "RED-CHAIR",
        "qty": 10,
        "status": "waiting",
        "batchref": None,
        "eta": None,
        "position": "",
    }
    assert waits.json["position"] is not None
    again = client.allocate("order-1", "RED-CHAIR", 10, if_short="wait")
    assert (again.status_code, again.json["status"], again.json["position"]) == (200, "waiting", None)
    client.has_batch("batch-2", "RED-CHAIR", 10)
    assert client.get("/v1/allocations/order-1/RED-CHAIR").json["batchref"] == "batch-2"


def test_a_cancelled_line_is_gone_and_what_it_held_serves_those_who_wait(client: ConformingClient) -> None:
    client.has_batch("batch-1", "RED-CHAIR", 10)
    client.allocate("order-1", "RED-CHAIR", 10)
    client.allocate("order-2", "RED-CHAIR", 10, if_short="wait")
    answer = client.delete("/v1/allocations/order-1/RED-CHAIR")
    assert answer.status_code == 204
    assert answer.headers["Log-Position"] == "0-7"
    assert client.get("/v1/allocations/order-1/RED-CHAIR").status_code == 404
    assert client.get("/v1/allocations/order-2/RED-CHAIR").json["batchref"] == "batch-1"


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_a_line_that_is_not_there_is_404(client: ConformingClient, method: str) -> None:
    client.has_batch("batch-1", "RED-CHAIR", 10)
    for path in ("/v1/allocations/order-9/RED-CHAIR", "/v1/allocations/order-9/RED-CHIAR"):
        answer = client.open(method, path)
        assert answer.status_code == 404
        assert answer.json["orderid"] == "order-9"


def test_ids_may_hold_whatever_prints_but_space_and_slash(client: ConformingClient) -> None:
    strange = "a\"b\\c%2F?#&=+<>'@:;,[]{}|^`~!$()*._-"
    client.has_batch(strange, strange, 10)
    answer = client.allocate(strange, strange, 3)
    assert answer.json["batchref"] == strange
    line = client.plain.get(answer.headers["Location"])
    assert (line.status_code, line.json["orderid"]) == (200, strange)
    assert client.plain.get(client.has_batch(f"{strange}2", strange, 1).headers["Location"]).json["available"] == 1
