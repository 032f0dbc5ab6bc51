"""A moment or a place in the log, as people write it."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from allocation.service_layer.envelope import LogPosition

AT_MEANING = (
    "must be a moment as in 2031-05-01T09:30:00Z (without a zone: UTC; a day alone: its first moment), or a place in "
    "the log as in 0-17"
)
_MOMENT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}([Tt ].*)?")
_POSITION = re.compile(r"(0|[1-9][0-9]{0,3})-(0|[1-9][0-9]{0,17})")


def parse_at(text: str) -> datetime | LogPosition:
    """Raises `ValueError` with a message that says what form the text must have."""
    if place := _POSITION.fullmatch(text):
        return LogPosition(int(place[1]), int(place[2]))
    # Python takes any character before a time: the zone in 2031-05-01-05:00 would be read as five o'clock.
    if not _MOMENT.fullmatch(text):
        raise ValueError(AT_MEANING)
    try:
        moment = datetime.fromisoformat(text)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(AT_MEANING) from None
