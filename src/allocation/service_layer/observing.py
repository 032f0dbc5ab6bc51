"""What can be observed from outside: counts, traces, and the correlation id that a log line carries.

The two ports do nothing by themselves; `adapters.telemetry` has implementations that measure. Groups and pages are
reported to them, not single steps, so that observing costs little.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Literal

from allocation.service_layer.answers import Answer
from allocation.service_layer.envelope import CommandEnvelope, EventEnvelope

CORRELATION: ContextVar[Callable[[], str] | None] = ContextVar("correlation", default=None)
"""Returns the correlation id of what this thread is working on; called only when a line is logged. None: it works on
nothing that came from outside."""

MOST_TOLD = 10
"""The most ids in a log line about many messages at once."""


@contextmanager
def correlated(correlation_id: str) -> Iterator[None]:
    """Lines that are logged inside carry this id."""
    token = CORRELATION.set(lambda: correlation_id)
    try:
        yield
    finally:
        CORRELATION.reset(token)


@contextmanager
def correlated_with(messages: Sequence[CommandEnvelope] | Sequence[EventEnvelope]) -> Iterator[None]:
    """Lines that are logged inside concern all of these messages: they carry the id of each, up to `MOST_TOLD`."""
    token = CORRELATION.set(lambda: _told_of(messages))
    try:
        yield
    finally:
        CORRELATION.reset(token)


def _told_of(messages: Sequence[CommandEnvelope] | Sequence[EventEnvelope]) -> str:
    ids = list(dict.fromkeys(message.correlation_id for message in messages))
    more = [f"and {len(ids) - MOST_TOLD} more"] if len(ids) > MOST_TOLD else []
    return ",".join(ids[:MOST_TOLD] + more)


class Meter:
    """Receives reports of what happened. Methods are called from any thread, raise nothing, and return at once."""

    def group(self, commands: Sequence[CommandEnvelope], answers: Sequence[Answer], seconds: float) -> None:
        """A group of commands was answered, in one transaction that took `seconds`, waiting for locks included."""

    def group_failed(self, commands: Sequence[CommandEnvelope], failure: Exception) -> None:
        """A group got no answer except this failure."""

    def tried_again(self, reason: BaseException) -> None:
        """A transaction conflicted with others, or lost its connection, and is tried again."""

    def delivered(self, subscription: str, outcomes: Sequence[Exception | None]) -> None:
        """Events were handed over. Outcomes: None for an event that was delivered, else why it was not. There are few
        names, all of them ours (see `messagebus.USER_DEFINED`)."""

    def cache(self, hits: int, misses: int, bypassed: int, refused_fills: int) -> None:
        """Questions were answered with a cache in place (see `CacheCounters`)."""


class Span:
    """A stretch of work in a trace. `traceparent` (W3C Trace Context) is passed on to its effects."""

    def __init__(self, traceparent: str | None) -> None:
        self.traceparent = traceparent

    def set(self, attributes: Mapping[str, str | int]) -> None:
        """Add attributes to it."""

    def failed(self, error: Exception) -> None:
        """It ended with an error."""


Kind = Literal["server", "producer", "consumer"]


class Tracer:
    """Makes spans. A tracer that is not on passes each `traceparent` through unchanged, so that traces do not break
    here."""

    is_on = False

    @contextmanager
    def span(
        self, kind: Kind, name: str, traceparent: str | None, attributes: Mapping[str, str | int]
    ) -> Iterator[Span]:
        """A span that lasts as long as the context, below the one that `traceparent` names (None: it begins a
        trace)."""
        yield Span(traceparent)

    def close(self) -> None:
        """Export what was recorded."""


@dataclass(frozen=True, slots=True)
class Telemetry:
    """Meter and tracer together."""

    meter: Meter = field(default_factory=Meter)
    tracer: Tracer = field(default_factory=Tracer)
