"""One trace, from the HTTP request through the log and a broker into the consumer and what that leads to."""

from __future__ import annotations

import gzip
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event as Flag
from threading import Thread
from typing import Any, ClassVar

import pytest
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

import allocation
from allocation.adapters.brokers import registry
from allocation.adapters.stores import Store, memory_store
from allocation.adapters.telemetry.metrics import PrometheusMeter
from allocation.adapters.telemetry.tracing import GOODBYE_SECONDS, ExportingTracer, OtelTracer
from allocation.bootstrap import Application, bootstrap, tracer_for
from allocation.config import Settings
from allocation.domain.commands import Allocate, CreateBatch
from allocation.entrypoints.consumer import Consumer
from allocation.entrypoints.flask_app import create_app
from allocation.service_layer.broker import COMMANDS, FACTS, Message, Publisher
from allocation.service_layer.errors import Rejected, SetupError, Unavailable
from allocation.service_layer.observing import Telemetry, Tracer
from allocation.service_layer.ports import Notifications
from tests.patience import PATIENCE_SECONDS, wait_until
from tests.servers.process import LOOPBACK
from tests.servers.webhook import WebhookReceiver

CHAIR, MAIL = "RED-CHAIR", "send_out_of_stock_notification"
TRACE_ID, CLIENT_SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE_ID}-{CLIENT_SPAN}-01"


