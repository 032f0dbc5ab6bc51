"""The event feed over HTTP."""

from datetime import datetime

import pytest

from allocation.bootstrap import bootstrap
from allocation.config import Settings
from allocation.entrypoints.flask_app import create_app
from allocation.entrypoints.http.cursors import ForgedCursor, decode_cursor, encode_cursor
from allocation.service_layer.envelope import BEYOND, LogPosition
from allocation.service_layer.errors import UnknownPosition
from tests.e2e.conforming import ConformingClient

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def test_an_event_is_a_cloud_event_that_tells_what_led_to_it(client: ConformingClient) -> None:
    client.has_batch("batch-1", "RED-CHAIR", 100)
    client.allocate("order-1", "RED-CHAIR", 10, headers={"X-Correlation-Id": "cart-7", "traceparent": TRACE})
    event = client.events()[1]
    assert datetime.fromisoformat(event.pop("time")).utcoffset() is not None
    assert len(event.pop("id")) == 32
    assert event.pop("causationid")
    assert event == {
        "specversion": "1.0",
        "source": "/allocation",
        "type": "allocation.Allocated",
        "subject": "RED-CHAIR",
        "datacontenttype": "application/json",
        "data": {"orderid": "order-1", "sku": "RED-CHAIR", "qty": 10, "batchref": "batch-1"},
        "schemaversion": 1,
        "partition": 0,
        "sequence": "00000000000000000002",
        "productversion": 2,
        "correlationid": "cart-7",
        "traceparent": TRACE,
    }


def test_the_feed_is_read_page_by_page_and_on_from_its_end(client: ConformingClient) -> None:
    client.has_batch("batch-1", "RED-CHAIR", 100)
    for n in range(4):
        client.allocate(f"order-{n}", "RED-CHAIR", 10)
    seen, after = [], ""
    for expected in (2, 2, 1, 0):
        page = client.get(f"/v1/events?limit=2{after}").json
        assert len(page["events"]) == expected
        seen += [int(event["sequence"]) for event in page["events"]]
        after = f"&after={page['next']}"
    assert seen == [1, 2, 3, 4, 5]
    client.allocate("order-9", "RED-CHAIR", 10)
    assert [e["data"]["orderid"] for e in client.get(f"/v1/events?{after[1:]}").json["events"]] == ["order-9"]


def test_an_empty_log_gives_a_cursor_to_start_from(client: ConformingClient) -> None:
    page = client.get("/v1/events").json
    assert page["events"] == []
    client.has_batch("batch-1", "RED-CHAIR", 100)
    assert len(client.get(f"/v1/events?after={page['next']}").json["events"]) == 1


def test_the_feed_of_one_product_leaves_out_the_others(client: ConformingClient) -> None:
    client.has_batch("batch-1", "RED-CHAIR", 100)
    client.has_batch("batch-2", "SMALL-TABLE", 100)
    client.allocate("order-1", "RED-CHAIR", 10)
    events = client.get("/v1/events?sku=RED-CHAIR").json["events"]
    assert [(e["subject"], e["productversion"]) for e in events] == [("RED-CHAIR", 1), ("RED-CHAIR", 2)]
    assert client.get("/v1/events?sku=RED-CHIAR").json["events"] == []


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=1001",
        "limit=1000000000",
        "limit=-1",
        "limit=%2B1",
        "limit=1.0",
        "limit=",
        "limit=%D9%A1",
        "limit=1&limit=2",
        "limt=1",
        "limit",
        "sku=",
        "sku=RED%20CHAIR",
        "sku=%00",
        "after=",
        "after=0-1.0-2",
        "after=0-01",
        "after=0-",
        "after=0-1.",
        "after=0--1",
        "after=0-" + "9" * 19,
        "after=MC0x",
        "after=AAAAADAtMQ",
        "after=%FF",
        "after=" + "A" * 3000,
        "after_version=1",
        "after_version=1&sku=",
        "after_version=-1&sku=RED-CHAIR",
        "after_version=1.0&sku=RED-CHAIR",
        "after_version=&sku=RED-CHAIR",
        "after_version=" + "9" * 19 + "&sku=RED-CHAIR",
        "after_version=1&sku=RED-CHAIR&after=0-1",
        "&".join(f"p{n}=1" for n in range(1000)),
    ],
)
def test_a_parameter_that_cannot_be_meant_is_422_and_is_named(memory_client: ConformingClient, query: str) -> None:
    answer = memory_client.get(f"/v1/events?{query}")
    assert answer.status_code == 422
    assert answer.json["errors"][0]["parameter"]


