"""Read your own writes: a question may name the position that a write returned; its answer then includes that write."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated

from pydantic import BeforeValidator, Field, WithJsonSchema

from allocation.entrypoints.http.call import Call
from allocation.entrypoints.http.errors import Fault, Invalid
from allocation.entrypoints.http.parsing import Body
from allocation.service_layer.envelope import LogPosition
from allocation.service_layer.errors import NotReached
from allocation.service_layer.waiting import wait_until

PATIENCE_SECONDS = 2.0
PATTERN = "(0|[1-9][0-9]{0,3})-(0|[1-9][0-9]{0,17})"
MEANING = "must be the `position` that a write returned, as in 0-17"
EXAMPLE = NotReached(LogPosition(0, 17))

_POSITION = re.compile(PATTERN)


def _position(text: object) -> LogPosition:
    found = _POSITION.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise ValueError(MEANING)
    return LogPosition(int(found[1]), int(found[2]))


class AtLeast(Body):
    """How recent the answer must be."""

    at_least: Annotated[
        LogPosition | None,
        BeforeValidator(_position),
        WithJsonSchema({"type": "string", "pattern": f"^{PATTERN}$"}),
    ] = Field(
        default=None,
        description="The `position` of a write that the answer must include; the request waits up to 2 seconds "
        "for the data it reads to catch up",
    )

    def wait(self, call: Call, reached: Callable[[LogPosition], bool]) -> None:
        """Returns once `reached` is true. Raises `NotReached` if that takes too long, or at once if the log itself has
        not come so far (a write is in the log before it is answered); `Invalid` if there is no such partition."""
        position, application = self.at_least, call.application
        if position is None:
            return
        if position.partition >= application.settings.log_partitions:
            raise Invalid([Fault(MEANING, parameter="at_least")])
        if reached(position):
            return
        is_there = application.views.log_reached(position)
        if not is_there or not wait_until(lambda: reached(position), application.timer, PATIENCE_SECONDS):
            raise NotReached(position)
