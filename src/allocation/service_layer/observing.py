"""What can be seen of the work from outside: counts, traces, and under which correlation a line is logged.

The two ports do nothing by themselves; `adapters.telemetry` has those that measure. They are told of groups and pages,
not of single steps, so that being watched costs little.
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
"""Tells the correlation id of what this thread is busy with; asked only when a line is logged. None: with nothing that
came from outside."""

MOST_TOLD = 10
"""So many ids at most stand in a line about many messages at once."""


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
    """Lines that are logged inside are about all of these: they carry the id of each, up to `MOST_TOLD`."""
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
    """Is told what happened. Called from any thread; raises nothing, and returns at once."""

    def group(self, commands: Sequence[CommandEnvelope], answers: Sequence[Answer], seconds: float) -> None:
        """A group of commands was answered, by one transaction that took so long, waiting for locks included."""

    def group_failed(self, commands: Sequence[CommandEnvelope], failure: Exception) -> None:
        """A group got no answer but this."""

    def tried_again(self, reason: BaseException) -> None:
        """A transaction lost against others, or lost its connection, and is tried again."""

    def delivered(self, subscription: str, outcomes: Sequence[Exception | None]) -> None:
        """Events were handed over: None each that was taken, else why it was not. There are few names, all of them
        ours (see `messagebus.USER_DEFINED`)."""

    def cache(self, hits: int, misses: int, bypassed: int, refused_fills: int) -> None:
        """Questions were answered beside a cache (see `CacheCounters`)."""


class Span:
    """A stretch of work in a trace. `traceparent` (W3C Trace Context) is what its effects carry on."""

    def __init__(self, traceparent: str | None) -> None:
        self.traceparent = traceparent

    def set(self, attributes: Mapping[str, str | int]) -> None:
        """Say more about it."""

    def failed(self, error: Exception) -> None:
        """It came to no good end."""


Kind = Literal["server", "producer", "consumer"]


class Tracer:
    """Makes spans. One that is not on hands traces through as they came, so that they do not break here."""

    is_on = False

    @contextmanager
    def span(
        self, kind: Kind, name: str, traceparent: str | None, attributes: Mapping[str, str | int]
    ) -> Iterator[Span]:
        """A span as long as the context, below the one that `traceparent` names (None: it begins a trace)."""
        yield Span(traceparent)

    def close(self) -> None:
        """Hand over what was recorded."""


@dataclass(frozen=True, slots=True)
class Telemetry:
    """Both."""

    meter: Meter = field(default_factory=Meter)
    tracer: Tracer = field(default_factory=Tracer)
