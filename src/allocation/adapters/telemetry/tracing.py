"""OpenTelemetry traces: an extra. Only who wants traces loads this module."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import ProxyTracerProvider, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from allocation.service_layer.observing import Kind, Span, Tracer

LONGEST_REASON = 200

_KINDS = {"server": SpanKind.SERVER, "producer": SpanKind.PRODUCER, "consumer": SpanKind.CONSUMER}
_propagator = TraceContextTextMapPropagator()


class OtelTracer(Tracer):
    """Makes spans with a provider. Who brought the provider ends it; `close` only asks it to hand over what it has."""

    is_on = True

    def __init__(self, provider: trace.TracerProvider) -> None:
        self._provider, self._tracer = provider, provider.get_tracer("allocation")

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
            self._provider.force_flush()


class ExportingTracer(OtelTracer):
    """Exports to a collector at an URL (OTLP over HTTP), from a thread of its own, many spans at a time. What the
    collector does not take in time is lost, and nobody waits for it."""

    def __init__(self, endpoint: str, service: str) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        self._own = TracerProvider(resource=Resource.create({"service.name": service}))
        self._own.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
        super().__init__(self._own)

    def close(self) -> None:
        self._own.shutdown()


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


def tracer_of_the_process() -> Tracer:
    """One for the provider that somebody has set for the process, as `opentelemetry-instrument` does; else one that is
    not on."""
    provider = trace.get_tracer_provider()
    return Tracer() if isinstance(provider, ProxyTracerProvider) else OtelTracer(provider)
