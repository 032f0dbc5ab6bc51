"""Subscriptions that users define, over HTTP."""

import logging
from typing import Any

import pytest

from tests.e2e.conforming import ConformingClient, Json

CHAIRS = "/v1/subscriptions/chairs"
PULL = {"delivery": "pull", "rules": [{"name": "chairs", "filter": "sku LIKE '%-CHAIR'"}], "start": "beginning"}
PUSH = {"delivery": "push", "sink": {"url": "https://shop.example.com/events"}}


def test_what_was_defined_is_told_with_its_place(client: ConformingClient) -> None:
    client.has_batch("b1", "RED-CHAIR", 10)
    made = client.put(CHAIRS, json=PULL)
    assert (made.status_code, made.headers["Location"]) == (201, CHAIRS)
    assert made.json["rules"] == PULL["rules"]
    assert made.json["cursors"] == [{"partition": 0, "position": "0-0", "lag_events": 1}]
    again = client.put(CHAIRS, json=PULL)
    assert (again.status_code, again.json) == (200, made.json)
    read = client.get(CHAIRS).json
    assert read == {name: value for name, value in made.json.items() if name != "secret"}
    assert read in client.get("/v1/subscriptions").json["subscriptions"]


def test_new_ones_start_at_the_head_and_new_rules_keep_the_place(memory_client: ConformingClient) -> None:
    memory_client.has_batch("b1", "RED-CHAIR", 10)
    memory_client.put(CHAIRS, json={"delivery": "pull"})
    assert memory_client.get(CHAIRS).json["cursors"][0]["position"] == "0-1"
    memory_client.allocate("o1", "RED-CHAIR", 1)
    changed = memory_client.put(CHAIRS, json=PULL)
    assert (changed.status_code, changed.json["cursors"][0]["position"]) == (200, "0-1")
    assert [
        d["events"][0]["data"]["orderid"] for d in memory_client.post(CHAIRS + ":receive", json={}).json["deliveries"]
    ] == ["o1"]


ONLY_IF_NEW = {"If-None-Match": "*"}


def test_who_wants_only_to_create_overwrites_nothing(client: ConformingClient) -> None:
    made = client.put(CHAIRS, json=PULL, headers=ONLY_IF_NEW)
    assert made.status_code == 201
    refused = client.put(CHAIRS, json={"delivery": "pull"}, headers=ONLY_IF_NEW)
    assert (refused.status_code, refused.json["type"]) == (412, "/docs#problem-already-defined")
    assert client.get(CHAIRS).json["rules"] == PULL["rules"]
    assert client.put(CHAIRS, json=PULL, headers=ONLY_IF_NEW).status_code == 412
    assert client.put(CHAIRS, json={"delivery": "pull"}).status_code == 200


def test_what_would_be_refused_anyhow_is_refused_for_that(memory_client: ConformingClient) -> None:
    memory_client.put(CHAIRS, json=PULL)
    for body, status in ((PUSH, 409), ({"delivery": "push"}, 422)):
        assert memory_client.put(CHAIRS, json=body, headers=ONLY_IF_NEW).status_code == status
    taken = memory_client.put("/v1/subscriptions/project_stock_levels", json=PULL, headers=ONLY_IF_NEW)
    assert taken.status_code == 409


@pytest.mark.parametrize("condition", ['"1"', "", "*, *", "nonsense"])
def test_a_subscription_has_no_etag_to_be_compared(memory_client: ConformingClient, condition: str) -> None:
    refused = memory_client.put(CHAIRS, json=PULL, headers={"If-None-Match": condition})
    assert (refused.status_code, refused.json["header"]) == (400, "If-None-Match")
    assert memory_client.get(CHAIRS).status_code == 404


def test_what_is_removed_is_gone_with_its_place_and_its_lanes(client: ConformingClient) -> None:
    client.put(CHAIRS, json=PULL)
    client.has_batch("b1", "RED-CHAIR", 10)
    assert client.post(CHAIRS + ":receive", json={}).json["deliveries"]
    assert client.delete(CHAIRS).status_code == 204
    for gone in (client.get(CHAIRS), client.delete(CHAIRS), client.post(CHAIRS + ":receive", json={})):
        assert (gone.status_code, gone.json["type"]) == (404, "/docs#problem-unknown-subscription")
    assert client.get("/v1/lanes").json["lanes"] == []
    assert "chairs" not in [s["name"] for s in client.get("/v1/subscriptions").json["subscriptions"]]
    client.put(CHAIRS, json={**PULL, "start": "head"})
    assert client.post(CHAIRS + ":receive", json={}).json["deliveries"] == []


