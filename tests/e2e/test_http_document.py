"""The OpenAPI document and the page made of it."""

import json
import re
from html import unescape
from html.parser import HTMLParser

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from allocation.bootstrap import bootstrap
from allocation.config import Settings
from allocation.entrypoints.flask_app import create_app
from tests.e2e.conforming import ConformingClient, Json, validate

APP = create_app(bootstrap(Settings(database_url="memory:")))
DOCUMENT: Json = APP.test_client().get("/openapi.json").json
OPERATIONS = [
    pytest.param(operation, id=operation["operationId"])
    for operations in DOCUMENT["paths"].values()
    for operation in operations.values()
]


def test_the_document_is_openapi_3_1() -> None:
    assert DOCUMENT["openapi"] == "3.1.0"
    OpenAPIV31SpecValidator(DOCUMENT).validate()


def test_the_document_has_the_routes_of_the_application_and_no_others() -> None:
    served = {
        (re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule), method.lower())
        for rule in APP.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    described = {(path, method) for path, operations in DOCUMENT["paths"].items() for method in operations}
    assert described - {("/v1/event-grid", "options")} == served  # elsewhere Flask answers OPTIONS


def test_the_document_has_the_routes_that_were_asked_for() -> None:
    asked = """POST /v1/batches, GET /v1/batches/{ref}, PATCH /v1/batches/{ref}, POST /v1/allocations,
        GET /v1/allocations/{orderid}/{sku}, DELETE /v1/allocations/{orderid}/{sku}, GET /v1/orders/{orderid},
        GET /v1/products/{sku}, GET /v1/products/{sku}/movements, GET /v1/stock, GET /v1/events,
        GET /health/live, GET /health/ready, GET /openapi.json, GET /docs,
        POST /add_batch, POST /allocate, GET /allocations/{orderid}"""
    described = {f"{method.upper()} {path}" for path, operations in DOCUMENT["paths"].items() for method in operations}
    assert described >= {" ".join(route.split()) for route in asked.split(",")}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_example_answer_is_as_its_schema_says(operation: Json) -> None:
    examples = [
        (content["schema"], example)
        for response in operation["responses"].values()
        for content in response.get("content", {}).values()
        for example in [content.get("example"), *(e["value"] for e in content.get("examples", {}).values())]
        if example is not None
    ]
    assert examples
    for schema, example in examples:
        validate(DOCUMENT, schema, example)


@pytest.mark.parametrize(
    "name", [name for name, schema in DOCUMENT["components"]["schemas"].items() if "example" in schema]
)
def test_every_example_request_is_as_its_schema_says(name: str) -> None:
    validate(DOCUMENT, {"$ref": f"#/components/schemas/{name}"}, DOCUMENT["components"]["schemas"][name]["example"])


def test_the_schema_of_a_request_refuses_what_the_service_refuses() -> None:
    schema = DOCUMENT["components"]["schemas"]["AllocationRequest"]
    assert schema["required"] == ["orderid", "sku", "qty"]
    assert schema["additionalProperties"] is False
    qty = {"type": "integer", "minimum": 1, "maximum": 2**31 - 1}
    assert schema["properties"]["qty"].items() >= qty.items()
    assert schema["properties"]["sku"]["pattern"] == "^[!-.0-~]{1,255}$"
    assert schema["properties"]["if_short"]["default"] == "refuse"
    batch = DOCUMENT["components"]["schemas"]["BatchRequest"]
    assert batch["properties"]["eta"]["anyOf"] == [{"type": "string", "format": "date"}, {"type": "null"}]
    assert "default" not in str(DOCUMENT["components"]["schemas"]["BatchChange"])


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: set[str] = set()
        self.loaded: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.ids.add(given.get("id") or "")
        if tag == "a":
            self.links.add(given["href"] or "")
        if given.get("src") or tag == "link":
            self.loaded.append(tag)