class Overheard(Publisher):
    """A broker's publisher; what went out through it can be looked at."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher, self.capabilities = publisher, publisher.capabilities
        self.heard: list[tuple[str, Message]] = []

    @property
    def facts(self) -> list[Message]:
        return [message for topic, message in self.heard if topic == FACTS]

    def publish(self, topic: str, messages: Sequence[Message]) -> Sequence[Exception | None]:
        self.heard += [(topic, message) for message in messages]
        return self._publisher.publish(topic, messages)

    def close(self) -> None:
        self._publisher.close()


class Refusing(Notifications):
    def send(self, destination: str, subject: str, body: str, message_id: str) -> None:
        raise Rejected("no such user")


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def telemetry(exporter: InMemorySpanExporter) -> Telemetry:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return Telemetry(tracer=OtelTracer(provider))


Start = Callable[..., tuple[Application, Overheard]]


@pytest.fixture
def start(telemetry: Telemetry, database_url: str) -> Iterator[Start]:
    started: list[Application] = []

    def build(url: str, namespace: str) -> tuple[Application, Overheard]:
        name = url.partition(":")[0]
        publisher = Overheard(registry.publishers(url, namespace)[name])
        settings = Settings(database_url=database_url)
        started.append(bootstrap(settings, notifications=Refusing(), publishers={name: publisher}, telemetry=telemetry))
        return started[0], publisher

    yield build
    for application in started:
        application.close()


def named(exporter: InMemorySpanExporter, name: str) -> ReadableSpan:
    [found] = [span for span in exporter.get_finished_spans() if span.name == name]
    return found


def span_id(span: ReadableSpan) -> int:
    context = span.get_span_context()
    assert context is not None
    return context.span_id


def parent_id(span: ReadableSpan) -> int:
    assert span.parent is not None
    return span.parent.span_id


@pytest.mark.parametrize("broker", ["memory:", "redis+streams"])
def test_one_trace_from_the_request_through_log_and_broker_into_the_consumer(
    start: Start, exporter: InMemorySpanExporter, broker: str, request: pytest.FixtureRequest
) -> None:
    url = broker
    if broker != "memory:":
        url = request.getfixturevalue("redis_url").replace("redis://", "redis+streams://")
    namespace = f"traces-{request.node.name.partition('[')[2].strip(']').replace('+', '-').replace(':', '')}".lower()
    shop, publisher = start(url, namespace)
    shop.worker.start()
    client = create_app(shop).test_client()
    body = {"ref": "b1", "sku": CHAIR, "qty": 10, "eta": None}
    assert client.post("/v1/batches", json=body, headers={"traceparent": TRACEPARENT}).status_code == 201
    wait_until(lambda: publisher.facts)

    # Somebody elsewhere hears the fact, and asks for something because of it.
    [fact] = publisher.facts
    carried = {"schemaversion": 1, "traceparent": str(fact.extensions["traceparent"]), "correlationid": "c1"}
    asked = {"orderid": "o1", "sku": CHAIR, "qty": 6}
    command = Message("m-1", "allocation.Allocate", CHAIR, fact.time, asked, extensions=carried)
    receiver = registry.receivers(url, namespace, "tests")[url.partition(":")[0]]
    assert publisher.publish(COMMANDS, [command]) == [None]
    consumer = Consumer(shop, receiver, Flag())
    while not shop.views.order("o1"):
        consumer.serve(1.0)
    receiver.close()
    logged = {type(e.event).__name__: e.traceparent for e in shop.views.events([], 10).events}
    shop.close()

    served, received = named(exporter, "POST /v1/batches"), named(exporter, "receive Allocate")
    name = f"deliver publish_facts:{url.partition(':')[0]}"
    delivered = next(s for s in exporter.get_finished_spans() if s.name == name and parent_id(s) == span_id(served))
    assert (served.kind, delivered.kind, received.kind) == (SpanKind.SERVER, SpanKind.PRODUCER, SpanKind.CONSUMER)
    assert parent_id(served) == int(CLIENT_SPAN, 16)
    assert parent_id(received) == span_id(delivered)
    assert logged == {"BatchCreated": traceparent_of(served), "Allocated": traceparent_of(received)}
    assert all(traceparent_of(span).startswith(f"00-{TRACE_ID}-") for span in (served, delivered, received))


def test_a_webhook_that_a_user_defined_gets_the_trace_and_is_counted(
    exporter: InMemorySpanExporter, telemetry: Telemetry, sqlite_url: str
) -> None:
    counting = Telemetry(PrometheusMeter(), telemetry.tracer)
    shop = bootstrap(Settings(database_url=sqlite_url, push_to_private="127.0.0.0/8"), telemetry=counting)
    shop.worker.start()
    shop.pushers.start()
    client = create_app(shop).test_client()
    with WebhookReceiver() as receiver:
        client.put("/v1/subscriptions/hook", json={"delivery": "push", "sink": {"url": receiver.url}})
        body = {"ref": "b1", "sku": CHAIR, "qty": 10, "eta": None}
        client.post("/v1/batches", json=body, headers={"traceparent": TRACEPARENT})
        wait_until(receiver.posts)
        [event] = receiver.posts()[0].events()
    shop.close()
    assert event["traceparent"] == traceparent_of(named(exporter, "deliver hook"))
    assert event["traceparent"].startswith(f"00-{TRACE_ID}-")
    counts = counting.meter.counted().collect()  # type: ignore[attr-defined]  # that of Prometheus
    delivered = [s for family in counts for s in family.samples if s.labels.get("subscription") == "user-defined"]
    assert [(s.labels["outcome"], s.value) for s in delivered if s.name.endswith("_total")] == [("delivered", 1)]


def test_a_request_is_told_in_the_words_of_opentelemetry(start: Start, exporter: InMemorySpanExporter) -> None:
    shop, _ = start("memory:", "traces-words")
    client = create_app(shop).test_client()
    answer = client.get("/v1/batches/nowhere")
    span = named(exporter, "GET /v1/batches/<ref>")
    assert span.parent is None
    assert dict(span.attributes or {}) == {
        "http.request.method": "GET",
        "http.route": "/v1/batches/<ref>",
        "http.response.status_code": 404,
        "allocation.correlation_id": answer.headers["X-Correlation-Id"],
    }


def test_a_delivery_that_is_refused_is_an_error_in_the_trace(start: Start, exporter: InMemorySpanExporter) -> None:
    shop, _ = start("memory:", "traces-refused")
    shop.worker.start()
    bus = shop.bus
    bus.handle(CreateBatch("b1", CHAIR, 1))
    bus.ask(bus.envelope(Allocate("o1", CHAIR, 2), traceparent=TRACEPARENT))
    wait_until(shop.subscriptions.lanes)
    shop.close()
    span = named(exporter, f"deliver {MAIL}")
    assert parent_id(span) == int(CLIENT_SPAN, 16)
    assert span.status.status_code == StatusCode.ERROR
    assert [e.attributes["exception.message"] for e in span.events if e.attributes] == ["no such user"]


def test_a_trace_that_was_not_to_be_recorded_is_not(start: Start, exporter: InMemorySpanExporter) -> None:
    """The client's flags say so (W3C Trace Context, section 3.2.2.5); the trace goes on all the same."""
    shop, _ = start("memory:", "traces-unsampled")
    headers = {"traceparent": f"00-{TRACE_ID}-{CLIENT_SPAN}-00"}
    body = {"ref": "b1", "sku": CHAIR, "qty": 10, "eta": None}
    assert create_app(shop).test_client().post("/v1/batches", json=body, headers=headers).status_code == 201
    assert exporter.get_finished_spans() == ()
    traceparent = shop.views.events([], 1).events[0].traceparent
    assert traceparent is not None
    assert traceparent.startswith(f"00-{TRACE_ID}-")
    assert traceparent.endswith("-00")


