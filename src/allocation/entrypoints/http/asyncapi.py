"""The messages of this service, as a machine-readable document."""

from __future__ import annotations

from functools import cache
from typing import Any

from allocation.entrypoints.contracts.asyncapi import asyncapi_document
from allocation.entrypoints.http.call import Call, Reply, json_reply
from allocation.entrypoints.http.routes import Given, Routes

routes = Routes("Documentation")

_document = cache(asyncapi_document)


@routes.get("/asyncapi.json", gives={200: Given("The document", {"asyncapi": "3.0.0"}, type=dict[str, Any])})
def asyncapi(call: Call) -> Reply:
    """The messages that this service sends and receives, as an AsyncAPI 3 document, with a JSON Schema for each."""
    return json_reply(200, _document())
