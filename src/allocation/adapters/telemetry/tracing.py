"""OpenTelemetry traces, an extra: this module is loaded only if traces are wanted."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from threading import Thread

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import ProxyTracerProvider, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from allocation.service_layer.observing import Kind, Span, Tracer

LONGEST_REASON = 200
GOODBYE_SECONDS = 2.0
WHO_LOGS_ADDRESSES = ("opentelemetry.exporter.otlp.proto.http.trace_exporter", "urllib3.connectionpool")

_KINDS = {"server": SpanKind.SERVER, "producer": SpanKind.PRODUCER, "consumer": SpanKind.CONSUMER}
_propagator = TraceContextTextMapPropagator()
_log = logging.getLogger(__name__)


class OtelTracer(Tracer):
    """Makes spans with a provider. The code that brought the provider shuts it down; `close` only asks it to export
    what it has, and waits at most `goodbye_seconds` for this."""

    is_on = True

    def __init__(self, provider: trace.TracerProvider, goodbye_seconds: float = GOODBYE_SECONDS) -> None:
        self._provider, self._tracer = provider, provider.get_tracer("allocation")
        self._goodbye_seconds = goodbye_seconds

    @contextmanager
    def span(
        self, kind: Kind, name: str, traceparent: str | None, attributes: Mapping[str, str | int]
    ) -> Iterator[Span]:
        above = _propagator.extract({"traceparent": traceparent} if traceparent else {})
        started = self._tracer.start_span(name, context=above, kind=_KINDS[kind], attributes=dict(attributes))
        span = _OtelSpan(started)
        try:
            yield span
        except Exception as error:
            span.failed(error)
            raise
        finally:
            started.end()

    def close(self) -> None:
        if isinstance(self._provider, TracerProvider):
            self._while_patient(self._provider.force_flush)

    def _while_patient(self, hand_over: Callable[[], object]) -> None:
        """Neither of the provider's two ways to export keeps to a time limit: each waits for the answer to every
        batch."""
        handing_over = Thread(target=hand_over, name="traces-goodbye", daemon=True)
        handing_over.start()
        handing_over.join(self._goodbye_seconds)
        if handing_over.is_alive():
            _log.warning(
                "the last spans are lost: the collector did not accept them within %s seconds", self._goodbye_seconds
            )


class ExportingTracer(OtelTracer):
    """Exports to a collector at an URL (OTLP over HTTP), from a thread of its own, many spans at a time. What the
    collector does not accept in time is lost; nobody waits for it, except for `goodbye_seconds` at the end."""

    def __init__(self, endpoint: str, service: str, goodbye_seconds: float = GOODBYE_SECONDS) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        _keep_quiet_about_keys()
        # No shutdown at the exit of the process: nothing would limit its duration.
        self._own = TracerProvider(resource=Resource.create({"service.name": service}), shutdown_on_exit=False)
        self._own.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
        super().__init__(self._own, goodbye_seconds)

    def close(self) -> None:
        self._while_patient(self._own.shutdown)


class _OtelSpan(Span):
    def __init__(self, span: trace.Span) -> None:
        context = span.get_span_context()
        super().__init__(f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}")
        self._span = span

    def set(self, attributes: Mapping[str, str | int]) -> None:
        self._span.set_attributes(attributes)

    def failed(self, error: Exception) -> None:
        self._span.record_exception(error)
        self._span.set_status(Status(StatusCode.ERROR, str(error)[:LONGEST_REASON]))


def _keep_quiet_about_keys() -> None:
    """Exporters log the address when it does not answer; a key may follow the ? in it."""
    for name in WHO_LOGS_ADDRESSES:
        logging.getLogger(name).addFilter(_without_query)  # once, however often it is said


def _without_query(record: logging.LogRecord) -> bool:
    record.msg, record.args = re.sub(r"\?\S+", "?***", record.getMessage()), ()
    return True


def tracer_of_the_process() -> Tracer:
    """A tracer for the provider that is set for the process, as `opentelemetry-instrument` does; otherwise one that is
    off."""
    provider = trace.get_tracer_provider()
    return Tracer() if isinstance(provider, ProxyTracerProvider) else OtelTracer(provider)
