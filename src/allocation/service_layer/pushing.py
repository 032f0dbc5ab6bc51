"""Push: messages are sent to a subscriber's HTTP address, signed, and retried by a schedule.

An answer means what it means to Azure Event Grid: 200 to 204, in time, is an acknowledgement; after 400, 401, 403 and
413 the message is not retried; after 410 nothing is sent any more; 429 and 503 may say when to try again; after
anything else, redirects included, the message is retried. A receiver may get the same message more than once, each time
under the same id.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from allocation.service_layer.broker import Message
from allocation.service_layer.delivering import DELIVERIES_A_LEASE
from allocation.service_layer.errors import (
    Busy,
    Gone,
    Rejected,
    RejectedForGood,
    Unavailable,
)
from allocation.service_layer.subscriptions import Backoff

ANSWER_SECONDS = 30.0
MOST_IN_A_BATCH, MOST_BATCH_BYTES = 5_000, 1_048_576
LEASE_SECONDS = DELIVERIES_A_LEASE * 2 * ANSWER_SECONDS
"""The `lease_seconds` that a push subscription needs: a delivery may take twice `ANSWER_SECONDS`."""

HOUR = 3600.0
PAUSES_SECONDS = (10.0, 30.0, 60.0, 300.0, 600.0, 1800.0, HOUR, 3 * HOUR, 6 * HOUR)
LAST_PAUSE_SECONDS, KEPT_SECONDS, MOST_ATTEMPTS = 12 * HOUR, 24 * HOUR, 30


@dataclass(frozen=True, slots=True)
class Sink:
    """Where to push, and how.

    `secret`: what the signature is made with, `whsec_` and Base64 of 24 to 64 bytes (Standard Webhooks); several,
    separated by spaces, while one replaces another. `most`: the most events in one request; 1: each alone, as a
    CloudEvent in structured mode; more: as a batch of them. `most_bytes`: the largest request, unless its first event
    alone is larger. `asks_consent`: whether the address has to agree first (CloudEvents' handshake). `answer_seconds`:
    the time for a whole request, from looking up the name to the end of the answer.
    """

    url: str
    secret: str = field(repr=False)
    most: int = 1
    most_bytes: int = MOST_BATCH_BYTES
    asks_consent: bool = True
    answer_seconds: float = ANSWER_SECONDS


class BadSink(ValueError):
    """Nothing can be pushed to this sink as it is described; the text says why, and contains no secret."""


class Push(ABC):
    """Hands messages to sinks. Several threads may use it, each sink by one of them at a time.

    Callers may not assume that a message arrives only once, nor that a failure means that it did not arrive. A call
    takes no longer than twice the sink's `answer_seconds`: what it had no time for is `Busy`, to be tried again at
    once.
    """

    @abstractmethod
    def check(self, sink: Sink) -> None:
        """Raises `BadSink` if nothing could ever be pushed there: the scheme, the host or the secret is not acceptable.
        Connects to nothing and looks up no name: where a name leads is checked at each connection."""

    @abstractmethod
    def push(self, sink: Sink, messages: Sequence[Message]) -> Sequence[Exception | None]:
        """Returns what became of each message, in order. None: it was acknowledged. `Rejected`: to be retried by the
        schedule. `RejectedForGood`: to be parked at once. `Unavailable`: the sink cannot be reached, or (`Busy`) says
        when to try again, and nothing from here on was sent. After a failure, nothing later of the same key was sent.

        Raises `Gone` if the sink says so: nothing is to be pushed there any more. What was acknowledged in the same
        call counts as not sent."""

    @abstractmethod
    def forget(self, sink: Sink) -> None:
        """The address was given up or changed: should it come again, it has to consent again."""

    @abstractmethod
    def finish(self) -> None:
        """Begin no more requests: what is left of each call is `Busy`. Returns at once; called before `close`, so that
        threads with pages left to push stop soon."""

    @abstractmethod
    def close(self) -> None:
        """Close the connections."""


@dataclass(frozen=True, slots=True)
class Schedule(Backoff):
    """Event Grid's schedule: 10 s, 30 s, 1, 5, 10, 30 minutes, 1, 3, 6 hours, then every 12, stretched by up to half;
    parked after 30 attempts, or when the next one would come later than 24 hours after the first."""

    attempts: int = MOST_ATTEMPTS

    def seconds(self, attempt: int) -> float:
        return _pause_seconds(attempt) * (1 + self.jitter() / 2)

    def gives_up(self, attempts: int) -> bool:
        return attempts >= self.attempts or sum(map(_pause_seconds, range(1, attempts + 1))) > KEPT_SECONDS


def _pause_seconds(attempt: int) -> float:
    return PAUSES_SECONDS[attempt - 1] if attempt <= len(PAUSES_SECONDS) else LAST_PAUSE_SECONDS


def event_grid_schedule(jitter: Callable[[], float]) -> Backoff:
    """The `backoff` of a push subscription. `jitter` returns 0 to 1."""
    return Schedule(jitter)


NEVER = frozenset({400, 401, 403, 413})
AWAY = frozenset({408, 429, 502, 503, 504})
"""These are not about the message: the receiver is busy, or what stands in front of it is or does not reach it."""


def outcome_of(status: int, said: str = "", retry_after_seconds: float | None = None) -> Exception | None:
    """What an answer means for what was pushed; `said` is the beginning of the answer's text. Raises `Gone`."""
    words = f"it answered {status}" + (f": {said}" if said else "")
    if 200 <= status <= 204:
        return None
    if status == 410:
        raise Gone(words)
    if status in NEVER:
        return RejectedForGood(words)
    if status in AWAY:
        return Unavailable(words) if retry_after_seconds is None else Busy(words, retry_after_seconds)
    if 300 <= status < 400:
        return Rejected(f"{words}, a redirect, which is not followed")
    return Rejected(words)
