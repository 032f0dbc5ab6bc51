"""The routes of the book, as its readers and their clients know them."""

from tests.e2e.conforming import ConformingClient


def test_happy_path_returns_202_and_batch_is_allocated(client: ConformingClient) -> None:
    for ref, sku, eta in [
        ("early", "RED-CHAIR", "2011-01-01"),
        ("later", "RED-CHAIR", "2011-01-02"),
        ("other", "SMALL-TABLE", None),
    ]:
        assert client.post("/add_batch", json={"ref": ref, "sku": sku, "qty": 100, "eta": eta}).status_code == 201
    answer = client.post("/allocate", json={"orderid": "order-1", "sku": "RED-CHAIR", "qty": 3})
    assert (answer.status_code, answer.json["batchref"]) == (202, "early")
    assert client.get("/allocations/order-1").json == [{"sku": "RED-CHAIR", "batchref": "early"}]


def test_unhappy_path_returns_400_and_error_message(client: ConformingClient) -> None:
    answer = client.post("/allocate", json={"orderid": "order-1", "sku": "RED-CHIAR", "qty": 20})
    assert answer.status_code == answer.json["status"] == 400
    assert answer.json["message"] == "Invalid sku RED-CHIAR"
    assert client.get("/allocations/order-1").status_code == 404


def test_allocate_waits_if_short_and_the_view_shows_the_line_once_it_is_on_a_batch(client: ConformingClient) -> None:
    client.post("/add_batch", json={"ref": "batch-1", "sku": "RED-CHAIR", "qty": 5, "eta": None})
    line = {"orderid": "order-1", "sku": "RED-CHAIR", "qty": 10}
    answer = client.post("/allocate", json=line)
    assert (answer.status_code, answer.json["status"]) == (202, "waiting")
    waiting = client.get("/allocations/order-1")
    assert (waiting.status_code, waiting.json["type"]) == (404, "/docs#problem-nothing-allocated")
    assert waiting.json["detail"] == "Order order-1 waits for stock; none of its lines is allocated to a batch yet"
    assert client.get("/allocations/order-9").json["detail"] == "There is no order order-9"
    client.post("/add_batch", json={"ref": "batch-2", "sku": "RED-CHAIR", "qty": 10, "eta": None})
    assert client.get("/allocations/order-1").json == [{"sku": "RED-CHAIR", "batchref": "batch-2"}]
    again = client.post("/allocate", json=line)
    assert (again.status_code, again.json["batchref"]) == (202, "batch-2")


def test_the_same_line_with_another_quantity_and_the_same_batch_with_other_content_are_409(
    client: ConformingClient,
) -> None:
    batch = {"ref": "batch-1", "sku": "RED-CHAIR", "qty": 5, "eta": None}
    line = {"orderid": "order-1", "sku": "RED-CHAIR", "qty": 5}
    client.post("/add_batch", json=batch)
    client.post("/allocate", json=line)
    assert client.post("/add_batch", json=batch).status_code == 200
    assert client.post("/add_batch", json=batch | {"qty": 6}).status_code == 409
    assert client.post("/allocate", json=line | {"qty": 6}).status_code == 409


def test_if_short_is_no_word_of_the_book(client: ConformingClient) -> None:
    answer = client.post("/allocate", json={"orderid": "order-1", "sku": "RED-CHAIR", "qty": 5, "if_short": "wait"})
    assert answer.status_code == 422
