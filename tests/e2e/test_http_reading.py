"""Reading orders and products over HTTP."""

import pytest

from tests.e2e.conforming import ConformingClient


def test_an_order_shows_each_line_with_its_batch_and_day_or_waiting(client: ConformingClient) -> None:
    client.has_batch("batch-1", "RED-CHAIR", 100)
    client.has_batch("batch-2", "SMALL-TABLE", 10, "2031-05-01")
    client.allocate("order-1", "SMALL-TABLE", 2)
    client.allocate("order-1", "RED-CHAIR", 10)
    client.allocate("order-2", "RED-CHAIR", 1)
    client.has_batch("batch-3", "TASTELESS-LAMP", 1)
    client.allocate("order-1", "TASTELESS-LAMP", 3, if_short="wait")
    assert client.get("/v1/orders/order-1").json == {
        "orderid": "order-1",
        "lines": [
            {"sku": "RED-CHAIR", "qty": 10, "status": "allocated", "batchref": "batch-1", "eta": None},
            {"sku": "SMALL-TABLE", "qty": 2, "status": "allocated", "batchref": "batch-2", "eta": "2031-05-01"},
            {"sku": "TASTELESS-LAMP", "qty": 3, "status": "waiting", "batchref": None, "eta": None},
        ],
    }


def test_an_unknown_order_is_404(client: ConformingClient) -> None:
    answer = client.get("/v1/orders/order-9")
    assert answer.status_code == 404
    assert answer.json["orderid"] == "order-9"


def test_a_product_shows_its_batches_what_is_free_now_and_by_date_and_who_waits(client: ConformingClient) -> None:
    client.has_batch("batch-2", "RED-CHAIR", 40, "2031-05-01")
    client.has_batch("batch-1", "RED-CHAIR", 100)
    client.allocate("order-1", "RED-CHAIR", 30)
    client.allocate("order-2", "RED-CHAIR", 200, if_short="wait")
    answer = client.get("/v1/products/RED-CHAIR")
    assert answer.headers["ETag"] == '"5"'
    assert answer.json == {
        "sku": "RED-CHAIR",
        "version": 5,
        "available_now": 70,
        "available": [{"eta": None, "qty": 70, "largest": 70}, {"eta": "2031-05-01", "qty": 40, "largest": 40}],
        "batches": [
            {"ref": "batch-1", "qty": 100, "available": 70, "eta": None},
            {"ref": "batch-2", "qty": 40, "available": 40, "eta": "2031-05-01"},
        ],
        "waiting": [{"orderid": "order-2", "qty": 200}],
        "waiting_lines": 1,
        "waiting_qty": 200,
    }


def test_an_unknown_product_is_404(client: ConformingClient) -> None:
    assert client.get("/v1/products/RED-CHIAR").status_code == 404


@pytest.mark.parametrize(
    ("tags", "status"),
    [('"1"', 304), ('W/"1"', 304), ('"0", "1"', 304), ("*", 304), ('"2"', 200), ("", 200), ("1", 200)],
)
def test_a_product_that_the_client_has_is_304(client: ConformingClient, tags: str, status: int) -> None:
    client.has_batch("batch-1", "RED-CHAIR", 100)
    answer = client.get("/v1/products/RED-CHAIR", headers={"If-None-Match": tags})
    assert answer.status_code == status
    assert answer.headers["ETag"] == '"1"'


def test_head_answers_as_get_without_the_content(memory_client: ConformingClient) -> None:
    memory_client.has_batch("batch-1", "RED-CHAIR", 100)
    got = memory_client.get("/v1/products/RED-CHAIR")
    head = memory_client.plain.head("/v1/products/RED-CHAIR")
    assert (head.status_code, head.data, head.headers["ETag"]) == (200, b"", got.headers["ETag"])
    assert head.content_length == got.content_length
    assert memory_client.plain.head("/v1/products/RED-CHIAR").status_code == 404


def test_it_is_alive_and_ready(client: ConformingClient) -> None:
    assert client.get("/health/live").json == {"status": "live"}
    assert client.get("/health/ready").json == {"status": "ready"}
