"""The application, for the duration of one command of the command line."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from allocation.config import load_settings
from allocation.service_layer.handlers import COMMAND_HANDLERS

if TYPE_CHECKING:  # so that `--help` does not wait for a database library to load
    from allocation.bootstrap import Application


@contextmanager
def application(handlers: Mapping[type, Callable[..., Any]] = COMMAND_HANDLERS) -> Iterator[Application]:
    """Built from the settings, and closed at the end. Raises `SetupError`, `Unavailable` as `bootstrap` does."""
    from allocation.bootstrap import bootstrap
    from allocation.entrypoints.watching import LogLinesWhenNeeded

    settings = load_settings()
    logging.lastResort = LogLinesWhenNeeded(settings)
    opened = bootstrap(settings, handlers=handlers)
    try:
        yield opened
    finally:
        opened.close()