def test_names_of_built_in_subscriptions_are_taken(memory_client: ConformingClient) -> None:
    for name in ("project_stock_levels", "send_out_of_stock_notification"):
        refused = memory_client.put(f"/v1/subscriptions/{name}", json=PULL)
        assert (refused.status_code, refused.json["type"]) == (409, "/docs#problem-name-taken")


def test_pull_does_not_become_push(memory_client: ConformingClient) -> None:
    memory_client.put(CHAIRS, json=PULL)
    refused = memory_client.put(CHAIRS, json=PUSH)
    assert (refused.status_code, refused.json["type"]) == (409, "/docs#problem-other-delivery")
    assert memory_client.get(CHAIRS).json["delivery"] == "pull"


def test_a_secret_is_told_once_and_never_again(
    memory_client: ConformingClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    made = memory_client.put(CHAIRS, json=PUSH)
    secret = made.json["secret"]
    assert secret.startswith("whsec_")
    later = [memory_client.put(CHAIRS, json=PUSH), memory_client.get(CHAIRS), memory_client.get("/v1/subscriptions")]
    other = "whsec_" + "A" * 32
    later.append(memory_client.put(CHAIRS, json={**PUSH, "sink": {**PUSH["sink"], "secret": other}}))  # type: ignore[dict-item]
    for answer in later:
        assert secret not in answer.text
        assert other not in answer.text
    assert later[0].json["secret"] is None
    assert secret not in caplog.text


def test_pushed_ones_are_not_pulled_from(memory_client: ConformingClient) -> None:
    memory_client.put(CHAIRS, json=PUSH)
    refused = memory_client.post(CHAIRS + ":receive", json={})
    assert (refused.status_code, refused.json["type"]) == (409, "/docs#problem-not-pulled")


def rule(**parts: Any) -> Json:
    return {"delivery": "pull", "rules": [{"name": "r0"}, {"name": "r1", **parts}]}


@pytest.mark.parametrize(
    ("body", "pointer", "words"),
    [
        (rule(filter="qty >"), "#/rules/1/filter", "At character 6"),
        (rule(filter="qty > 1", action="SET qty"), "#/rules/1/action", "At character 8"),
        (rule(correlation={"sys.Nonsense": "x"}), "#/rules/1/correlation", "sys.Nonsense"),
        (rule(correlation={"sys.Label": "x", "sys.Subject": "y"}), "#/rules/1/correlation", "two values"),
        (rule(correlation={}), "#/rules/1/correlation", "at least 1"),
        (rule(correlation={"qty": None}), "#/rules/1/correlation/qty", "must be a text"),
        (rule(correlation={"sku": "x" * 1025}), "#/rules/1/correlation/sku", "1 to 1024"),
        (rule(correlation={"qty": 2**63}), "#/rules/1/correlation/qty", "64-bit"),
        (rule(filter="x" * 1025), "#/rules/1/filter", "at most 1024"),
        (rule(filter="qty > 1", correlation={"a": 1}), "#/rules", "not both"),
        (rule(name="r0"), "#/rules", "differ"),
        (rule(name="a b"), "#/rules/1/name", "must match"),
        ({"delivery": "pull", "rules": []}, "#/rules", "at least 1"),
        ({"delivery": "push"}, "#/sink", "is missing"),
        ({**PUSH, "delivery": "pull"}, "#/sink", "only for subscriptions that are pushed"),
        ({"delivery": "push", "sink": {"url": "ftp://x.example.com"}}, "#/sink/url", "must match"),
        ({"delivery": "push", "sink": {"url": "https://" + "x" * 2001}}, "#/sink/url", "{1,2000}"),
        ({**PUSH, "batch_size": 5001}, "#/batch_size", "5000 or less"),
        ({"delivery": "pull", "start": "middle"}, "#/start", "beginning"),
        ({"delivery": "pull", "filter": "1=1"}, "#/filter", "not known"),
    ],
)
def test_each_fault_is_told_with_its_place(
    memory_client: ConformingClient, body: Json, pointer: str, words: str
) -> None:
    refused = memory_client.put(CHAIRS, json=body)
    assert refused.status_code == 422, refused.text
    [fault] = refused.json["errors"]
    assert fault["pointer"] == pointer
    assert words in fault["detail"]
    assert memory_client.get(CHAIRS).status_code == 404


@pytest.mark.parametrize("name", ["a:b", "x" * 65, "-a", "ä"])
def test_names_are_plain(memory_client: ConformingClient, name: str) -> None:
    refused = memory_client.put(f"/v1/subscriptions/{name}", json=PULL)
    assert (refused.status_code, refused.json["errors"][0]["parameter"]) == (422, "name")
