"""Waiting for what other threads and processes do, which nothing announces."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Event

PATIENCE_SECONDS = 60.0


def wait_until(is_so: Callable[[], object]) -> None:
    """Ask again and again, a moment apart. Fails the test if it never comes to be."""
    deadline, moment = time.monotonic() + PATIENCE_SECONDS, Event()
    while not is_so():
        assert time.monotonic() < deadline, "it never came to be"
        moment.wait(0.01)
