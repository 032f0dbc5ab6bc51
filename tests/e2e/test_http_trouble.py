"""When something behind the edge fails."""

from dataclasses import replace

import pytest
from flask import Flask
from werkzeug.exceptions import Gone

from allocation.bootstrap import Application, bootstrap
from allocation.config import Settings
from allocation.entrypoints.flask_app import create_app
from allocation.service_layer.errors import Conflict, OutcomeUnknown, Overloaded, Unavailable
from tests.e2e.conforming import ConformingClient
from tests.log_lines import logged

LINE = {"orderid": "order-1", "sku": "RED-CHAIR", "qty": 10}
SECRET = "could not connect to postgresql://shop:secret@db"


class FailingBus:
    def __init__(self, application: Application, failure: Exception) -> None:
        self.envelope = application.bus.envelope
        self.failure = failure

    def ask(self, envelope: object) -> None:
        raise self.failure


class FailingViews:
    def __init__(self, failure: Exception) -> None:
        self.failure = failure

    def __getattr__(self, question: str) -> object:
        def fail(*_: object) -> None:
            raise self.failure

        return fail


def failing(failure: Exception) -> ConformingClient:
    application = bootstrap(Settings(database_url="memory:"))
    broken = replace(application, bus=FailingBus(application, failure), views=FailingViews(failure))
    return ConformingClient(create_app(broken).test_client())


@pytest.mark.parametrize("path", ["/v1/orders/order-1", "/v1/products/RED-CHAIR", "/v1/events", "/v1/stock"])
def test_a_question_that_the_store_stopped_is_no_change_that_others_were_faster_with(path: str) -> None:
    answer = failing(Conflict("canceling statement due to statement timeout")).get(path)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert answer.json["detail"].startswith("The store stopped this query before it finished")
    assert "same products" in failing(Conflict(SECRET)).post("/v1/allocations", json=LINE).json["detail"]


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (Unavailable(SECRET), "Nothing was done"),
        (Conflict(SECRET), "Nothing was done"),
        (OutcomeUnknown(SECRET), "Sending the same request again is safe"),
        (Overloaded("10 commands wait already; try again in a second"), "try again in a second"),
    ],
)
def test_a_store_that_is_gone_is_503_with_retry_after_and_says_what_was_done(failure: Exception, words: str) -> None:
    answer = failing(failure).post("/v1/allocations", json=LINE)
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "1"
    assert words in answer.json["detail"]
    assert "secret" not in answer.text


@pytest.mark.parametrize(
    "path",
    ["/health/ready", "/v1/orders/order-1", "/v1/batches/batch-1", "/v1/products/RED-CHAIR", "/v1/events",
     "/v1/allocations/order-1/RED-CHAIR", "/allocations/order-1"],
)  # fmt: skip
def test_a_question_to_a_store_that_is_gone_is_503(path: str) -> None:
    assert failing(Unavailable(SECRET)).get(path).status_code == 503


def test_a_process_without_its_store_is_alive_all_the_same() -> None:
    assert failing(Unavailable(SECRET)).get("/health/live").status_code == 200


def test_the_unexpected_is_500_without_a_trace_and_in_the_log_under_the_correlation_id() -> None:
    with logged("error") as lines:
        answer = failing(RuntimeError(SECRET)).post("/v1/allocations", json=LINE)
    assert answer.status_code == 500
    assert "secret" not in answer.text
    (line,) = lines.read
    assert line["correlation_id"] == answer.headers["X-Correlation-Id"]
    assert f"RuntimeError: {SECRET}" in str(line["exception"])


def test_a_request_leaves_a_line_in_the_log_at_debug_level_only(memory_client: ConformingClient) -> None:
    with logged("info") as lines:
        memory_client.get("/v1/orders/order-9")
    assert not lines.read
    with logged("debug") as lines:
        answer = memory_client.get("/v1/orders/order-9")
    (line,) = lines.read
    assert "GET /v1/orders/<orderid>" in str(line["event"])
    assert line["correlation_id"] == answer.headers["X-Correlation-Id"]


