"""How a resource declares a route: what it accepts, returns and refuses. Code and document both follow from that."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import BaseModel

from allocation.bootstrap import Application
from allocation.entrypoints.http.call import Call, Reply
from allocation.entrypoints.http.errors import Unheeded
from allocation.entrypoints.http.parsing import parse_body, parse_query, require_ids
from allocation.entrypoints.http.problems import problem_of_question, problem_reply
from allocation.service_layer.observing import CORRELATION

_log = logging.getLogger(__name__)

Handler = TypeVar("Handler", bound=Callable[..., Reply])

CONDITIONS = ("If-Match", "If-None-Match")
"""On which a change may be made to depend (RFC 9110, section 13.1). `If-Unmodified-Since` is not among them: it is to
be ignored where nothing has a date of modification."""


@dataclass(frozen=True)
class Given:
    """An answer: the case in which it is given, and an example of its content (None: it has none)."""

    when: str
    example: Any = None
    type: Any = None  # of the content, if the example does not show it: a list, or something other than JSON
    headers: Sequence[str] = ()
    media_type: str = "text/html"  # if the content is text


@dataclass(frozen=True)
class Route:
    """`takes` is the model of the body, `asks` that of the query. `reads` holds media types and schemas of a body that
    the handler reads itself, as messages with their own ids. `refuses` holds an example of each refusal that is
    particular to this route (those that any route may return are not listed)."""

    tag: str
    method: str
    path: str
    handler: Callable[..., Reply]
    gives: Mapping[int, Given]
    takes: type[BaseModel] | None = None
    asks: type[BaseModel] | None = None
    refuses: Sequence[Exception] = ()
    reads: Mapping[str, Any] = field(default_factory=dict)
    heeds: Sequence[str] = ()  # headers beyond those that every route heeds
    takes_a_key: bool = False
    """Whether an Idempotency-Key makes it safe to send this again, as for routes that give commands to the bus."""
    source: str = field(init=False)
    conditions_unheeded: Mapping[str, str] = field(init=False)
    """Headers that the route is not to be called with, by their names in the environment of WSGI."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "source", f"{self.method} {self.path}")
        unheeded = [header for header in CONDITIONS if self.changes_something and header not in self.heeds]
        by_key = {f"HTTP_{header.upper().replace('-', '_')}": header for header in unheeded}
        object.__setattr__(self, "conditions_unheeded", by_key)

    @property
    def name(self) -> str:
        return self.handler.__name__

    @property
    def changes_something(self) -> bool:
        return self.method not in ("GET", "OPTIONS")

    def answer(self, application: Application, environ: Mapping[str, Any], ids: Mapping[str, str]) -> tuple[Reply, str]:
        """The reply and its correlation id. Raises nothing: every error becomes a problem (RFC 9457)."""
        call = Call(application, environ, self.source)
        begin = time.perf_counter()
        token = CORRELATION.set(call.correlate)
        try:
            reply = self._traced(call, ids) if application.telemetry.tracer.is_on else self._told(call, ids)
            if _log.isEnabledFor(logging.DEBUG):
                micros = (time.perf_counter() - begin) * 1e6
                _log.debug("%s %s %d %d us", self.source, dict(ids), reply.status, micros)
        finally:
            CORRELATION.reset(token)
        return reply, call.correlation_id

    def _traced(self, call: Call, ids: Mapping[str, str]) -> Reply:
        """In a span below the client's; the command and all that follows from it continue the trace. A client's mistake
        is not marked as a failure of the span."""
        about: dict[str, str | int] = {"http.request.method": self.method, "http.route": self.path}
        with call.application.telemetry.tracer.span("server", self.source, call.traceparent, about) as span:
            call.traceparent = span.traceparent
            try:
                reply = self._handle(call, ids)
            except Exception as error:  # noqa: BLE001  # as in `_told`
                reply = self._problem(error, call)
                if reply.status >= 500:
                    span.failed(error)
            span.set({"http.response.status_code": reply.status, "allocation.correlation_id": call.correlation_id})
        return reply

    def _told(self, call: Call, ids: Mapping[str, str]) -> Reply:
        try:
            return self._handle(call, ids)
        except Exception as error:  # noqa: BLE001  # last chance to answer the client; logs the unexpected
            return self._problem(error, call)

    def _problem(self, error: Exception, call: Call) -> Reply:
        tell = problem_reply if self.changes_something else problem_of_question
        return tell(error, call.correlation_id)

    def _handle(self, call: Call, ids: Mapping[str, str]) -> Reply:
        for key, header in self.conditions_unheeded.items():
            if key in call.environ:
                raise Unheeded(header)
        if ids:
            require_ids(ids)
        if self.takes is not None:
            body = parse_body(self.takes, call.environ, call.application.settings.body_limit_bytes)
            return self.handler(call, body, **ids)
        if self.asks is not None:
            return self.handler(call, parse_query(self.asks, call.environ.get("QUERY_STRING", "")), **ids)
        return self.handler(call, **ids)


class Routes(list[Route]):
    """The routes of one resource, under a heading (`tag`) of the document."""

    def __init__(self, tag: str) -> None:
        super().__init__()
        self.tag = tag

    def get(self, path: str, **declared: Any) -> Callable[[Handler], Handler]:
        return self._declare("GET", path, declared)

    def post(self, path: str, **declared: Any) -> Callable[[Handler], Handler]:
        return self._declare("POST", path, declared)

    def put(self, path: str, **declared: Any) -> Callable[[Handler], Handler]:
        return self._declare("PUT", path, declared)

    def patch(self, path: str, **declared: Any) -> Callable[[Handler], Handler]:
        return self._declare("PATCH", path, declared)

    def delete(self, path: str, **declared: Any) -> Callable[[Handler], Handler]:
        return self._declare("DELETE", path, declared)

    def options(self, path: str, **declared: Any) -> Callable[[Handler], Handler]:
        return self._declare("OPTIONS", path, declared)

    def _declare(self, method: str, path: str, declared: Mapping[str, Any]) -> Callable[[Handler], Handler]:
        def declare(handler: Handler) -> Handler:
            self.append(Route(self.tag, method, path, handler, **declared))
            return handler

        return declare
