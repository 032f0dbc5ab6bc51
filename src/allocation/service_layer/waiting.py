"""Waiting, for a bounded time, until a condition is true."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

SHORTEST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.005, 0.02


class Timer(Protocol):
    """Measures time, and pauses. Callers may not read a time of day out of it."""

    def seconds(self) -> float:
        """Seconds since some moment in the past; never steps back."""

    def pause(self, seconds: float) -> None:
        """Returns after `seconds`."""


def wait_until(true: Callable[[], bool], timer: Timer, most_seconds: float) -> bool:
    """Whether it came true within `most_seconds`. Asks at once, then with growing pauses, at least twice."""
    end = timer.seconds() + most_seconds
    pause_seconds = SHORTEST_PAUSE_SECONDS
    while not true():
        left_seconds = end - timer.seconds()
        if left_seconds <= 0:
            return False
        timer.pause(min(pause_seconds, left_seconds))
        pause_seconds = min(pause_seconds * 2, LONGEST_PAUSE_SECONDS)
    return True
