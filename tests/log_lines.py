"""What is logged, as a program reads it."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO

import structlog

from allocation.adapters.telemetry.logs import Style, configure_logging

RUN = "run-1"


class Lines:
    """All lines so far."""

    def __init__(self, stream: StringIO) -> None:
        self._stream = stream

    @property
    def text(self) -> list[str]:
        return self._stream.getvalue().splitlines()

    @property
    def read(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.text]


@contextmanager
def logged(level: str = "debug", style: Style = "json") -> Iterator[Lines]:
    """As a process of ours logs; the loggers are put back afterwards."""
    root, alembic = logging.getLogger(), logging.getLogger("alembic")
    handlers, levels = list(root.handlers), (root.level, alembic.level)
    stream = StringIO()
    configure_logging(level, style, RUN, stream)
    try:
        yield Lines(stream)
    finally:
        root.handlers[:] = handlers
        root.setLevel(levels[0])
        alembic.setLevel(levels[1])
        structlog.reset_defaults()
