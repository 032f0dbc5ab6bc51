"""Log lines by structlog: each line, from any logger, shows its correlation."""

from __future__ import annotations

import logging
import sys
from typing import Any, Literal, TextIO

import structlog
from structlog.types import EventDict, Processor

from allocation.service_layer.observing import CORRELATION

Style = Literal["text", "json"]


def configure_logging(level: str, style: Style, run_id: str, stream: TextIO | None = None) -> None:
    """For the whole process, replacing any earlier configuration. `run_id` is the correlation of lines that no message
    led to, so that every line has a correlation. `stream`: stderr if absent."""
    stream = stream or sys.stderr

    def add_correlation(_logger: Any, _method: str, line: EventDict) -> EventDict:
        tell = CORRELATION.get()
        line["correlation_id"] = run_id if tell is None else tell()
        return line

    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.contextvars.merge_contextvars,
        add_correlation,
    ]
    ends: list[Processor] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if style == "json":
        ends += [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    else:
        plain = structlog.dev.plain_traceback
        ends.append(structlog.dev.ConsoleRenderer(colors=stream.isatty(), pad_event_to=0, exception_formatter=plain))
    handler = logging.StreamHandler(stream)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=ends))
    root = logging.getLogger()
    for former in list(root.handlers):
        root.removeHandler(former)
    root.addHandler(handler)
    root.setLevel(level.upper())
    logging.getLogger("alembic").setLevel(logging.WARNING)  # logs at length that there is nothing to do
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
