"""What can go wrong around a decision. (A refusal is an answer of the domain: see `domain.errors`.)

ServiceError
├── IdReused           another command came under an id that was already used
├── UnknownPosition    a place that the log does not have
├── UnknownSubscription  a name that nobody reads the log under
├── Rejected           a destination looked at a message and will not have it
│   └── RejectedForGood  and never will: it is not tried again by itself
├── LeaseLost          somebody else delivers by now
├── Gone               a destination said that it is not there any more, and never will be
└── Unavailable        the store cannot be reached; nothing was done
    ├── Busy             a destination asks to be left alone for so many seconds
    ├── Conflict         others changed the same products meanwhile; retried, then told
    ├── OutcomeUnknown   the store went away while it committed and has not come back: it may be done
    ├── Overloaded       too many commands wait already; this one was not begun
    └── NotReached       what is read has not come as far in the log as the reader wants it
SetupError             store, settings and handlers do not fit together; the start is stopped
"""

from __future__ import annotations

from allocation.service_layer.envelope import LogPosition


class ServiceError(Exception):
    """Root of what the service layer and its adapters raise to an edge."""


class IdReused(ServiceError):
    """The message id (an HTTP edge calls it Idempotency-Key) stands for another command."""

    def __init__(self, message_id: str) -> None:
        super().__init__(f"The id {message_id} was already used for another request; use a new one for a new request")


class UnknownPosition(ServiceError):
    """A question about a place in the log that is not there, or not yet."""

    def __init__(self, position: object) -> None:
        super().__init__(f"The log has no place {position}")
        self.position = str(position)


class UnknownSubscription(ServiceError):
    """Nobody has defined this, or it was removed."""

    def __init__(self, name: str) -> None:
        super().__init__(f"There is no subscription {name}")


class Rejected(ServiceError):
    """A destination looked at a message and will not have it."""


class RejectedForGood(Rejected):
    """It will not have this message however often it is told: parked at once, until somebody says otherwise."""


class Gone(ServiceError):
    """A destination has gone for good, and said so (HTTP: 410). Nothing is to be sent there any more."""


class LeaseLost(ServiceError):
    """The time of a lease ran out and somebody else took it; nothing was written."""


class Unavailable(ServiceError):
    """Try again later: nothing was done, unless it says otherwise."""


class Busy(Unavailable):
    """The destination is there, and says when to come again: `retry_after_seconds` from now. That is no failure."""

    def __init__(self, message: str, retry_after_seconds: float) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class Conflict(Unavailable):
    """The transaction lost against others and was rolled back; the same again may well succeed."""


class ConnectionLost(Unavailable):
    """The connection broke before anything was committed; a new one may be had at once."""


class OutcomeUnknown(Unavailable):
    """The connection was lost at COMMIT and the store did not come back in time to be asked. Sending the same
    command again is safe: it is done at most once."""


class Overloaded(Unavailable):
    """More commands wait than the service takes on."""


class NotReached(Unavailable):
    """A read model, or the log, has not come to this position in time."""

    def __init__(self, position: LogPosition) -> None:
        super().__init__(
            f"What is read here has not come to {position} yet; ask again in a moment, or without at_least"
        )
        self.position = position


class SetupError(Exception):
    """Store, settings and handlers do not fit together; starting would do harm."""
