"""Batches over HTTP."""

import pytest

from tests.e2e.conforming import ConformingClient


def test_a_new_batch_is_201_with_its_state_its_version_and_its_place_in_the_log(client: ConformingClient) -> None:
    answer = client.has_batch("batch-1", "RED-CHAIR", 100, "2031-05-01")
    assert answer.json == {
        "ref": "batch-1",
        "sku": "RED-CHAIR",
        "qty": 100,
        "available": 100,
        "eta": "2031-05-01",
        "version": 1,
        "position": "0-1",
    }
    assert answer.headers["ETag"] == '"1"'
    assert client.get(answer.headers["Location"]).json["available"] == 100


def test_the_same_batch_again_is_200_with_its_present_state(client: ConformingClient) -> None:
    client.has_batch("batch-1", "RED-CHAIR", 100)
    client.allocate("order-1", "RED-CHAIR", 10)
    client.patch("/v1/batches/batch-1", json={"qty": 50})
    again = client.post("/v1/batches", json={"ref": "batch-1", "sku": "RED-CHAIR", "qty": 100, "eta": None})
    assert again.status_code == 200
    assert (again.json["qty"], again.json["available"], again.json["position"]) == (50, 40, None)


@pytest.mark.parametrize("other", [{"qty": 101}, {"eta": "2031-05-01"}, {"sku": "SMALL-TABLE"}])
def test_the_same_reference_with_other_content_is_409(client: ConformingClient, other: dict[str, object]) -> None:
    client.has_batch("batch-1", "RED-CHAIR", 100)
    body = {"ref": "batch-1", "sku": "RED-CHAIR", "qty": 100, "eta": None} | other
    answer = client.post("/v1/batches", json=body)
    assert answer.status_code == 409
    assert answer.json["ref"] == "batch-1"
    assert len(client.events()) == 1


def test_an_unknown_batch_is_404(client: ConformingClient) -> None:
    assert client.get("/v1/batches/batch-9").status_code == 404
    assert client.patch("/v1/batches/batch-9", json={"qty": 1}).status_code == 404
    assert client.patch("/v1/batches/batch-9", json={"qty": 1}, headers={"If-Match": "*"}).status_code == 404


def test_a_batch_can_turn_out_smaller_and_the_newest_line_gives_way(client: ConformingClient) -> None:
    client.has_batch("batch-1", "RED-CHAIR", 20)
    client.allocate("order-1", "RED-CHAIR", 10)
    client.allocate("order-2", "RED-CHAIR", 10)
    answer = client.patch("/v1/batches/batch-1", json={"qty": 15})
    assert answer.status_code == 200
    assert (answer.json["qty"], answer.json["available"]) == (15, 5)
    assert client.get("/v1/allocations/order-1/RED-CHAIR").json["status"] == "allocated"
    assert client.get("/v1/allocations/order-2/RED-CHAIR").json["status"] == "waiting"


def test_a_batch_can_turn_out_empty(client: ConformingClient) -> None:
    client.has_batch("batch-1", "RED-CHAIR", 20)
    assert client.patch("/v1/batches/batch-1", json={"qty": 0}).json["qty"] == 0


def test_a_new_day_of_arrival_moves_the_promise_and_null_means_it_is_here(client: ConformingClient) -> None:
    client.has_batch("batch-1", "RED-CHAIR", 20, "2031-05-01")
    client.allocate("order-1", "RED-CHAIR", 10)
    client.patch("/v1/batches/batch-1", json={"eta": "2031-06-01"})
    assert client.get("/v1/allocations/order-1/RED-CHAIR").json["eta"] == "2031-06-01"
    client.patch("/v1/batches/batch-1", json={"eta": None})
    assert client.get("/v1/allocations/order-1/RED-CHAIR").json["eta"] is None


def test_quantity_and_day_change_together(client: ConformingClient) -> None:
    client.has_batch("batch-1", "RED-CHAIR", 20)
    answer = client.patch("/v1/batches/batch-1", json={"qty": 30, "eta": "2031-05-01"})
    assert (answer.json["qty"], answer.json["eta"], answer.json["version"]) == (30, "2031-05-01", 3)


def test_a_change_with_the_etag_that_was_read_goes_through(client: ConformingClient) -> None:
    client.has_batch("batch-1", "RED-CHAIR", 20)
    etag = client.get("/v1/batches/batch-1").headers["ETag"]
    changed = client.patch("/v1/batches/batch-1", json={"qty": 30}, headers={"If-Match": etag})
    assert (changed.status_code, changed.headers["ETag"]) == (200, '"2"')
    any_version = client.patch("/v1/batches/batch-1", json={"qty": 40}, headers={"If-Match": "*"})
    assert any_version.status_code == 200
    one_of_two = client.patch("/v1/batches/batch-1", json={"qty": 50}, headers={"If-Match": '"1", "3"'})
    assert one_of_two.status_code == 200


@pytest.mark.parametrize(
    "tag", ['"1"', 'W/"2"', "2", '"two"', '"02"', '"1", W/"2"', "", '"99999999999999999999"', '"-1"']
)
def test_a_change_with_a_stale_weak_or_strange_tag_is_412_and_changes_nothing(
    client: ConformingClient, tag: str
) -> None:
    client.has_batch("batch-1", "RED-CHAIR", 20)
    client.allocate("order-1", "RED-CHAIR", 10)
    answer = client.patch("/v1/batches/batch-1", json={"qty": 30}, headers={"If-Match": tag})
    assert answer.status_code == 412
    assert answer.json["version"] == 2
    assert answer.headers["ETag"] == '"2"'
    assert client.get("/v1/batches/batch-1").json["qty"] == 20


def test_a_batch_that_the_client_has_is_304(client: ConformingClient) -> None:
    client.has_batch("batch-1", "RED-CHAIR", 20)
    assert client.get("/v1/batches/batch-1", headers={"If-None-Match": '"1"'}).status_code == 304
    assert client.get("/v1/batches/batch-1", headers={"If-None-Match": '"0"'}).status_code == 200
