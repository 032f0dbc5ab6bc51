"""Keys, correlation and the other headers that go with a request."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.e2e.conforming import ConformingClient

KEY = {"Idempotency-Key": "cart-7"}


def test_the_same_request_under_its_key_gets_the_first_answer_again(client: ConformingClient) -> None:
    client.has_batch("batch-1", "RED-CHAIR", 100)
    first = client.allocate("order-1", "RED-CHAIR", 10, headers=KEY)
    client.patch("/v1/batches/batch-1", json={"eta": "2031-05-01"})
    again = client.allocate("order-1", "RED-CHAIR", 10, headers=KEY)
    assert (again.status_code, again.json) == (first.status_code, first.json) == (201, first.json)
    assert again.headers["Location"] == first.headers["Location"]


def test_a_refusal_under_a_key_is_kept_too(client: ConformingClient) -> None:
    client.has_batch("batch-1", "RED-CHAIR", 5)
    first = client.allocate("order-1", "RED-CHAIR", 10, headers=KEY | {"X-Correlation-Id": "a"})
    client.has_batch("batch-2", "RED-CHAIR", 100)
    again = client.allocate("order-1", "RED-CHAIR", 10, headers=KEY | {"X-Correlation-Id": "a"})
    assert (again.status_code, again.json) == (first.status_code, first.json) == (409, first.json)
    assert client.allocate("order-1", "RED-CHAIR", 10).status_code == 201


def test_every_call_that_changes_something_takes_a_key(client: ConformingClient) -> None:
    batch = {"ref": "batch-1", "sku": "RED-CHAIR", "qty": 100, "eta": None}
    line = {"orderid": "order-1", "sku": "RED-CHAIR", "qty": 10}
    calls = [
        ("POST", "/v1/batches", batch, 201),
        ("POST", "/v1/allocations", line, 201),
        ("PATCH", "/v1/batches/batch-1", {"qty": 50}, 200),
        ("DELETE", "/v1/allocations/order-1/RED-CHAIR", None, 204),
        ("POST", "/add_batch", batch | {"ref": "batch-2"}, 201),
        ("POST", "/allocate", line | {"orderid": "order-2"}, 202),
    ]
    first = [client.open(method, path, json=body, headers=KEY) for method, path, body, _ in calls]
    assert [answer.status_code for answer in first] == [status for *_, status in calls]
    events = client.events()
    again = [client.open(method, path, json=body, headers=KEY) for method, path, body, _ in calls]
    assert [(a.status_code, a.data) for a in again] == [(a.status_code, a.data) for a in first]
    assert client.events() == events


def test_a_key_stands_for_one_request(client: ConformingClient) -> None:
    client.has_batch("batch-1", "RED-CHAIR", 100)
    client.has_batch("batch-2", "RED-CHAIR", 100)
    client.allocate("order-1", "RED-CHAIR", 10, headers=KEY)
    assert client.allocate("order-2", "RED-CHAIR", 10, headers=KEY).status_code == 422
    client.patch("/v1/batches/batch-1", json={"qty": 50}, headers=KEY)
    other_path = client.patch("/v1/batches/batch-2", json={"qty": 50}, headers=KEY)
    other_condition = client.patch("/v1/batches/batch-1", json={"qty": 50}, headers=KEY | {"If-Match": '"9"'})
    for answer in (other_path, other_condition):
        assert answer.status_code == 422
        assert answer.json["type"] == "/docs#problem-key-reused"
    assert client.get("/v1/batches/batch-2").json["qty"] == 100


def test_a_key_belongs_to_its_route(client: ConformingClient) -> None:
    client.has_batch("batch-1", "RED-CHAIR", 100)
    assert client.allocate("order-1", "RED-CHAIR", 10, headers=KEY).status_code == 201
    line = {"orderid": "order-2", "sku": "RED-CHAIR", "qty": 10}
    assert client.post("/allocate", json=line, headers=KEY).status_code == 202


def test_the_same_request_sent_by_many_at_once_is_done_once_and_all_get_its_answer(client: ConformingClient) -> None:
    client.has_batch("batch-1", "RED-CHAIR", 100)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: client.allocate("order-1", "RED-CHAIR", 10, headers=KEY), range(16)))
    assert {(answer.status_code, answer.data) for answer in answers} == {(201, answers[0].data)}
    assert client.get("/v1/batches/batch-1").json["available"] == 90


@pytest.mark.parametrize("key", ["", "k" * 256, "caf\xe9", "a\tb"])
def test_a_key_that_is_empty_too_long_or_does_not_print_is_400(memory_client: ConformingClient, key: str) -> None:
    memory_client.has_batch("batch-1", "RED-CHAIR", 100)
    answer = memory_client.allocate("order-1", "RED-CHAIR", 10, headers={"Idempotency-Key": key})
    assert answer.status_code == 400
    assert answer.json["header"] == "Idempotency-Key"
    assert memory_client.get("/v1/orders/order-1").status_code == 404


def test_a_key_of_255_characters_is_taken(client: ConformingClient) -> None:
    client.has_batch("batch-1", "RED-CHAIR", 100)
    for _ in range(2):
        answer = client.allocate("order-1", "RED-CHAIR", 10, headers={"Idempotency-Key": "~ " * 127 + "k"})
        assert answer.status_code == 201


def test_a_correlation_id_comes_back_and_stands_on_the_events(client: ConformingClient) -> None:
    client.has_batch("batch-1", "RED-CHAIR", 100)
    answer = client.allocate("order-1", "RED-CHAIR", 10, headers={"X-Correlation-Id": "cart-7"})
    assert answer.headers["X-Correlation-Id"] == client.events()[-1]["correlationid"] == "cart-7"
    unasked = client.allocate("order-2", "RED-CHAIR", 10)
    assert unasked.headers["X-Correlation-Id"] == client.events()[-1]["correlationid"] != "cart-7"


@pytest.mark.parametrize("bad", ["", "two words", "x" * 256, "caf\xe9"])
def test_a_correlation_id_that_is_no_id_is_replaced(memory_client: ConformingClient, bad: str) -> None:
    answer = memory_client.get("/v1/orders/order-9", headers={"X-Correlation-Id": bad})
    assert len(answer.headers["X-Correlation-Id"]) == 32
    assert answer.json["correlation_id"] == answer.headers["X-Correlation-Id"]


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", True),
        ("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what-will-be", True),
        ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more", False),
        ("ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", False),
        ("00-00000000000000000000000000000000-00f067aa0ba902b7-01", False),
        ("00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", False),
        ("00-4BF92F3577B34DA6A3CE929D0E0E4736-00F067AA0BA902B7-01", False),
        ("nonsense", False),
    ],
)
def test_a_trace_is_passed_on_if_it_is_one(memory_client: ConformingClient, sent: str, kept: bool) -> None:
    body = {"ref": "batch-1", "sku": "RED-CHAIR", "qty": 1, "eta": None}
    memory_client.post("/v1/batches", json=body, headers={"traceparent": sent})
    passed_on = memory_client.events()[0].get("traceparent")
    assert passed_on == ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01" if kept else None)
