"""Errors for requests from which no command can be made.

EdgeError
├── NotLetIn           the request has none of our secrets
├── NotExpected        a handshake by a sender that no setting names
├── Malformed          the body is not JSON according to RFC 8259
├── BadHeader          a header with an invalid value
│   └── Unheeded       a condition that this route does not evaluate
├── Invalid            JSON, parameters or ids that are not valid; lists every fault
├── TooLarge           the body is longer than this service accepts
├── NotJson            the body has another media type, or is encoded
├── UnknownOrder       a question about an order that does not exist
├── NothingAllocated   a question about the batches of an order that has none yet
├── UnknownCorrelation a trace that would be empty
└── UnknownLane        a lane that does not exist, or is at another event
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec


class Fault(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is wrong with one part of a request: a place in the body (`pointer`, RFC 6901, as a URI fragment), or a
    parameter of the path or the query."""

    detail: str
    pointer: str | None = None
    parameter: str | None = None


class EdgeError(Exception):
    """Base class of what the HTTP edge itself refuses. Nothing was done."""


class Malformed(EdgeError):
    """`offset` counts characters from 0; `line` and `column` from 1. None if the place is not known."""

    def __init__(self, detail: str, offset: int | None = None, text: str = "") -> None:
        super().__init__(detail)
        self.offset = offset
        self.line = self.column = None
        if offset is not None and text:
            self.line = text.count("\n", 0, offset) + 1
            self.column = offset - text.rfind("\n", 0, offset)


class NotLetIn(EdgeError):
    def __init__(self) -> None:
        super().__init__("This request needs a secret that is set in ALLOCATION_EVENT_GRID_KEY")


class NotExpected(EdgeError):
    """`what` is the kind of sender: a topic, an origin. The message does not repeat its name."""

    def __init__(self, what: str) -> None:
        super().__init__(f"The request comes from {what} that ALLOCATION_EVENT_GRID_FROM does not list")


class BadHeader(EdgeError):
    def __init__(self, header: str, detail: str) -> None:
        super().__init__(detail)
        self.header = header


class Unheeded(BadHeader):
    """A condition, on a route that would do the same without it. Whoever sends one relies on it."""

    def __init__(self, header: str) -> None:
        super().__init__(header, f"This route does not evaluate {header}; leave it out to make the change in any case")


class Invalid(EdgeError):
    def __init__(self, faults: Sequence[Fault]) -> None:
        place = (faults[0].pointer or faults[0].parameter or "").removeprefix("#/")
        one = f"{'the body' if place == '#' else place} {faults[0].detail}"
        super().__init__(one if len(faults) == 1 else f"{len(faults)} things are wrong; the first: {one}")
        self.faults = faults


class TooLarge(EdgeError):
    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"A request body may have at most {limit_bytes:,} bytes; send less, or send several requests")


class NotJson(EdgeError):
    def __init__(self, detail: str) -> None:
        super().__init__(detail)


class UnknownOrder(EdgeError):
    def __init__(self, orderid: str) -> None:
        super().__init__(f"There is no order {orderid}")
        self.orderid = orderid


class NothingAllocated(EdgeError):
    """The order exists, but waits for stock."""

    def __init__(self, orderid: str) -> None:
        super().__init__(f"Order {orderid} waits for stock; none of its lines is allocated to a batch yet")
        self.orderid = orderid


class UnknownLane(EdgeError):
    def __init__(self, subscription: str, key: str) -> None:
        super().__init__(f"{key} has no lane in {subscription}, or the lane is not at that event now")


class UnknownCorrelation(EdgeError):
    def __init__(self, correlation_id: str) -> None:
        super().__init__(f"Nothing is recorded under the correlation id {correlation_id}")
