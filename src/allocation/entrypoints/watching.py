"""How a long-running process is observed: its log lines, its metrics, its traces.

The libraries for this are loaded only by the processes that use them, so that the command line starts without them.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from allocation.adapters.clock import TimeOrderedIds
from allocation.adapters.telemetry import MULTIPROCESS
from allocation.bootstrap import Application, bootstrap, telemetry_for
from allocation.config import Settings
from allocation.service_layer.errors import SetupError


def log_lines(settings: Settings) -> None:
    """Write log lines as the settings say, to stderr."""
    from allocation.adapters.telemetry.logs import configure_logging

    configure_logging(settings.log_level, settings.log_format, TimeOrderedIds().new())


class LogLinesWhenNeeded(logging.Handler):
    """Replaces `logging.lastResort`, so that a command that logs nothing does not load the formatting of log lines."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(logging.WARNING)
        self._settings = settings

    def emit(self, record: logging.LogRecord) -> None:
        log_lines(self._settings.model_copy(update={"log_level": "warning"}))
        logging.getLogger().handle(record)


def watched(settings: Settings) -> Application:
    """The application of a process that serves no HTTP. Its metrics are served on their own port, if one is set.

    Raises `SetupError`, `Unavailable` as `bootstrap` does, and `SetupError` if the port is taken.
    """
    log_lines(settings)
    application = bootstrap(settings, telemetry=telemetry_for(settings))
    if settings.metrics_port:
        from allocation.adapters.telemetry.exposition import tell_on_port

        try:
            tell_on_port(settings.host, settings.metrics_port, application)
        except SetupError:
            application.close()
            raise
    return application


@contextmanager
def counted_together(processes: int) -> Iterator[None]:
    """Processes started in this context write their counts to one folder, so that any of them can report the sum."""
    if processes == 1 or MULTIPROCESS in os.environ:
        yield
        return
    folder = tempfile.mkdtemp(prefix="allocation-metrics-")
    os.environ[MULTIPROCESS] = folder
    try:
        yield
    finally:
        del os.environ[MULTIPROCESS]
        shutil.rmtree(folder, ignore_errors=True)
