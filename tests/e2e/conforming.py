"""A client that believes no answer which the service's own OpenAPI document does not describe."""

import re
from typing import Any

from flask.testing import FlaskClient
from openapi_schema_validator import OAS31Validator, oas31_format_checker
from werkzeug.test import TestResponse

Json = dict[str, Any]
PROBLEM = {"$ref": "#/components/schemas/Problem"}


def validate(document: Json, schema: Json, value: Any) -> None:
    """Raises `ValidationError` unless the value is as the schema has it; the schema may refer into the document."""
    whole = {**schema, "components": document["components"]}
    OAS31Validator(whole, format_checker=oas31_format_checker).validate(value)


def operation_of(document: Json, method: str, path: str) -> Json | None:
    """What the document says about a request, None if it does not know it."""
    for template, operations in document["paths"].items():
        pattern = re.sub(r"\{\w+\}", "[^/]+", template)
        if re.fullmatch(pattern, path) and method.lower() in operations:
            return operations[method.lower()]
    return None


def conforms(document: Json, method: str, path: str, response: TestResponse) -> None:
    """Fails unless status, headers and content of the answer are described."""
    operation = operation_of(document, method, path)
    if operation is None:
        assert response.status_code in (404, 405), f"{method} {path} is not described"
        assert response.content_type == "application/problem+json"
        validate(document, PROBLEM, response.json)
        return
    assert str(response.status_code) in operation["responses"], (
        f"{method} {path} answered {response.status_code}, which is not described: {response.text}"
    )
    described = operation["responses"][str(response.status_code)]
    assert set(described["headers"]) <= set(response.headers.keys()), f"{described['headers']} are described"
    contents = described.get("content", {})
    if not contents:
        assert response.data == b""
        return
    media_type = response.content_type.partition(";")[0]
    assert media_type in contents, f"{response.content_type} is not described"
    if media_type.endswith("json"):
        validate(document, contents[media_type]["schema"], response.json)


class ConformingClient:
    """A Flask test client; every answer is compared with the document."""

    def __init__(self, client: FlaskClient) -> None:
        self.plain = client
        self.document = client.get("/openapi.json").json

    def open(self, method: str, path: str, **request: Any) -> TestResponse:
        response = self.plain.open(path, method=method, **request)
        conforms(self.document, method, path.partition("?")[0], response)
        return response

    def get(self, path: str, **request: Any) -> TestResponse:
        return self.open("GET", path, **request)

    def post(self, path: str, **request: Any) -> TestResponse:
        return self.open("POST", path, **request)

    def put(self, path: str, **request: Any) -> TestResponse:
        return self.open("PUT", path, **request)

    def patch(self, path: str, **request: Any) -> TestResponse:
        return self.open("PATCH", path, **request)

    def delete(self, path: str, **request: Any) -> TestResponse:
        return self.open("DELETE", path, **request)

    # What many tests do.

    def has_batch(self, ref: str, sku: str, qty: int, eta: str | None = None) -> TestResponse:
        response = self.post("/v1/batches", json={"ref": ref, "sku": sku, "qty": qty, "eta": eta})
        assert response.status_code == 201, response.text
        return response

    def allocate(self, orderid: str, sku: str, qty: int, if_short: str = "refuse", **request: Any) -> TestResponse:
        body = {"orderid": orderid, "sku": sku, "qty": qty, "if_short": if_short}
        return self.post("/v1/allocations", json=body, **request)

    def events(self) -> list[Json]:
        return self.get("/v1/events?limit=1000").json["events"]
