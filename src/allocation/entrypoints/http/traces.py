"""Traces: what followed from one request."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

import msgspec

from allocation.bootstrap import Application
from allocation.entrypoints.http import history
from allocation.entrypoints.http.call import Call, Reply, json_reply
from allocation.entrypoints.http.errors import UnknownCorrelation
from allocation.entrypoints.http.events import CloudEvent, cloud_event
from allocation.entrypoints.http.history import CommandRead, command_read
from allocation.entrypoints.http.routes import Given, Routes
from allocation.service_layer.handlers import EVENT_HANDLERS
from allocation.service_layer.history.trace import Trace, TracedCommand, TracedEvent, Wants, trace

routes = Routes("History")

Outcome = Annotated[
    str,
    msgspec.Meta(
        description="One of: passed (delivered, or left out because the subscription is newer than the event or "
        "its rules exclude it), waits, in hand, retrying, parked, discarded"
    ),
]


class DeliveryRead(msgspec.Struct):
    """What became of an event at one subscription."""

    subscription: str
    outcome: Outcome
    because: str
    due_at: Annotated[
        datetime | None, msgspec.Meta(description="When it will be tried again, or until when it is in hand")
    ]


class TracedEventRead(msgspec.Struct):
    """An event, the subscriptions that it was delivered to, and the commands that it led to."""

    event: CloudEvent
    deliveries: Sequence[DeliveryRead]
    commands: Sequence[TracedCommandRead]


class TracedCommandRead(msgspec.Struct):
    """A command, its first events, and the commands that give it as their cause."""

    command: CommandRead
    events: Sequence[TracedEventRead]
    commands: Sequence[TracedCommandRead]
    events_left_out: Annotated[
        int,
        msgspec.Meta(
            description="How many more events follow the last one shown; `GET /v1/events` reads on from there"
        ),
    ]


class TraceRead(msgspec.Struct):
    """Everything with one correlation id, as trees."""

    commands: Sequence[TracedCommandRead]
    more: Annotated[bool, msgspec.Meta(description="Whether there are more commands than are shown")]


def wants_of(application: Application) -> Wants:
    """The events that each subscription wants, for those of this process and those that another may run."""
    wants = {handler.__name__: frozenset[type]() for named in EVENT_HANDLERS.values() for handler in named}
    for event, named in EVENT_HANDLERS.items():
        for handler in named:
            wants[handler.__name__] |= {event}
    return wants | {s.name: s.wants for s in application.worker.subscriptions}


def traced_command(traced: TracedCommand) -> TracedCommandRead:
    return TracedCommandRead(
        command_read(traced.handled),
        list(map(_traced_event, traced.events)),
        list(map(traced_command, traced.commands)),
        traced.events_left_out,
    )


def trace_read(traced: Trace) -> TraceRead:
    return TraceRead([traced_command(command) for command in traced.commands], traced.more)


def _traced_event(traced: TracedEvent) -> TracedEventRead:
    return TracedEventRead(
        cloud_event(traced.logged),
        [DeliveryRead(d.subscription, d.outcome, d.because, d.due_at) for d in traced.deliveries],
        list(map(traced_command, traced.commands)),
    )


EXAMPLE = TraceRead(
    [
        TracedCommandRead(
            history.EXAMPLE.command or msgspec.UNSET,  # type: ignore[arg-type]  # the example has one
            [
                TracedEventRead(
                    history.EXAMPLE.events[0], [DeliveryRead("publish_allocated_event", "passed", "", None)], []
                )
            ],
            [],
            0,
        )
    ],
    False,
)


@routes.get(
    "/v1/traces/<correlation_id>",
    gives={200: Given("What followed from the request", EXAMPLE)},
    refuses=[UnknownCorrelation("019f3c2b5d0971d2a3b4c5d6e7f80912")],
)
def read_trace(call: Call, correlation_id: str) -> Reply:
    """What followed from one request: its commands, their events, how those were delivered, and what they caused.

    The correlation id is the `X-Correlation-Id` of an answer. At most 200 commands are returned (`more` says whether
    there are others), and 2,000 events, which the commands share: for each command the first ones, and how many were
    left out. A request that was refused and came without an `Idempotency-Key` left nothing behind.
    """
    application = call.application
    wants, now = wants_of(application), application.clock.now()
    found = trace(application.history, application.subscriptions, wants, correlation_id, now)
    if not found.commands:
        raise UnknownCorrelation(correlation_id)
    return json_reply(200, trace_read(found))
