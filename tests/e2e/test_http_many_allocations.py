"""Many order lines in one request."""

from typing import Any

import pytest

from tests.e2e.conforming import ConformingClient

KEY = {"Idempotency-Key": "basket-7"}


def line(orderid: str, sku: str = "RED-CHAIR", qty: int = 10, **more: str) -> dict[str, Any]:
    return {"orderid": orderid, "sku": sku, "qty": qty, **more}


def ask(client: ConformingClient, *lines: dict[str, Any], **more: Any) -> list[dict[str, Any]]:
    answer = client.post("/v1/allocations:batch", json={"lines": lines}, **more)
    assert answer.status_code == 200
    return answer.json["answers"]  # type: ignore[no-any-return]  # JSON


def test_each_line_has_the_answer_that_it_would_have_had_alone(client: ConformingClient) -> None:
    client.has_batch("batch-1", "RED-CHAIR", 15)
    answers = ask(
        client,
        line("order-1"),
        line("order-1"),
        line("order-2"),
        line("order-3", if_short="wait"),
        line("order-4", sku="RED-CHIAR"),
        line("order-5", qty=5),
    )
    assert [answer["status"] for answer in answers] == [201, 200, 409, 202, 404, 201]
    assert answers[0]["allocation"]["batchref"] == answers[5]["allocation"]["batchref"] == "batch-1"
    assert answers[2]["problem"]["type"] == "/docs#problem-out-of-stock"
    assert answers[4]["problem"]["detail"].startswith("Invalid sku RED-CHIAR")
    assert client.get("/v1/allocations/order-3/RED-CHAIR").json["status"] == "waiting"


def test_they_share_a_transaction_and_a_correlation(client: ConformingClient) -> None:
    client.has_batch("batch-1", "RED-CHAIR", 100)
    ask(client, *(line(f"order-{n}", qty=1) for n in range(5)), headers={"X-Correlation-Id": "basket"})
    told = [event for event in client.events() if event["type"].endswith("Allocated")]
    assert [event["correlationid"] for event in told] == ["basket"] * 5
    assert len({event["time"] for event in told}) == 1
    assert len({event["causationid"] for event in told}) == 5


def test_under_a_key_each_line_is_done_once_and_answered_again(client: ConformingClient) -> None:
    client.has_batch("batch-1", "RED-CHAIR", 100)
    lines = [line(f"order-{n}") for n in range(3)] + [line("order-9", sku="RED-CHIAR")]
    first = ask(client, *lines[:2], headers=KEY | {"X-Correlation-Id": "a"})
    again = ask(client, *lines, headers=KEY | {"X-Correlation-Id": "a"})
    assert again[:2] == first
    assert [answer["status"] for answer in again] == [201, 201, 201, 404]
    assert [answer["status"] for answer in ask(client, *reversed(lines), headers=KEY)] == [422] * 4
    assert client.get("/v1/batches/batch-1").json["available"] == 70


@pytest.mark.parametrize(
    ("lines", "pointer"),
    [
        ([], "#/lines"),
        ([line(f"order-{n}", qty=1) for n in range(1_001)], "#/lines"),
        ([line("order-1"), line("order-2", qty=0)], "#/lines/1/qty"),
    ],
    ids=["none", "too many", "one is wrong"],
)
def test_a_request_that_is_wrong_does_nothing(
    client: ConformingClient, lines: list[dict[str, Any]], pointer: str
) -> None:
    client.has_batch("batch-1", "RED-CHAIR", 100)
    before = client.events()
    answer = client.post("/v1/allocations:batch", json={"lines": lines})
    assert (answer.status_code, answer.json["errors"][0]["pointer"]) == (422, pointer)
    assert client.events() == before
