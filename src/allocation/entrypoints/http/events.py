"""The event feed: the log in order, from any place on."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, get_args

import msgspec
from pydantic import Field

from allocation.adapters import cloudevents
from allocation.domain.events import Allocated, Event
from allocation.entrypoints.http.call import Call, Reply, json_reply
from allocation.entrypoints.http.cursors import encode_cursor
from allocation.entrypoints.http.errors import Fault, Invalid
from allocation.entrypoints.http.paging import MOST_ON_A_PAGE, After, positions_behind, whole
from allocation.entrypoints.http.parsing import Body, Id
from allocation.entrypoints.http.routes import Given, Routes
from allocation.service_layer.envelope import EventEnvelope, LogPosition
from allocation.service_layer.errors import UnknownPosition
from allocation.service_layer.facts import fact_of

routes = Routes("Events")

LARGEST_VERSION = 10**18 - 1
EVENT_TYPES: tuple[type, ...] = get_args(Event)


class EventQuery(Body):
    """Which events."""

    after: After = None
    limit: whole(1, MOST_ON_A_PAGE, 100) = Field(default=100, description="The most to return")  # type: ignore[valid-type]  # a type that a function makes
    sku: Id | None = Field(default=None, description="Only events of this product")
    after_version: whole(0, LARGEST_VERSION) | None = Field(  # type: ignore[valid-type]  # as above
        default=None,
        description="Only events after this version of the product; needs `sku`, and cannot be used with `after`",
    )


class CloudEvent(msgspec.Struct, omit_defaults=True):
    """CloudEvents 1.0, JSON format. The last six are extensions; `sequence` is the documented one of that name."""

    specversion: Annotated[str, msgspec.Meta(pattern="^1\\.0$")]
    id: str
    source: Annotated[str, msgspec.Meta(extra_json_schema={"format": "uri-reference"})]
    type: Annotated[str, msgspec.Meta(description="`allocation.` followed by the name of the event")]
    subject: Annotated[str, msgspec.Meta(description="The sku that the event is about")]
    time: datetime
    datacontenttype: str
    data: Annotated[
        Any,
        msgspec.Meta(
            extra_json_schema={"anyOf": [{"$ref": f"#/components/schemas/{t.__name__}"} for t in EVENT_TYPES]}
        ),
    ]
    schemaversion: Annotated[int, msgspec.Meta(description="The version of the schema of `data`")]
    partition: Annotated[int, msgspec.Meta(description="The partition of the log")]
    sequence: Annotated[
        str,
        msgspec.Meta(
            pattern="^[0-9]{20}$",
            description="The number of the event within its partition, without gaps, padded with zeros so that it "
            "sorts as text",
        ),
    ]
    productversion: Annotated[
        int, msgspec.Meta(description="The version of the product after this event, without gaps for each sku")
    ]
    correlationid: Annotated[str, msgspec.Meta(description="The same for everything that follows from one request")]
    causationid: Annotated[str | None, msgspec.Meta(description="The id of the command that caused the event")] = None
    traceparent: Annotated[str | None, msgspec.Meta(description="The `traceparent` of W3C Trace Context")] = None


class EventPageRead(msgspec.Struct):
    """Events in order, and the cursor of the next page. If there is nothing new, `next` is equivalent to `after`."""

    events: Sequence[CloudEvent]
    next: Annotated[str, msgspec.Meta(description="An opaque cursor: keep it, and pass it as `after` next time")]


def cloud_event(logged: EventEnvelope) -> CloudEvent:
    """An event as the feed returns it, in the form in which brokers carry it."""
    return CloudEvent(**cloudevents.cloud_event(fact_of(logged)))  # type: ignore[arg-type]  # a dict of all its fields


EXAMPLE = EventPageRead(
    [
        cloud_event(
            EventEnvelope(
                Allocated("order-1", "RED-CHAIR", 10, "batch-1"),
                "019f3c2b5d0a7c3e8f1b2a4d6c8e0f12",
                datetime(2031, 4, 1, 9, 30, tzinfo=UTC),
                LogPosition(0, 2),
                2,
                "019f3c2b5d0971d2a3b4c5d6e7f80912",
                "019f3c2b5d0971d2a3b4c5d6e7f80912",
            )
        )
    ],
    encode_cursor([LogPosition(0, 2)]),
)


@routes.get(
    "/v1/events",
    asks=EventQuery,
    gives={200: Given("A page of events", EXAMPLE)},
    refuses=[UnknownPosition(LogPosition(0, 17))],
)
def read_events(call: Call, query: EventQuery) -> Reply:
    """The event feed.

    Every change to stock and promises, in order and without gaps (within each partition of the log). A program that
    follows the messages of a broker finds here what it missed: a product's events after a version, or all events after
    a position.
    """
    page = call.application.views.events(_beginning(call, query), query.limit, query.sku)
    return json_reply(200, EventPageRead([cloud_event(e) for e in page.events], encode_cursor(page.next)))


def _beginning(call: Call, query: EventQuery) -> Sequence[LogPosition]:
    """Where the page begins. Raises `Invalid`, `UnknownPosition`."""
    if query.after_version is None:
        return positions_behind(call, query.after)
    if query.sku is None or query.after is not None:
        raise Invalid([Fault("needs `sku`, and cannot be used with `after`", parameter="after_version")])
    position = call.application.views.position_at(query.sku, query.after_version)
    return [] if position is None else [position]