def test_without_a_provider_or_a_collector_a_trace_goes_through_as_it_came(database_url: str) -> None:
    tracer = tracer_for(Settings(traces_to=""))
    assert not tracer.is_on
    publisher = Overheard(registry.publishers("memory:", "traces-off")["memory"])
    shop = bootstrap(
        Settings(database_url=database_url), publishers={"memory": publisher}, telemetry=Telemetry(tracer=tracer)
    )
    shop.worker.start()
    body = {"ref": "b1", "sku": CHAIR, "qty": 10, "eta": None}
    create_app(shop).test_client().post("/v1/batches", json=body, headers={"traceparent": TRACEPARENT})
    wait_until(lambda: publisher.facts)
    shop.close()
    assert [fact.extensions["traceparent"] for fact in publisher.facts] == [TRACEPARENT]


def test_without_a_provider_or_a_collector_opentelemetry_is_not_even_loaded() -> None:
    """In a process of its own: here the tests have loaded it."""
    program = (
        "import sys\n"
        "from allocation.bootstrap import bootstrap\n"
        "from allocation.config import Settings\n"
        "from allocation.entrypoints.flask_app import create_app\n"
        "from allocation.bootstrap import telemetry_for\n"
        "settings = Settings(database_url='memory:', traces_to='')\n"
        "client = create_app(bootstrap(settings, telemetry=telemetry_for(settings))).test_client()\n"
        "assert client.get('/metrics').status_code == 200\n"
        "assert 'prometheus_client' in sys.modules\n"
        "assert 'opentelemetry' not in sys.modules\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(allocation.__file__).parents[1])}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True, timeout=60)


def test_a_collector_without_an_exporter_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(SetupError, match=r"pip install 'allocation\[otel\]'"):
        tracer_for(Settings(traces_to="http://localhost:4318/v1/traces"))


def test_what_goes_wrong_on_our_side_is_an_error_in_the_trace(
    start: Start, exporter: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the client does wrong is not (OpenTelemetry's conventions for HTTP servers)."""
    shop, _ = start("memory:", "traces-errors")

    def away(*_: object) -> None:
        raise Unavailable("the database is away")

    client = create_app(shop).test_client()
    assert client.get("/v1/batches/nowhere").status_code == 404
    monkeypatch.setattr(type(shop.views), "ready", away)
    assert client.get("/health/ready").status_code == 503
    assert named(exporter, "GET /v1/batches/<ref>").status.status_code == StatusCode.UNSET
    assert named(exporter, "GET /health/ready").status.status_code == StatusCode.ERROR


def test_an_event_that_no_trace_led_to_begins_none(start: Start, exporter: InMemorySpanExporter) -> None:
    """An import of a million lines would begin a million."""
    shop, publisher = start("memory:", "traces-none")
    shop.worker.start()
    shop.bus.handle(CreateBatch("b1", CHAIR, 1))
    wait_until(lambda: publisher.facts)
    shop.close()
    assert exporter.get_finished_spans() == ()


def test_a_provider_that_somebody_else_set_is_not_ended(telemetry: Telemetry, exporter: InMemorySpanExporter) -> None:
    telemetry.tracer.close()
    with telemetry.tracer.span("server", "later", None, {}):
        pass
    assert named(exporter, "later")


class Collector(BaseHTTPRequestHandler):
    """Takes in what an exporter sends."""

    taken: ClassVar[list[tuple[str, bytes]]] = []

    def do_POST(self) -> None:
        self.taken.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def test_a_collector_gets_the_spans_at_the_latest_when_the_process_ends() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Collector) as server:
        serving = Thread(target=server.serve_forever)
        serving.start()
        url = f"http://127.0.0.1:{server.server_port}/v1/traces"
        settings = Settings(database_url="memory:", traces_to=url, namespace="shop-7")
        shop = bootstrap(settings, telemetry=Telemetry(tracer=tracer_for(settings)))
        assert create_app(shop).test_client().get("/health/live").status_code == 200
        shop.close()
        server.shutdown()
        serving.join()
    [(path, body)] = Collector.taken
    assert path == "/v1/traces"
    assert gzip_or_plain(body).count(b"GET /health/live") == 1
    assert b"shop-7" in gzip_or_plain(body)


@pytest.fixture
def silent_collector() -> Iterator[socket.socket]:
    """Takes in connections, and never answers."""
    with socket.create_server((LOOPBACK, 0)) as listening:
        yield listening


def url_of(collector: socket.socket) -> str:
    return f"http://{LOOPBACK}:{collector.getsockname()[1]}/v1/traces"


def exporting_threads() -> set[Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("OtelBatch")}


def test_nobody_waits_for_a_collector_that_hangs(silent_collector: socket.socket) -> None:
    others = exporting_threads()
    tracer = ExportingTracer(url_of(silent_collector), "shop", goodbye_seconds=0.01)
    with tracer.span("server", "GET /", None, {}):
        pass
    tracer.close()
    assert exporting_threads() - others  # it is still waiting for an answer, and we are not
    asked, _ = silent_collector.accept()
    asked.close()


def test_nobody_waits_for_it_behind_a_provider_of_the_process(silent_collector: socket.socket) -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(handing_over := HandingOver())
    tracer = OtelTracer(provider, goodbye_seconds=0.01)
    tracer.close()
    assert handing_over.begun.wait(PATIENCE_SECONDS)
    assert not handing_over.done.is_set()
    handing_over.may_end.set()


class HandingOver(SpanProcessor):
    """Hands over for as long as it is not told to end."""

    def __init__(self) -> None:
        self.begun, self.may_end, self.done = Flag(), Flag(), Flag()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        self.begun.set()
        self.may_end.wait(PATIENCE_SECONDS)
        self.done.set()
        return True


def test_the_goodbye_leaves_time_to_close_the_store() -> None:
    """Whoever ends a process by force does it after 10 seconds, or 30 (docker-compose.yml)."""
    assert GOODBYE_SECONDS <= 2


def test_the_store_is_closed_before_the_last_spans_are_handed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[str] = []

    class Watched(Tracer):
        def close(self) -> None:
            closed.append("tracer")

    def watched_store(*arguments: Any) -> Store:
        return replace(memory_store(*arguments), close=lambda: closed.append("store"))

    monkeypatch.setattr("allocation.bootstrap.memory_store", watched_store)
    bootstrap(Settings(database_url="memory:"), telemetry=Telemetry(tracer=Watched())).close()
    assert closed == ["store", "tracer"]


def test_a_collector_that_is_away_is_told_without_the_key_in_its_address(
    silent_collector: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    url = f"{url_of(silent_collector)}?api-key=hunter2"
    silent_collector.close()
    caplog.set_level("DEBUG")
    tracer = ExportingTracer(url, "shop", goodbye_seconds=0.01)
    with tracer.span("server", "GET /", None, {}):
        pass
    tracer.close()
    wait_until(lambda: "/v1/traces" in caplog.text)
    assert "/v1/traces?***" in caplog.text
    assert "hunter2" not in caplog.text


def gzip_or_plain(body: bytes) -> bytes:
    return gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body


def traceparent_of(span: ReadableSpan) -> str:
    context = span.get_span_context()
    assert context is not None
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"
