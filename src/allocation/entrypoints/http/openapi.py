"""The OpenAPI 3.1 document, made from the declarations of the routes and the models that they use."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import cache
from http import HTTPStatus
from inspect import cleandoc
from typing import Any

import msgspec
from pydantic.json_schema import models_json_schema

from allocation import __version__
from allocation.entrypoints.http import errors as edge
from allocation.entrypoints.http.call import JSON, Call, Reply, json_reply
from allocation.entrypoints.http.events import EVENT_TYPES
from allocation.entrypoints.http.parsing import ID_SCHEMA_PATTERN, ID_WORDS
from allocation.entrypoints.http.problems import MEDIA_TYPE, Problem, kind_of, problem_of
from allocation.entrypoints.http.routes import Given, Route, Routes
from allocation.service_layer.errors import IdReused, OutcomeUnknown, Unavailable

Json = dict[str, Any]

SCHEMAS = "#/components/schemas/"
ABOUT = """\
Promises stock to order lines, and keeps the promise when the world changes.

Errors are problem details (RFC 9457). Calls that change stock or orders take an `Idempotency-Key`: if you send the same
request again with the same key, you get the answer to the first one, and nothing is done twice. Every response has an
`X-Correlation-Id` (yours, if you sent one), which is also in the events and log lines. A call that changes something is
refused if it has an `If-Match` or `If-None-Match` header that is not listed for it here, because the condition would
not be evaluated."""

_ID = {"type": "string", "pattern": ID_SCHEMA_PATTERN}
HEADERS_HEEDED: dict[str, Json] = {
    "Idempotency-Key": {
        "description": "Makes it safe to send this request again: any text you choose, used for this request only",
        "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[ -~]+$"},
    },
    "X-Correlation-Id": {
        "description": "Returned in the response, and recorded in the log and on events",
        "schema": _ID,
    },
    "X-Event-Grid-Key": {"description": "The secret set in `ALLOCATION_EVENT_GRID_KEY`", "schema": {"type": "string"}},
    "aeg-event-type": {
        "description": "`SubscriptionValidation` for a handshake, otherwise `Notification`",
        "schema": {"type": "string"},
    },
    "WebHook-Request-Origin": {"description": "The origin that asks for consent", "schema": {"type": "string"}},
    "If-Match": {"description": "Proceed only if the ETag is still this one", "schema": {"type": "string"}},
    "If-None-Match": {
        "description": "Proceed only if the ETag is no longer this one; `*`: only if there is nothing yet",
        "schema": {"type": "string"},
    },
}
HEADERS_GIVEN: dict[str, Json] = {
    "X-Correlation-Id": {"description": "The id of this request in the log", "schema": _ID},
    "ETag": {
        "description": "The version of the product, in quotes",
        "schema": {"type": "string", "pattern": '^"[0-9]+"$'},
    },
    "Location": {"description": "Where to find the resource", "schema": {"type": "string", "format": "uri-reference"}},
    "Log-Position": {"description": "The position of the change in the log", "schema": {"type": "string"}},
    "WebHook-Allowed-Origin": {
        "description": "The origin that may push: the one that asked",
        "schema": {"type": "string"},
    },
    "WebHook-Allowed-Rate": {
        "description": "Requests allowed per minute; `*` means any number",
        "schema": {"type": "string"},
    },
    "Retry-After": {"description": "How many seconds to wait before trying again", "schema": {"type": "integer"}},
}


def openapi_document(routes: Sequence[Route]) -> Json:
    """The whole document, as JSON values."""
    paths: defaultdict[str, Json] = defaultdict(dict)
    for route in routes:
        paths[re.sub(r"<(\w+)>", r"{\1}", route.path)][route.method.lower()] = _operation(route)
    document = {
        "openapi": "3.1.0",
        "info": {"title": "Allocation", "version": __version__, "description": ABOUT},
        "servers": [{"url": "/"}],
        "tags": [{"name": tag} for tag in dict.fromkeys(route.tag for route in routes)],
        "paths": dict(paths),
        "components": {
            "schemas": _schemas(routes),
            "headers": HEADERS_GIVEN,
            "parameters": {name: {"name": name, "in": "header", **meant} for name, meant in HEADERS_HEEDED.items()},
        },
    }
    plain: Json = msgspec.to_builtins(document)
    return plain


def openapi_routes(routes: Sequence[Route]) -> Routes:
    """The route of the document, which also describes this route."""
    own = Routes("Documentation")

    @own.get("/openapi.json", gives={200: Given("The document", {"openapi": "3.1.0"}, type=dict[str, Any])})
    def openapi(call: Call) -> Reply:
        """This document."""
        return json_reply(200, document())

    @cache
    def document() -> Json:
        return openapi_document([*routes, *own])

    return own


def _operation(route: Route) -> Json:
    summary, _, description = cleandoc(route.handler.__doc__ or "").partition("\n\n")
    operation: Json = {
        "operationId": route.name,
        "tags": [route.tag],
        "summary": summary.removesuffix("."),
        "parameters": [*_path_parameters(route), *_query_parameters(route), *_header_parameters(route)],
        "responses": _responses(route),
    }
    if description:
        operation["description"] = description
    if route.takes is not None:
        content = {"schema": {"$ref": SCHEMAS + route.takes.__name__}}
        operation["requestBody"] = {"required": True, "content": {JSON: content}}
    elif route.reads:
        contents = {media_type: {"schema": schema} for media_type, schema in route.reads.items()}
        operation["requestBody"] = {"required": True, "content": contents}
    return operation


def _path_parameters(route: Route) -> list[Json]:
    return [
        {"name": name, "in": "path", "required": True, "description": ID_WORDS, "schema": _ID}
        for name in re.findall(r"<(\w+)>", route.path)
    ]


def _query_parameters(route: Route) -> list[Json]:
    if route.asks is None:
        return []
    found = []
    for name, schema in route.asks.model_json_schema()["properties"].items():
        parameter = {"name": name, "in": "query", "description": schema.pop("description", "")}
        present = [s for s in schema.pop("anyOf", []) if s != {"type": "null"}]  # left out: a query has no null
        if schema.get("default", 0) is None:
            del schema["default"]
        schema.pop("title", None)
        found.append({**parameter, "schema": {**schema, **(present[0] if present else {})}})
    return found


def _header_parameters(route: Route) -> list[Json]:
    names = [*route.heeds, *(["Idempotency-Key"] if route.takes_a_key else []), "X-Correlation-Id"]
    return [{"$ref": f"#/components/parameters/{name}"} for name in names]


def _responses(route: Route) -> Json:
    responses: Json = {str(status): _given(given) for status, given in route.gives.items()}
    problems: defaultdict[int, list[Exception]] = defaultdict(list)
    for error in (*route.refuses, *_anywhere(route)):
        problems[kind_of(error).status].append(error)
    for status, errors in sorted(problems.items()):
        responses[str(status)] = _refused(status, errors)
    return responses


def _given(given: Given) -> Json:
    response: Json = {"description": given.when, "headers": _headers_of(given.headers)}
    if given.type is str:
        response["content"] = {given.media_type: {"schema": {"type": "string"}}}
    elif given.example is not None:
        content_type = given.type or type(given.example)
        (schema,), _ = msgspec.json.schema_components([content_type], ref_template=SCHEMAS + "{name}")
        response["content"] = {JSON: {"schema": schema, "example": msgspec.to_builtins(given.example)}}
    return response


def _refused(status: int, errors: Iterable[Exception]) -> Json:
    examples: Json = {}
    for error in errors:
        problem = problem_of(error)
        example = {"summary": problem.title, "value": msgspec.to_builtins(problem)}
        examples.setdefault(kind_of(error).slug, example)  # the first is the route's own
    headers = ["Retry-After"] if status == HTTPStatus.SERVICE_UNAVAILABLE else []
    return {
        "description": "; ".join(example["summary"] for example in examples.values()),
        "headers": _headers_of(headers),
        "content": {MEDIA_TYPE: {"schema": {"$ref": SCHEMAS + Problem.__name__}, "examples": examples}},
    }


def _headers_of(names: Iterable[str]) -> Json:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in (*names, "X-Correlation-Id")}


def _anywhere(route: Route) -> Iterable[Exception]:
    """The errors that any route of this shape may return."""
    if route.takes is not None or route.reads:
        yield edge.Malformed("The body is not JSON: expecting value", 8, '{"qty": }')
        yield edge.TooLarge(1_048_576)
        yield edge.NotJson("Send the body as JSON, with Content-Type: application/json")
    if route.takes is not None:
        yield edge.Invalid([edge.Fault("must be 1 or more", pointer="#/qty")])
    elif route.asks is not None or "<" in route.path:
        yield edge.Invalid([edge.Fault("must be 1 to 255 printable ASCII characters", parameter="sku")])
    if route.takes_a_key:
        yield edge.BadHeader("Idempotency-Key", "An Idempotency-Key has 1 to 255 printable ASCII characters")
        yield IdReused("key-1")
    if route.changes_something:
        yield from (edge.Unheeded(header) for header in route.conditions_unheeded.values())
        yield OutcomeUnknown()
    yield Unavailable()
    yield RuntimeError()


def _schemas(routes: Sequence[Route]) -> Json:
    taken = [(route.takes, "validation") for route in routes if route.takes is not None]
    _, requests = models_json_schema(taken, ref_template=SCHEMAS + "{model}")  # type: ignore[arg-type]  # in a list of pairs, mypy takes the literal "validation" for a str
    given = [g.type or type(g.example) for route in routes for g in route.gives.values() if g.example is not None]
    _, answers = msgspec.json.schema_components([*given, Problem, *EVENT_TYPES], ref_template=SCHEMAS + "{name}")
    schemas: Json = requests["$defs"] | answers
    return schemas
