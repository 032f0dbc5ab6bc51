"""Hands deliveries to the bus, whichever way they came in: the result of each. Keeps dead letters."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace

from allocation.adapters import cloudevents
from allocation.adapters.serialization import BadMessage
from allocation.bootstrap import Application
from allocation.domain.errors import Refused
from allocation.entrypoints.grid_events import SOURCE as EVENT_GRID
from allocation.entrypoints.grid_events import deliveries_in
from allocation.entrypoints.receiving import command_in
from allocation.service_layer.answers import Answer
from allocation.service_layer.broker import Delivery
from allocation.service_layer.envelope import CommandEnvelope
from allocation.service_layer.errors import IdReused, Unavailable
from allocation.service_layer.ports import DeadLetter

MOST_AT_ONCE = 200
PARKED_BYTES = 65_536

_log = logging.getLogger(__name__)


def answers_of(
    application: Application, deliveries: Sequence[Delivery], correlations: dict[Delivery, str]
) -> Iterator[tuple[Delivery, Answer]]:
    """The answer for each delivery; the commands among them are handled as one group. Puts the correlation of each
    readable one into `correlations`. Raises `Unavailable`."""
    envelopes: dict[Delivery, CommandEnvelope] = {}
    for delivery in deliveries:
        try:
            envelopes[delivery] = command_in(delivery, application.bus, application.settings.body_limit_bytes)
        except BadMessage as bad:
            yield delivery, Answer(error=bad)
    correlations.update((delivery, envelope.correlation_id) for delivery, envelope in envelopes.items())
    if envelopes:
        yield from zip(envelopes, _handled(application, envelopes), strict=True)


def keep_as_dead_letter(application: Application, delivery: Delivery, reason: str) -> None:
    """Keep a delivery among the dead letters, with its headers; if it is too long, only its beginning. Raises
    `Unavailable`."""
    _log.warning("a message from %s is now a dead letter: %s", delivery.source, reason)
    is_too_large = len(delivery.body) > application.settings.body_limit_bytes
    body = delivery.body[:PARKED_BYTES] if is_too_large else delivery.body
    application.dead_letters.keep(delivery.source, cloudevents.in_one(body, delivery.headers), reason)


def again(application: Application, letter: DeadLetter) -> list[Answer]:
    """Hand a dead letter to the bus again, as when it came in, and return the answer for each message in it.

    A message without an id gets the letter's id, so that it is done once, however often this is called. A message that
    was refused under its id was not done, so it is asked for again under a new id. Raises `Unavailable`.
    """
    try:
        brought = _brought_by(letter)
    except BadMessage as bad:
        return [Answer(error=bad)]
    answers = dict(answers_of(application, brought, {}))
    refused = [x for x, answer in answers.items() if answer.repeated and isinstance(answer.error, Refused)]
    if anew := {delivery: _under_a_new_id(application, delivery) for delivery in refused}:
        answers |= zip(anew, _handled(application, anew), strict=True)
    for answer in answers.values():
        if isinstance(answer.error, Unavailable):
            raise answer.error
    return list(answers.values())


def _brought_by(letter: DeadLetter) -> list[Delivery]:
    """What came in by a letter, each under an id of its own that is the same each time. Raises `BadMessage`."""
    body = letter.body.encode()
    if letter.source != EVENT_GRID:
        return [Delivery(body, letter.source, letter.id)]
    return [replace(one, id=f"{letter.id}-{number}") for number, one in enumerate(deliveries_in(body, {}))]


def _under_a_new_id(application: Application, delivery: Delivery) -> CommandEnvelope:
    envelope = command_in(delivery, application.bus, application.settings.body_limit_bytes)
    return application.bus.envelope(
        envelope.command,
        source=envelope.source,
        correlation_id=envelope.correlation_id,
        causation_id=envelope.causation_id,
        traceparent=envelope.traceparent,
    )


def reason_for(error: Exception) -> str:
    """Why a delivery becomes a dead letter, in words. Logs errors other than refusals."""
    if isinstance(error, BadMessage | Refused | IdReused):
        return str(error)
    _log.error("a command failed", exc_info=error)
    return f"{type(error).__name__}: {error}"


def _handled(application: Application, envelopes: Mapping[Delivery, CommandEnvelope]) -> list[Answer]:
    """Handle as one group. If tracing is on, each command has a span below its sender's, which its events continue."""
    bus, tracer = application.bus, application.telemetry.tracer
    if not tracer.is_on:
        return bus.handle_many(list(envelopes.values()))
    with ExitStack() as stack:
        spans = []
        for delivery, envelope in envelopes.items():
            about = {"messaging.destination.name": delivery.source, "messaging.message.id": envelope.id}
            about["allocation.correlation_id"] = envelope.correlation_id
            name = f"receive {type(envelope.command).__name__}"
            spans.append(stack.enter_context(tracer.span("consumer", name, envelope.traceparent, about)))
        traced = [
            envelope._replace(traceparent=span.traceparent)
            for envelope, span in zip(envelopes.values(), spans, strict=True)
        ]
        answers = bus.handle_many(traced)
        for span, answer in zip(spans, answers, strict=True):
            if answer.error is not None:
                span.failed(answer.error)
    return answers
