"""Azure Event Grid as a source: commands that it pushes to us, and the handshakes by which it asks whether it may.

Event Grid signs nothing, so it has to send a secret of ours. Its events are handled like all messages: the same event
sent twice has one effect, and an event that cannot be handled becomes a dead letter. An answer of 200 means that the
event need not be sent again, 503 that it must be. Event Grid never tries again after 400, 401, 403 or 413.
"""

from __future__ import annotations

from collections.abc import Mapping
from hmac import compare_digest
from typing import Annotated, Any

import msgspec
from pydantic import Field

from allocation.adapters.cloudevents import BATCH, STRUCTURED
from allocation.adapters.serialization import BadMessage
from allocation.config import Settings
from allocation.entrypoints.grid_events import SOURCE, as_it_came, deliveries_in, validation_in
from allocation.entrypoints.handling import MOST_AT_ONCE, answers_of, keep_as_dead_letter, reason_for
from allocation.entrypoints.http.call import JSON, NO_STORE, Call, Reply, json_reply
from allocation.entrypoints.http.errors import BadHeader, NotExpected, NotLetIn
from allocation.entrypoints.http.parsing import Body, read_body
from allocation.entrypoints.http.routes import Given, Routes
from allocation.service_layer.broker import Delivery
from allocation.service_layer.errors import Unavailable
from allocation.service_layer.observing import correlated

routes = Routes("Event Grid")

PATH = "/v1/event-grid"
VALIDATION = "SubscriptionValidation"

_EVENT = {"type": "object", "required": ["id", "eventType", "data"]}
_CLOUD_EVENT = {"type": "object", "required": ["id", "source", "specversion", "type"]}
_EXAMPLE = {
    "id": "event-1",
    "eventType": "allocation.ChangeBatchQuantity",
    "subject": "RED-CHAIR",
    "eventTime": "2031-05-01T09:30:00Z",
    "data": {"ref": "batch-1", "qty": 80},
    "dataVersion": "1",
}
READS: Mapping[str, Any] = {
    JSON: {"type": "array", "items": _EVENT, "description": "Event Grid schema", "example": [_EXAMPLE]},
    STRUCTURED: {**_CLOUD_EVENT, "description": "One CloudEvent"},
    BATCH: {"type": "array", "items": _CLOUD_EVENT, "description": "Several CloudEvents"},
}


class Brought(Body):
    """The secret, if it is not sent in a header."""

    code: Annotated[
        str | None, Field(max_length=1000, description="The secret, unless it is sent in `X-Event-Grid-Key`")
    ] = None


class EventGridAnswer(msgspec.Struct, omit_defaults=True, rename={"validation_response": "validationResponse"}):
    """The number of events that were done, and of those that became dead letters (`parked`); or a handshake's code."""

    done: int | None = None
    parked: int | None = None
    validation_response: str | None = None


@routes.post(
    PATH,
    asks=Brought,
    reads=READS,
    heeds=["X-Event-Grid-Key", "aeg-event-type"],
    gives={
        200: Given(
            "Every event was handled or kept as a dead letter; or, for a handshake, its validation code",
            EventGridAnswer(2, 0),
        )
    },
    refuses=[
        NotLetIn(),
        NotExpected("a topic"),
        BadHeader("Content-Length", "Content-Length must be a number of bytes"),
    ],
)
def take_from_event_grid(call: Call, brought: Brought) -> Reply:
    """Commands pushed by Azure Event Grid.

    Events of the types `allocation.ChangeBatchQuantity` and so on, as CloudEvents or in Event Grid's own schema, one or
    many. The same event is done once, however often it is sent. An event that cannot be done is kept among the dead
    letters, with the reason, and need not be sent again. The validation event of a topic named in
    `ALLOCATION_EVENT_GRID_FROM` is answered with its code.
    """
    settings = call.application.settings
    _let_in(call, brought, settings)
    body = read_body(call.environ, settings.body_limit_bytes)
    if call.environ.get("HTTP_AEG_EVENT_TYPE") == VALIDATION:
        return _validated(body, settings)
    done, parked = _handle(call, body)
    return json_reply(200, EventGridAnswer(done, parked))


@routes.options(
    PATH,
    asks=Brought,
    heeds=["X-Event-Grid-Key", "WebHook-Request-Origin"],
    gives={
        200: Given("The origin may push", headers=["WebHook-Allowed-Origin", "WebHook-Allowed-Rate"]),
    },
    refuses=[
        NotLetIn(),
        NotExpected("an origin"),
        BadHeader("WebHook-Request-Origin", "WebHook-Request-Origin must name the origin that asks"),
    ],
)
def consent_to_event_grid(call: Call, brought: Brought) -> Reply:
    """Whether Event Grid may push: the handshake of CloudEvents.

    The origins named in `ALLOCATION_EVENT_GRID_FROM` get consent.
    """
    settings = call.application.settings
    _let_in(call, brought, settings)
    origin = call.environ.get("HTTP_WEBHOOK_REQUEST_ORIGIN", "").strip()
    if not origin:
        raise BadHeader("WebHook-Request-Origin", "WebHook-Request-Origin must name the origin that asks")
    if not settings.expects_event_grid(origin):
        raise NotExpected("an origin")
    allowed = (("WebHook-Allowed-Origin", origin), ("WebHook-Allowed-Rate", "*"))
    return Reply(200, headers=(*NO_STORE, *allowed))


def _let_in(call: Call, brought: Brought, settings: Settings) -> None:
    """Raises `NotLetIn`. Every secret is compared, so that the time taken reveals nothing."""
    given = (call.environ.get("HTTP_X_EVENT_GRID_KEY") or brought.code or "").encode("utf-8", "surrogateescape")
    matches = [compare_digest(given, secret.encode()) for secret in settings.event_grid_key.split()]
    if not any(matches):
        raise NotLetIn


def _validated(body: bytes, settings: Settings) -> Reply:
    topic, code = validation_in(body)
    if not settings.expects_event_grid(topic):
        raise NotExpected("a topic")
    return json_reply(200, EventGridAnswer(validation_response=code))


def _handle(call: Call, body: bytes) -> tuple[int, int]:
    """How many were done, and how many became dead letters. Raises `Unavailable` if any must be sent again; then all
    are, so none becomes a dead letter before all are tried: it would become one each time."""
    application = call.application
    try:
        deliveries = deliveries_in(body, _binary_headers(call.environ))
    except BadMessage as bad:
        keep_as_dead_letter(application, Delivery(body, SOURCE, ""), str(bad))
        return 0, 1
    failed: dict[Delivery, Exception] = {}
    correlations: dict[Delivery, str] = {}
    for begin in range(0, len(deliveries), MOST_AT_ONCE):
        for delivery, answer in answers_of(application, deliveries[begin : begin + MOST_AT_ONCE], correlations):
            if isinstance(answer.error, Unavailable):
                raise answer.error
            if answer.error is not None:
                failed[delivery] = answer.error
    for delivery, error in failed.items():
        with correlated(correlations.get(delivery, call.correlation_id)):
            keep_as_dead_letter(application, as_it_came(delivery), reason_for(error))
    return len(deliveries) - len(failed), len(failed)


def _binary_headers(environ: Mapping[str, Any]) -> dict[str, str]:
    """The attributes of a CloudEvent in binary mode."""
    return {
        name.removeprefix("HTTP_").lower().replace("_", "-"): value
        for name, value in environ.items()
        if name.startswith("HTTP_CE_")
    }
