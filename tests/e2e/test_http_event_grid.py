"""What Azure Event Grid pushes to us: handshakes, who is let in, what is done, what is parked, what comes again."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import monotonic
from typing import Any
from urllib.parse import quote

import pytest
from werkzeug.test import TestResponse

from allocation.bootstrap import Application, bootstrap
from allocation.config import Settings
from allocation.entrypoints.flask_app import create_app
from allocation.service_layer.answers import Answer
from allocation.service_layer.envelope import CommandEnvelope
from allocation.service_layer.errors import SetupError, Unavailable
from tests.e2e.conforming import ConformingClient
from tests.e2e.service import PATIENCE_SECONDS, Service
from tests.fakes import CountingIds
from tests.servers.event_grid import KEY, Delivery, EventGridPeer
from tests.servers.process import LOOPBACK
from tests.servers.webhook import certificate_for

SECRET, OTHER_SECRET = "a-secret-of-ours-1", "a-secret-of-ours-2"
TOPIC = "/subscriptions/5b4b650e-28b9/resourceGroups/shop/providers/Microsoft.EventGrid/topics/orders"
ORIGIN = "eventgrid.azure.net"
PATH, LET_IN = "/v1/event-grid", {"X-Event-Grid-Key": SECRET}
CODE = "512d38b6-c7b8-40c8-89fe-f46f9e9622b6"
Json = dict[str, Any]


class Shop:
    def __init__(self, **settings: Any) -> None:
        chosen = {"event_grid_key": f"{OTHER_SECRET} {SECRET}", "event_grid_from": f"{TOPIC} {ORIGIN}", **settings}
        self.application: Application = bootstrap(Settings(database_url="memory:", **chosen), ids=CountingIds())
        self.client = ConformingClient(create_app(self.application).test_client())
        self.client.has_batch("batch-1", "RED-CHAIR", 20)

    def push(self, events: object, media_type: str = "application/cloudevents-batch+json", **more: Any) -> TestResponse:
        body = events if isinstance(events, bytes) else json.dumps(events).encode()
        headers = {**LET_IN, "aeg-event-type": "Notification", "Content-Type": media_type, **more.pop("headers", {})}
        return self.client.post(PATH, data=body, headers=headers, **more)

    def validate(self, event: object, headers: Any = LET_IN) -> TestResponse:
        kind = {"aeg-event-type": "SubscriptionValidation", "Content-Type": "application/json; charset=utf-8"}
        return self.client.post(PATH, data=json.dumps(event), headers={**headers, **kind})

    def ask_consent(self, headers: Any) -> TestResponse:
        return self.client.open("OPTIONS", PATH, headers=headers)

    def quantities(self) -> list[int]:
        changed = [e for e in self.client.events() if e["type"] == "allocation.BatchQuantityChanged"]
        return [event["data"]["qty"] for event in changed]

    def parked(self) -> list[tuple[str, str]]:
        return [(letter.body, letter.reason) for letter in self.application.dead_letters.newest()]


@pytest.fixture
def shop() -> Iterator[Shop]:
    made = Shop()
    yield made
    made.application.close()


def cloud_event(qty: int, id: str = "e-1", **more: object) -> Json:
    data = {"ref": "batch-1", "qty": qty}
    return {
        "specversion": "1.0", "id": id, "source": "/erp", "type": "allocation.ChangeBatchQuantity", "data": data, **more
    }  # fmt: skip


def grid_event(qty: int, id: str = "e-1", **more: object) -> Json:
    return {
        "id": id,
        "topic": TOPIC,
        "subject": "batch-1",
        "eventType": "allocation.ChangeBatchQuantity",
        "eventTime": "2031-03-01T12:00:00.0000000Z",
        "data": {"ref": "batch-1", "qty": qty},
        "dataVersion": "1.0",
        "metadataVersion": "1",
        **more,
    }


def validation(topic: str = TOPIC, **more: object) -> Json:
    data = {"validationCode": CODE, "validationUrl": "https://rp-eastus2.eventgrid.azure.net/eventsubscriptions/x"}
    kind = "Microsoft.EventGrid.SubscriptionValidationEvent"
    return {**grid_event(0, eventType=kind, data=data, topic=topic), **more}


# Handshakes


@pytest.mark.parametrize("topic", [TOPIC, TOPIC.upper()])
def test_the_validation_of_a_topic_that_was_asked_for_gets_its_code_back_with_200(shop: Shop, topic: str) -> None:
    answer = shop.validate([validation(topic)])
    assert answer.status_code == 200, "202 fails, though it is an acknowledgement"
    assert answer.json == {"validationResponse": CODE}
    assert answer.content_type == "application/json"


def test_the_validation_of_a_topic_that_nobody_asked_for_is_refused_without_its_code(shop: Shop) -> None:
    for stranger in (TOPIC + "2", "/subscriptions/x/topics/y", ""):
        answer = shop.validate([validation(stranger)])
        assert answer.status_code == 403
        assert CODE not in answer.text


@pytest.mark.parametrize(
    "body",
    [
        [],
        {},
        [validation(), validation()],
        [validation(data={})],
        [validation(data={"validationCode": 7})],
        [validation(data={"validationCode": "x" * 300})],
        [validation(eventType="other")],
        [validation(topic=None)],
        [7],
    ],
)
def test_what_is_no_validation_is_not_answered_as_one(shop: Shop, body: object) -> None:
    answer = shop.validate(body)
    assert answer.status_code in (400, 422)
    assert CODE not in answer.text


def test_consent_goes_to_an_origin_that_was_asked_for(shop: Shop) -> None:
    answer = shop.ask_consent({**LET_IN, "WebHook-Request-Origin": ORIGIN, "WebHook-Request-Rate": "120"})
    assert answer.status_code == 200
    assert answer.headers["WebHook-Allowed-Origin"] == ORIGIN
    assert answer.headers["WebHook-Allowed-Rate"] == "*"


def test_consent_goes_to_nobody_else(shop: Shop) -> None:
    assert shop.ask_consent({**LET_IN, "WebHook-Request-Origin": "evil.example.com"}).status_code == 403
    assert shop.ask_consent(LET_IN).status_code == 400
    for answer in (
        shop.ask_consent({**LET_IN, "WebHook-Request-Origin": "evil.example.com"}),
        shop.ask_consent({"WebHook-Request-Origin": ORIGIN}),
    ):
        assert "WebHook-Allowed-Origin" not in answer.headers


# Who is let in


@pytest.mark.parametrize("headers", [{}, {"X-Event-Grid-Key": ""}, {"X-Event-Grid-Key": SECRET[:-1]}])
@pytest.mark.parametrize("query", ["", "?code=", "?code=wrong", f"?code={SECRET}x"])
def test_nobody_is_let_in_without_the_secret(shop: Shop, headers: Json, query: str) -> None:
    body = json.dumps([cloud_event(5)])
    kind = {"Content-Type": "application/cloudevents-batch+json"}
    assert shop.client.post(PATH + query, data=body, headers={**kind, **headers}).status_code == 401
    asking = {"aeg-event-type": "SubscriptionValidation", "Content-Type": "application/json", **headers}
    assert shop.client.post(PATH + query, data=json.dumps([validation()]), headers=asking).status_code == 401
    consent = shop.client.open("OPTIONS", PATH + query, headers={"WebHook-Request-Origin": ORIGIN, **headers})
    assert consent.status_code == 401
    assert shop.quantities() == []


def test_the_secret_may_come_in_the_address_and_two_count_while_they_change(shop: Shop) -> None:
    kind = {"Content-Type": "application/cloudevents-batch+json"}
    for number, secret in enumerate((SECRET, OTHER_SECRET)):
        body = json.dumps([cloud_event(5 + number, f"e-{number}")])
        assert shop.client.post(f"{PATH}?code={secret}", data=body, headers=kind).status_code == 200
    assert shop.quantities() == [5, 6]


def test_where_no_secret_is_set_nobody_is_let_in() -> None:
    shop = Shop(event_grid_key="")
    for headers in (LET_IN, {"X-Event-Grid-Key": ""}, {}):
        assert shop.validate([validation()], headers).status_code == 401
    shop.application.close()


def test_the_secret_is_in_no_log_and_in_no_answer(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    kind = {"Content-Type": "application/cloudevents-batch+json"}
    answers = [
        shop.client.post(f"{PATH}?code={SECRET}", data="[7]", headers=kind),
        shop.client.post(f"{PATH}?code={SECRET}&code={SECRET}", data="[]", headers=kind),
        shop.client.post(f"{PATH}?other={SECRET}", data="[]", headers=kind),
        shop.push([cloud_event(-5)]),
    ]
    assert [answer.status_code for answer in answers] == [200, 422, 422, 200]
    assert SECRET not in caplog.text
    assert all(SECRET not in answer.text for answer in answers)


@pytest.mark.parametrize("wrong", ["short", "with a space in", "x" * 201])
def test_a_secret_has_some_length(wrong: str) -> None:
    with pytest.raises((SetupError, ValueError)):
        Settings(database_url="memory:", event_grid_key=wrong)


# What is done


@pytest.mark.parametrize(
    ("events", "media_type"),
    [
        ([cloud_event(5), cloud_event(7, "e-2")], "application/cloudevents-batch+json; charset=utf-8"),
        ([grid_event(5), grid_event(7, "e-2")], "application/json; charset=utf-8"),
        ([grid_event(5, dataVersion=""), cloud_event(7, "e-2")], "application/json"),
    ],
)
def test_commands_come_in_either_schema(shop: Shop, events: list[Json], media_type: str) -> None:
    answer = shop.push(events, media_type)
    assert (answer.status_code, answer.json) == (200, {"done": 2, "parked": 0})
    assert shop.quantities() == [5, 7]


def test_one_may_come_alone(shop: Shop) -> None:
    assert shop.push(cloud_event(5), "application/cloudevents+json; charset=utf-8").json == {"done": 1, "parked": 0}
    assert shop.push(grid_event(6, "e-2"), "application/json").json == {"done": 1, "parked": 0}
    binary = {"ce-specversion": "1.0", "ce-id": "e-3", "ce-source": "/erp", "ce-type": "allocation.ChangeBatchQuantity"}
    assert shop.push({"ref": "batch-1", "qty": 7}, "application/json", headers=binary).json == {"done": 1, "parked": 0}
    assert shop.quantities() == [5, 6, 7]


@pytest.mark.parametrize("event", [cloud_event, grid_event])
def test_the_same_event_twice_has_one_effect(shop: Shop, event: Any) -> None:
    for events in ([event(5)], [event(5), event(5)], [event(9, "e-2"), event(5)]):
        assert shop.push(events, "application/json").status_code == 200
    assert shop.quantities() == [5, 9]


POISON: dict[str, tuple[object, str]] = {
    "an unknown type": (cloud_event(5, "p-1", type="allocation.Explode"), "Explode"),
    "the type of another": (grid_event(5, "p-1", eventType="Microsoft.Storage.BlobCreated"), "Microsoft.Storage"),
    "an unknown schema version": (grid_event(5, "p-1", dataVersion="2.0"), "schema version"),
    "a version that is no text": (grid_event(5, "p-1", dataVersion={}), "schemaversion"),
    "an unknown batch": (cloud_event(5, "p-1", data={"ref": "batch-9", "qty": 5}), "batch-9"),
    "wrong types": (cloud_event(5, "p-1", data={"ref": "batch-1", "qty": "5"}), "qty"),
    "no id": (grid_event(5, id=""), "id"),
    "no topic": (grid_event(5, "p-1", topic=""), "source"),
    "a number": (7, "object"),
    "nothing": (None, "object"),
}


@pytest.mark.parametrize("kind", POISON)
def test_what_cannot_be_done_is_parked_as_it_came_and_the_others_are_done(shop: Shop, kind: str) -> None:
    poison, word = POISON[kind]
    answer = shop.push([cloud_event(5, "e-1"), poison, cloud_event(7, "e-2")], "application/json")
    assert (answer.status_code, answer.json) == (200, {"done": 2, "parked": 1})
    assert shop.quantities() == [5, 7]
    [(body, reason)] = shop.parked()
    assert json.loads(body) == poison
    assert word in reason


@pytest.mark.parametrize("body", [b"", b"[", b'{"a":', b"\xff\xfe", b"[" * 100_000, b"null"])
def test_a_request_that_is_no_json_is_parked_whole(shop: Shop, body: bytes) -> None:
    answer = shop.push(body)
    assert (answer.status_code, answer.json) == (200, {"done": 0, "parked": 1})
    assert len(shop.parked()) == 1


def test_bodies_have_a_limit_and_a_media_type(shop: Shop) -> None:
    assert shop.push(b"[" + b" " * 1_048_576 + b"]").status_code == 413
    assert shop.push([cloud_event(5)], "text/plain").status_code == 415
    assert shop.push([cloud_event(5)], headers={"Content-Encoding": "gzip"}).status_code == 415
    assert (shop.quantities(), shop.parked()) == ([], [])


# What has to come again


def test_a_passing_fault_is_503_and_the_event_comes_again(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object) -> None:
        raise Unavailable("the database is away")

    with monkeypatch.context() as fault:
        fault.setattr(shop.application.bus, "handle_many", away)
        answer = shop.push([cloud_event(5)])
        assert answer.status_code == 503
        assert answer.headers["Retry-After"] == "1"
    assert shop.push([cloud_event(5)]).status_code == 200
    assert shop.quantities() == [5]


def test_what_cannot_be_parked_now_comes_again(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object) -> None:
        raise Unavailable("the database is away")

    with monkeypatch.context() as fault:
        fault.setattr(shop.application.dead_letters, "keep", away)
        assert shop.push([cloud_event(5), 7]).status_code == 503
        assert shop.push(b"[").status_code == 503
    assert shop.push([cloud_event(5), 7]).json == {"done": 1, "parked": 1}
    assert shop.quantities() == [5]


def test_what_comes_again_for_the_sake_of_another_is_parked_once(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    events = [7, *(cloud_event(5, f"e-{number}") for number in range(250))]  # more than one group

    def busy(envelopes: Sequence[CommandEnvelope]) -> Sequence[Answer]:
        return [Answer(error=Unavailable("a product is locked")) for _ in envelopes]

    with monkeypatch.context() as fault:
        fault.setattr(shop.application.bus, "handle_many", busy)
        assert [shop.push(events).status_code for _ in range(2)] == [503, 503]
    assert shop.push(events).json == {"done": 250, "parked": 1}
    assert [body for body, _ in shop.parked()] == ["7"]


# The book's flow


class TrustingService(Service):
    """One whose HTTPS clients trust a certificate of ours."""

    def __init__(self, certificate: Path, **settings: object) -> None:
        super().__init__(**settings)
        self._certificate = certificate

    def environment(self) -> dict[str, str]:
        return super().environment() | {"REQUESTS_CA_BUNDLE": str(self._certificate)}


@pytest.mark.slow
def test_a_change_of_quantity_comes_in_by_event_grid_and_the_reallocation_goes_out_by_it(tmp_path: Path) -> None:
    peer = EventGridPeer(certificate_for(tmp_path, address=LOOPBACK))
    peer.start()
    out = f"eventgrid+https://:{quote(KEY, safe='')}@{LOOPBACK}:{peer.http.port}/api/events"
    settings = {"publish_to": out, "event_grid_key": SECRET, "event_grid_from": f"{TOPIC} {ORIGIN}"}
    with TrustingService(peer.certificate, namespace="shop", **settings) as service:
        for ref, eta in (("early", None), ("late", "2031-01-02")):
            assert service.ask("POST", "/add_batch", {"ref": ref, "sku": "LAMP", "qty": 100, "eta": eta})[0] == 201
        assert service.ask("POST", "/allocate", {"orderid": "o1", "sku": "LAMP", "qty": 100})[0] == 202
        azure = Delivery(f"http://{LOOPBACK}:{service.port}{PATH}?code={SECRET}", {})
        assert azure.validate_by_event(TOPIC, CODE).json() == {"validationResponse": CODE}
        assert azure.validate_by_options(ORIGIN).headers["webhook-allowed-origin"] == ORIGIN
        change = cloud_event(5, data={"ref": "early", "qty": 5})
        for _ in range(2):
            assert azure.push([change]).status == 200
        told = {("allocation.Deallocated", "early"), ("allocation.Allocated", "late")}

        def all_told() -> bool:
            facts = [event for event in peer.accepted if event["topic"] == "shop.facts"]
            return told <= {(event["type"], event["data"].get("batchref")) for event in facts}

        deadline = monotonic() + PATIENCE_SECONDS
        with peer.changed:
            assert peer.changed.wait_for(all_told, deadline - monotonic()), peer.accepted
        facts = [event["type"] for event in peer.accepted if event["topic"] == "shop.facts"]
        assert facts.count("allocation.BatchQuantityChanged") == 1, "the event that came twice was done once"
        assert service.ask("GET", "/allocations/o1") == (200, [{"sku": "LAMP", "batchref": "late"}])
    peer.stop()
