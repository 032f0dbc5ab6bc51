"""What can go wrong around a decision. (A refusal is an answer of the domain: see `domain.errors`.)

ServiceError
├── IdReused           the id was already used for another command
├── UnknownPosition    a position that the log does not have
├── UnknownSubscription  no subscription has this name
├── Rejected           a destination looked at a message and refused it
│   └── RejectedForGood  and always will: it is not retried automatically
├── LeaseLost          another worker delivers by now
├── Gone               a destination reported that it has gone for good
├── DefinitionError    what users define is refused: see `definitions`
├── RuleError          a rule cannot be used or evaluated: see `rules.values`
└── Unavailable        the store cannot be reached; nothing was done
    ├── Busy             a destination asks to be left alone for some seconds
    ├── ConnectionLost   the connection broke before anything was committed
    ├── Conflict         others changed the same products meanwhile; retried, then reported
    ├── OutcomeUnknown   the connection was lost at COMMIT and the store has not come back: it may be done
    ├── Overloaded       too many commands wait already; this one was not begun
    └── NotReached       what is read has not come as far in the log as the reader asked
SetupError             store, settings and handlers do not fit together; the program does not start
"""

from __future__ import annotations

from allocation.service_layer.envelope import LogPosition


class ServiceError(Exception):
    """Base class of what the service layer and its adapters raise to an entry point."""


class IdReused(ServiceError):
    """The message id (over HTTP, the Idempotency-Key) was already used for another command."""

    def __init__(self, message_id: str) -> None:
        super().__init__(f"The id {message_id} was already used for another request; use a new one for a new request")


class UnknownPosition(ServiceError):
    """A question about a position that the log does not have, or not yet."""

    def __init__(self, position: object) -> None:
        super().__init__(f"The log has no position {position}")
        self.position = str(position)


class UnknownSubscription(ServiceError):
    """The subscription was never defined, or it was removed."""

    def __init__(self, name: str) -> None:
        super().__init__(f"There is no subscription {name}")


class Rejected(ServiceError):
    """A destination looked at a message and refused it."""


class RejectedForGood(Rejected):
    """The destination will refuse this message every time: it is parked at once, until somebody retries or discards
    it."""


class Gone(ServiceError):
    """A destination has gone for good, and said so (HTTP: 410). Nothing may be sent there any more."""


class LeaseLost(ServiceError):
    """The lease ran out and another worker took it; nothing was written."""


class Unavailable(ServiceError):
    """Try again later: nothing was done, unless it says otherwise."""


class Busy(Unavailable):
    """The destination is there, and says when to try again: `retry_after_seconds` from now. That is not a failure."""

    def __init__(self, message: str, retry_after_seconds: float) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class Conflict(Unavailable):
    """The transaction conflicted with others and was rolled back; trying it again may well succeed."""


class ConnectionLost(Unavailable):
    """The connection broke before anything was committed; a new one may be available at once."""


class OutcomeUnknown(Unavailable):
    """The connection was lost at COMMIT and the store did not come back in time to be asked. Sending the same
    command again is safe: it is done at most once."""


class Overloaded(Unavailable):
    """More commands wait than the service accepts."""


class NotReached(Unavailable):
    """A read model, or the log, did not reach this position in time."""

    def __init__(self, position: LogPosition) -> None:
        super().__init__(
            f"The data read here has not reached {position} yet; ask again in a moment, or without at_least"
        )
        self.position = position


class SetupError(Exception):
    """Store, settings and handlers do not fit together; starting would do harm."""