@pytest.fixture
def app() -> Flask:
    return create_app(bootstrap(Settings(database_url="memory:")))


def test_the_short_way_and_flask_give_the_same_answers(app: Flask) -> None:
    short_way, through_flask = app.wsgi_app, app.wsgi_app._flask
    requests = [
        ("POST", "/v1/batches", {"ref": "batch-1", "sku": "RED-CHAIR", "qty": 10, "eta": None}),
        ("POST", "/v1/allocations", LINE | {"qty": 11}),
        ("POST", "/v1/allocations", {}),
        ("GET", "/v1/orders/order-9", None),
        ("GET", "/v1/orders/%C3%A9", None),
        ("GET", "/v1/products/RED-CHAIR", None),
        ("GET", "/v1/events?limit=0", None),
        ("GET", "/docs", None),
        ("DELETE", "/v1/allocations/order-9/RED-CHAIR", None),
    ]
    headers = {"X-Correlation-Id": "same", "Idempotency-Key": "same"}
    for method, path, body in requests:
        answers = []
        for way in (short_way, through_flask):
            app.wsgi_app = way
            answers.append(app.test_client().open(path, method=method, json=body, headers=headers))
        first, second = answers
        assert (first.status_code, first.data) == (second.status_code, second.data)
        assert sorted(first.headers) == sorted(second.headers)


def test_a_view_that_somebody_adds_to_flask_is_served_and_its_errors_are_problems(app: Flask) -> None:
    @app.get("/hello")
    def hello() -> str:
        return "hello"

    @app.get("/gone")
    def gone() -> str:
        raise Gone("It was here until May")

    @app.get("/broken")
    def broken() -> str:
        raise RuntimeError(SECRET)

    client = app.test_client()
    assert client.get("/hello").text == "hello"
    answer = client.get("/gone")
    assert answer.status_code == 410
    assert answer.json["type"] == "about:blank"
    assert answer.json["detail"] == "It was here until May"
    assert client.get("/broken").status_code == 500


def test_options_say_what_a_path_can_do(app: Flask) -> None:
    answer = app.test_client().options("/v1/batches/batch-1")
    assert set(answer.headers["Allow"].split(", ")) == {"GET", "HEAD", "OPTIONS", "PATCH"}


@pytest.mark.parametrize("method", ["OPTIONS", "HEAD", "GET", "POST"])
@pytest.mark.parametrize("path", ["/v1/batches/batch-1", "/v1/batches", "/v1/event-grid", "/nowhere", "/hello"])
def test_every_answer_says_under_which_id_it_is_known(app: Flask, method: str, path: str) -> None:
    """Also what Flask answers by itself, and a view that somebody adds."""
    app.add_url_rule("/hello", view_func=lambda: "hello")
    client = app.test_client()
    told = client.open(path, method=method, headers={"X-Correlation-Id": "mine"})
    assert told.headers.getlist("X-Correlation-Id") == ["mine"]
    assert told.headers.getlist("X-Content-Type-Options") == ["nosniff"]
    first, second = (client.open(path, method=method).headers["X-Correlation-Id"] for _ in range(2))
    assert first != second


def test_answers_tell_browsers_and_caches_to_keep_their_hands_off(memory_client: ConformingClient) -> None:
    batch = memory_client.has_batch("batch-1", "RED-CHAIR", 10)
    product = memory_client.get("/v1/products/RED-CHAIR")
    assert batch.headers["X-Content-Type-Options"] == "nosniff"
    assert batch.headers["Cache-Control"] == "no-store"
    assert product.headers["Cache-Control"] == "no-cache"


def test_two_applications_live_in_one_process() -> None:
    first, second = (create_app(bootstrap(Settings(database_url="memory:"))).test_client() for _ in range(2))
    first.post("/v1/batches", json={"ref": "batch-1", "sku": "RED-CHAIR", "qty": 10, "eta": None})
    assert first.get("/v1/batches/batch-1").status_code == 200
    assert second.get("/v1/batches/batch-1").status_code == 404
