"""Health checks, for the program that supervises the process."""

from __future__ import annotations

import msgspec

from allocation.entrypoints.http.call import Call, Reply, json_reply
from allocation.entrypoints.http.routes import Given, Routes

routes = Routes("Health")


class Health(msgspec.Struct):
    """All is well. Otherwise there is a problem instead, or no answer."""

    status: str


@routes.get("/health/live", gives={200: Given("The process is alive", Health("live"))})
def live(call: Call) -> Reply:
    """Whether the process is alive. If it is not, restart it."""
    return json_reply(200, Health("live"))


@routes.get("/health/ready", gives={200: Given("The store can be reached", Health("ready"))})
def ready(call: Call) -> Reply:
    """Whether the process can work. If it cannot (503), send requests elsewhere for now."""
    call.application.views.ready()
    return json_reply(200, Health("ready"))
