"""Translates the SDK's failures. Service Bus names the cause by an AMQP condition; the SDK has classes for some of
them.

`Rejected` means that the message will never be accepted; any other failure may be temporary. A lost lock is neither:
the message comes again by itself.
"""

from __future__ import annotations

import logging

from azure.core.exceptions import AzureError
from azure.servicebus.exceptions import (
    MessageAlreadySettled,
    MessageLockLostError,
    MessageSizeExceededError,
    MessagingEntityNotFoundError,
    ServiceBusAuthenticationError,
    ServiceBusAuthorizationError,
    ServiceBusError,
    SessionLockLostError,
)

from allocation.service_layer.errors import Rejected, Unavailable

LOST = (SessionLockLostError, MessageLockLostError, MessageAlreadySettled)
FAILURES = (AzureError, OSError, ValueError)
"""What the SDK raises when something goes wrong, including `ValueError` for a handler that was shut down."""

_WILL_NOT_HAVE = (
    "amqp:decode-error",
    "amqp:invalid-field",
    "amqp:link:message-size-exceeded",
    "amqp:not-allowed",
    "amqp:precondition-failed",
    "com.microsoft:argument-error",
    "com.microsoft:argument-out-of-range",
)

log = logging.getLogger("allocation.adapters.brokers.service_bus")


def translated(failure: BaseException, entity: str) -> Unavailable | Rejected:
    """What `failure` means for the call on `entity`."""
    if isinstance(failure, MessageSizeExceededError) or condition_of(failure) in _WILL_NOT_HAVE:
        return Rejected(f"Service Bus rejected it: {_words(failure)}")
    if isinstance(failure, MessagingEntityNotFoundError):
        return Unavailable(f"Service Bus has no {entity}: `allocation topology provision` creates it")
    if isinstance(failure, ServiceBusAuthenticationError | ServiceBusAuthorizationError):
        return Unavailable(f"Service Bus denies access to {entity}: {_words(failure)}")
    return Unavailable(f"Service Bus does not answer for {entity}: {_words(failure)}")


def condition_of(failure: BaseException) -> str:
    """The condition that Service Bus itself reported, as AMQP names it; empty or "None" if the failure is the SDK's
    own."""
    condition = getattr(failure, "_condition", None) if isinstance(failure, ServiceBusError) else None
    value = getattr(condition, "value", condition)
    return value.decode() if isinstance(value, bytes) else str(value)


def _words(failure: BaseException) -> str:
    """The failure in one line, as logs show it."""
    return " ".join(str(failure).split())[:300] or type(failure).__name__