def test_the_page_explains_every_operation_and_every_problem_and_loads_nothing(
    memory_client: ConformingClient,
) -> None:
    answer = memory_client.get("/docs")
    page = Page(answer.text)
    assert {operation.values[0]["operationId"] for operation in OPERATIONS} <= page.ids
    problem = memory_client.get("/v1/orders/order-9").json["type"]
    assert problem.removeprefix("/docs#") in page.ids
    assert {link.removeprefix("#") for link in page.links if link.startswith("#")} <= page.ids
    assert not page.loaded
    assert "http://" not in answer.text.replace("http://localhost", "")


def test_the_page_lets_nothing_run_but_what_is_on_it(memory_client: ConformingClient) -> None:
    policy = memory_client.get("/docs").headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe-inline" not in policy


def articles() -> dict[str, str]:
    """What the page says of each operation, without the form to try it."""
    text = re.sub(r"<form.*?</form>", "", APP.test_client().get("/docs").text, flags=re.DOTALL)
    return dict(re.findall(r'<article id="(\w+)">(.*?)</article>', text, re.DOTALL))


def read(text: str) -> str:
    """As a reader sees it."""
    return " ".join(unescape(re.sub(r"<[^>]+>", "", text.replace("</td>", " "))).split())


@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_page_explains_every_parameter_outside_of_the_form(operation: Json) -> None:
    said = read(articles()[operation["operationId"]])
    for parameter in operation["parameters"]:
        if "name" in parameter:
            assert parameter["name"] in said
            assert parameter["description"]
            assert parameter["description"].replace("`", "") in said


def test_the_page_follows_what_a_field_refers_to() -> None:
    said = read(articles()["define_subscription"])
    assert "sink an object or null; null if absent. Where to push: required for push" in said
    assert "sink.handshake true or false; true if absent. Whether the receiver must first consent" in said
    assert "rules a list of 1 to 100, each an object; may be absent. Without rules, all events match." in said
    assert "rules[].filter text or null; null if absent. An SQL-92 condition" in said
    what_if = read(articles()["what_if"])
    assert "commands[] With type Deallocate: orderid, sku. Somebody cancels." in what_if
    assert "lines[].qty a whole number from 1 to 2,147,483,647. Pieces." in read(articles()["allocate_many"])


def test_the_page_speaks_no_python() -> None:
    for said in map(read, articles().values()):
        assert not re.search(r"\b(None(?!-Match)|True|False|integer|boolean|\w+Request)\b", said)


BODIES = [
    pytest.param(operation.values[0], id=operation.id)
    for operation in OPERATIONS
    if "requestBody" in operation.values[0]
]


@pytest.mark.parametrize("operation", BODIES)
def test_the_body_to_begin_with_is_as_its_schema_says(operation: Json) -> None:
    page = APP.test_client().get("/docs").text
    [body] = re.findall(
        rf'<article id="{operation["operationId"]}">.*?<textarea[^>]*>(.*?)</textarea>', page, re.DOTALL
    )[:1]
    validate(DOCUMENT, operation["requestBody"]["content"]["application/json"]["schema"], json.loads(unescape(body)))


@pytest.mark.parametrize("path", ["/", "/docs/"])
def test_who_looks_for_the_page_is_led_to_it(memory_client: ConformingClient, path: str) -> None:
    answer = memory_client.get(path)
    assert (answer.status_code, answer.headers["Location"]) == (302, "/docs")
    assert memory_client.plain.get(path, follow_redirects=True).text == memory_client.get("/docs").text


def test_a_key_is_described_where_commands_are_given_and_nowhere_else() -> None:
    described = {
        (method, path)
        for path, operations in DOCUMENT["paths"].items()
        for method, operation in operations.items()
        if {"$ref": "#/components/parameters/Idempotency-Key"} in operation.get("parameters", [])
    }
    assert described == {
        ("post", "/v1/batches"),
        ("patch", "/v1/batches/{ref}"),
        ("post", "/v1/allocations"),
        ("delete", "/v1/allocations/{orderid}/{sku}"),
        ("post", "/v1/allocations:batch"),
        ("post", "/add_batch"),
        ("post", "/allocate"),
    }