def test_a_cursor_comes_back_as_it_went_out_and_no_other_way() -> None:
    positions = [LogPosition(0, 5), LogPosition(2, 10**17)]
    token = encode_cursor(positions)
    assert decode_cursor(token, partitions=3) == positions
    assert decode_cursor(encode_cursor([]), partitions=1) == []
    spellings = [token + "=", token + "\n", " " + token, token[:-1], token.swapcase(), token[:4] + "!" + token[4:]]
    wrong_numbers = [[LogPosition(1, 1), LogPosition(1, 2)], [LogPosition(0, 10**18)]]
    plain = ["0-1.0-1", "3-1.3-1", "0-1.", ".0-1", "0-1,1-1", "0-1 ", "0-1\n", "00-1", "0-\u0661", f"0-{10**18}"]
    for forged in [*spellings, *map(encode_cursor, wrong_numbers), *plain, "", "é", "\ud800"]:
        with pytest.raises(ForgedCursor):
            decode_cursor(forged, partitions=3)
    for of_another_log in (encode_cursor([LogPosition(3, 1)]), "3-1", f"0-1.3-{BEYOND}"):
        with pytest.raises(UnknownPosition):
            decode_cursor(of_another_log, partitions=3)


def test_positions_may_stand_for_themselves() -> None:
    assert decode_cursor("0-5", partitions=1) == [LogPosition(0, 5)]
    assert decode_cursor("2-0.0-17", partitions=3) == [LogPosition(2, 0), LogPosition(0, 17)]
    for positions in ([LogPosition(0, 0)], [LogPosition(n, 10**n) for n in range(18)]):
        assert not set(encode_cursor(positions)).isdisjoint("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")


def test_what_was_missed_is_asked_for_by_a_position_that_a_message_told(client: ConformingClient) -> None:
    client.has_batch("batch-1", "RED-CHAIR", 100)
    position = client.allocate("order-1", "RED-CHAIR", 10).json["position"]
    client.has_batch("batch-2", "SMALL-TABLE", 100)
    page = client.get(f"/v1/events?after={position}&limit=10").json
    assert [event["subject"] for event in page["events"]] == ["SMALL-TABLE"]
    assert client.get(f"/v1/events?after={page['next']}").json["events"] == []
    assert len(client.get("/v1/events?after=0-0").json["events"]) == 3
    assert client.get(f"/v1/events?after=0-{BEYOND}").json["events"] == []


def test_a_cursor_that_the_log_does_not_reach_is_422(client: ConformingClient) -> None:
    """As after a restore from a backup, or if the log was created anew with fewer partitions: who holds it has seen
    what is gone."""
    client.has_batch("batch-1", "RED-CHAIR", 100)
    client.allocate("order-1", "RED-CHAIR", 10)
    for path in ("/v1/events", "/v1/events?sku=RED-CHAIR", "/v1/stock", "/v1/orders/order-1/history"):
        for after in ("0-3", "0-50", "0-1.1-1", *map(encode_cursor, ([LogPosition(0, 3)], [LogPosition(1, 1)]))):
            answer = client.get(f"{path}{'&' if '?' in path else '?'}after={after}")
            assert (answer.status_code, answer.json["type"]) == (422, "/docs#problem-unknown-position"), path
        for after in ("0-2", encode_cursor([LogPosition(0, 2)]), f"0-{BEYOND}"):
            assert client.get(f"{path}{'&' if '?' in path else '?'}after={after}").status_code == 200


def test_what_was_missed_of_a_product_is_asked_for_by_its_version(client: ConformingClient) -> None:
    client.has_batch("batch-1", "RED-CHAIR", 100)
    client.has_batch("batch-2", "SMALL-TABLE", 100)
    for n in range(4):
        client.allocate(f"order-{n}", "RED-CHAIR", 10)

    def versions(query: str) -> list[int]:
        return [event["productversion"] for event in client.get(f"/v1/events?sku=RED-CHAIR&{query}").json["events"]]

    assert versions("after_version=2&limit=2") == [3, 4]
    assert versions("after_version=0") == [1, 2, 3, 4, 5]
    assert versions("after_version=5") == versions("after_version=9") == []
    last = client.get("/v1/events?sku=RED-CHAIR&after_version=3&limit=1").json["next"]
    assert versions(f"after={last}") == [5]
    assert client.get("/v1/events?sku=NOBODYS&after_version=3").json["events"] == []


def test_one_cursor_follows_all_partitions_of_the_log() -> None:
    application = bootstrap(Settings(database_url="memory:", log_partitions=4))
    client = ConformingClient(create_app(application).test_client())
    for n in range(20):
        client.has_batch(f"batch-{n}", f"SKU-{n}", 10)
    seen, after = set(), ""
    while events := (page := client.get(f"/v1/events?limit=7{after}").json)["events"]:
        seen |= {(event["partition"], event["sequence"]) for event in events}
        after = f"&after={page['next']}"
    assert len(seen) == 20
    assert len({partition for partition, _ in seen}) > 1
