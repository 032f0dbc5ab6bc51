"""Parameters that all feeds have in common: where to continue from, and how many at most."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema

from allocation.entrypoints.http.call import Call
from allocation.entrypoints.http.cursors import ForgedCursor, decode_cursor
from allocation.entrypoints.http.errors import Fault, Invalid
from allocation.service_layer.envelope import BEYOND, LogPosition

MOST_ON_A_PAGE = 1000

After = Annotated[
    str | None,
    Field(
        max_length=2048,
        description="`next` of the previous page, or positions in the log, one for each partition: `0-17`, `0-17.1-4`; "
        f"from the start if absent. A partition with the position {BEYOND} is left out",
    ),
]


def whole(least: int, most: int, default: int | None = None) -> Any:
    """The type of a parameter that is a whole number. `default` is None if it has no default."""
    schema: dict[str, Any] = {"type": "integer", "minimum": least, "maximum": most}
    return Annotated[
        int,
        Field(ge=least, le=most),
        BeforeValidator(_digits(least, most)),
        WithJsonSchema(schema if default is None else schema | {"default": default}),
    ]


def positions_behind(call: Call, after: str | None) -> list[LogPosition]:
    """Where a page begins. Raises `Invalid`, `UnknownPosition`."""
    try:
        return decode_cursor(after, call.application.settings.log_partitions) if after is not None else []
    except ForgedCursor:
        what = "must be the `next` of an earlier page, as it came, or a position in each log partition, as in 0-17.1-4"
        raise Invalid([Fault(what, parameter="after")]) from None


def _digits(least: int, most: int) -> Callable[[object], int]:
    """Query parameters are text. What `int` also accepts (blanks, signs, the digits of all scripts) is refused here."""

    def read(value: object) -> int:
        if not isinstance(value, str) or not (value.isascii() and value.isdigit() and len(value) <= 20):
            raise ValueError(f"must be a whole number from {least} to {most}")
        return int(value)

    return read
