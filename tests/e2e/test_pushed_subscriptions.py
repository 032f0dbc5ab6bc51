"""A webhook that a user defines: pushed by the worker from the next moment on, until it is gone or removed."""

from collections.abc import Iterator

import pytest
from standardwebhooks import Webhook

from allocation.bootstrap import Application, bootstrap
from allocation.config import Settings
from allocation.domain.commands import Allocate, CreateBatch
from allocation.entrypoints.flask_app import create_app
from tests.e2e.conforming import ConformingClient, Json
from tests.servers.webhook import Reply, WebhookReceiver

CHAIR, TABLE = "RED-CHAIR", "SMALL-TABLE"
HOOK = "/v1/subscriptions/hook"


@pytest.fixture
def receiver() -> Iterator[WebhookReceiver]:
    with WebhookReceiver() as made:
        yield made


@pytest.fixture
def shop(sqlite_url: str) -> Iterator[Application]:
    """A shop with stock, whose worker runs."""
    application = bootstrap(Settings(database_url=sqlite_url, push_to_private="127.0.0.0/8"))
    application.worker.start()
    application.pushers.start()
    for sku in (CHAIR, TABLE):
        application.bus.handle(CreateBatch(f"batch-of-{sku}", sku, 1000))
    yield application
    application.close()


@pytest.fixture
def client(shop: Application) -> ConformingClient:
    return ConformingClient(create_app(shop).test_client())


def wanted(receiver: WebhookReceiver, **more: object) -> Json:
    return {"delivery": "push", "sink": {"url": receiver.url}, **more}


def orders(receiver: WebhookReceiver) -> list[str]:
    return [event["data"]["orderid"] for request in receiver.posts() for event in request.events()]


def order(shop: Application, *orderids: str, sku: str = CHAIR) -> None:
    for orderid in orderids:
        shop.bus.handle(Allocate(orderid, sku, 1))


def test_what_happens_is_pushed_signed_with_the_secret_that_was_told(
    shop: Application, client: ConformingClient, receiver: WebhookReceiver
) -> None:
    made = client.put(HOOK, json=wanted(receiver))
    assert made.status_code == 201
    order(shop, "o1", "o2")
    assert receiver.wait_for(lambda: orders(receiver) == ["o1", "o2"])
    signed = [Webhook(made.json["secret"]).verify(r.body, dict(r.headers)) for r in receiver.posts()]
    assert [told["data"]["orderid"] for told in signed] == ["o1", "o2"]


def test_rules_and_batches_take_effect_while_it_runs(
    shop: Application, client: ConformingClient, receiver: WebhookReceiver
) -> None:
    client.put(HOOK, json=wanted(receiver, rules=[{"name": "tables", "correlation": {"sku": TABLE}}]))
    order(shop, "o1")
    order(shop, "o2", sku=TABLE)
    assert receiver.wait_for(lambda: orders(receiver) == ["o2"])
    client.put(HOOK, json=wanted(receiver, batch_size=10, rules=[{"name": "none", "filter": "qty > 5"}]))
    order(shop, "o3", sku=TABLE)
    shop.bus.handle(Allocate("o4", CHAIR, 6))
    assert receiver.wait_for(lambda: "o4" in orders(receiver))
    assert orders(receiver) == ["o2", "o4"]
    assert receiver.posts()[-1].headers["content-type"] == "application/cloudevents-batch+json"


def test_who_is_gone_is_stopped_shown_and_started_by_a_new_put_and_others_go_on(
    shop: Application, client: ConformingClient, receiver: WebhookReceiver
) -> None:
    receiver.answers_with(Reply(410, body=b"moved"))
    with WebhookReceiver() as other:
        client.put(HOOK, json=wanted(receiver))
        client.put("/v1/subscriptions/other", json=wanted(other))
        order(shop, "o1", "o2")
        assert other.wait_for(lambda: orders(other) == ["o1", "o2"])
    while client.get(HOOK).json["stopped"] is None:
        assert len(receiver.posts()) <= 1
    assert "410" in client.get(HOOK).json["stopped"]
    assert orders(receiver) == ["o1"]
    again = client.put(HOOK, json=wanted(receiver))
    assert (again.status_code, again.json["stopped"]) == (200, None)
    assert receiver.wait_for(lambda: orders(receiver) == ["o1", "o1", "o2"])


def test_what_is_refused_waits_in_its_lane_and_other_skus_go_on(
    shop: Application, client: ConformingClient, receiver: WebhookReceiver
) -> None:
    receiver.answers = lambda request: Reply(400 if CHAIR in request.body.decode() else 204)
    client.put(HOOK, json=wanted(receiver))
    order(shop, "o1")
    order(shop, "o2", sku=TABLE)
    assert receiver.wait_for(lambda: "o2" in orders(receiver))
    while not (lanes := client.get("/v1/lanes").json["lanes"]):
        assert orders(receiver).count("o1") == 1
    assert [(x["subscription"], x["key"], x["due_at"]) for x in lanes] == [("hook", CHAIR, None)]
    receiver.answers_with()
    client.post(f"/v1/lanes/hook/{CHAIR}/retry")
    assert receiver.wait_for(lambda: orders(receiver)[-1] == "o1")


def test_what_is_removed_is_pushed_no_more(
    shop: Application, client: ConformingClient, receiver: WebhookReceiver
) -> None:
    with WebhookReceiver() as other:
        client.put(HOOK, json=wanted(receiver))
        client.put("/v1/subscriptions/other", json=wanted(other))
        order(shop, "o1")
        assert receiver.wait_for(lambda: orders(receiver) == ["o1"])
        assert client.delete(HOOK).status_code == 204
        order(shop, "o2")
        assert other.wait_for(lambda: orders(other) == ["o1", "o2"])
    assert orders(receiver) == ["o1"]
    assert "hook" not in [s["name"] for s in client.get("/v1/subscriptions").json["subscriptions"]]


def test_workers_share_what_is_pushed_and_nothing_comes_twice(
    shop: Application, client: ConformingClient, receiver: WebhookReceiver
) -> None:
    second = bootstrap(shop.settings)
    second.worker.start()
    second.pushers.start()
    try:
        with WebhookReceiver() as other:
            client.put(HOOK, json=wanted(receiver))
            client.put("/v1/subscriptions/other", json=wanted(other))
            wished = [f"o{n}" for n in range(10)]
            order(shop, *wished)
            assert receiver.wait_for(lambda: len(orders(receiver)) >= 10)
            assert other.wait_for(lambda: len(orders(other)) >= 10)
            assert orders(receiver) == orders(other) == wished
    finally:
        second.close()


@pytest.mark.parametrize(
    "sink", [{"url": "http://user@"}, {"url": "https://x.example.com/", "secret": "whsec_" + "A" * 33}]
)
def test_a_sink_that_nothing_can_be_pushed_to_is_refused(client: ConformingClient, sink: Json) -> None:
    refused = client.put(HOOK, json={"delivery": "push", "sink": sink})
    assert refused.status_code == 422
    assert refused.json["errors"][0]["pointer"] == "#/sink"
