"""The HTTP application: `create_app` makes one from an `Application`. Importing this does nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any

import flask
from flask import Flask
from werkzeug.exceptions import HTTPException
from werkzeug.http import HTTP_STATUS_CODES

from allocation.bootstrap import Application
from allocation.entrypoints.http import (
    allocations,
    asyncapi,
    audit,
    batches,
    book,
    dead_letters,
    event_grid,
    events,
    explanations,
    health,
    history,
    lanes,
    many_allocations,
    metrics,
    orders,
    past,
    products,
    pull,
    stock,
    subscriptions,
    traces,
    what_if,
)
from allocation.entrypoints.http.call import Call, Reply
from allocation.entrypoints.http.docs import docs_routes
from allocation.entrypoints.http.openapi import openapi_routes
from allocation.entrypoints.http.problems import problem_reply
from allocation.entrypoints.http.routes import Route
from allocation.service_layer.observing import correlated

RESOURCES = (
    batches,
    allocations,
    many_allocations,
    orders,
    products,
    stock,
    past,
    history,
    traces,
    explanations,
    what_if,
    events,
    subscriptions,
    pull,
    event_grid,
    lanes,
    dead_letters,
    audit,
    book,
    health,
    metrics,
    asyncapi,
)

Environ = dict[str, Any]
StartResponse = Callable[..., Any]

_STATUS_LINES = {code: f"{code} {name}" for code, name in HTTP_STATUS_CODES.items()}


def create_app(application: Application) -> Flask:
    """A Flask application over `application`, which the caller has to close. One process may have several."""
    app = Flask(__name__, static_folder=None)
    app.url_map.merge_slashes = False
    routes = all_routes()
    for route in routes:
        view = _view(route, application)
        app.add_url_rule(route.path, endpoint=route.source, methods=[route.method], view_func=view)

    @app.errorhandler(Exception)
    def tell(error: Exception) -> flask.Response:
        call = Call(application, flask.request.environ, "")
        with correlated(call.correlation_id):
            return _response(problem_reply(error, call.correlation_id), call.correlation_id)

    @app.after_request
    def correlated_too(response: flask.Response) -> flask.Response:
        """What Flask answers by itself (OPTIONS), and views that somebody adds."""
        if "X-Correlation-Id" not in response.headers:
            call = Call(application, flask.request.environ, "")
            response.headers.extend(_headers(Reply(response.status_code, headers=()), call.correlation_id))
        return response

    app.wsgi_app = ShortWay(app, application, routes)  # type: ignore[method-assign]  # Flask's own hook for middleware
    return app


@cache
def all_routes() -> Sequence[Route]:
    """All routes of the service, in the order of the document. All applications of a process share them, and the
    document."""
    routes = [route for resource in RESOURCES for route in resource.routes]
    routes += openapi_routes(routes)
    routes += docs_routes(routes)
    return tuple(routes)  # a tuple, because it is shared: nothing may be added


class ShortWay:
    """Answers declared routes straight from the WSGI environment, past Flask's contexts, signals and request object.

    Those cost several times as much as the rest of the edge. Flask still handles what is rare: HEAD, OPTIONS, unknown
    paths and methods, and any view that is added later. Hooks such as `before_request` do not run on the short way;
    what every request needs belongs in `Route.answer`.
    """

    def __init__(self, app: Flask, application: Application, routes: Sequence[Route]) -> None:
        self._flask = app.wsgi_app
        self._application = application
        self._fixed = {(route.method, route.path): route for route in routes if "<" not in route.path}
        self._declared = {route.source: route for route in routes}
        self._urls = app.url_map.bind("localhost")

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        found = self._match(environ["REQUEST_METHOD"], environ["PATH_INFO"])
        if found is None:
            return self._flask(environ, start_response)
        route, ids = found
        reply, correlation_id = route.answer(self._application, environ, ids)
        start_response(_STATUS_LINES[reply.status], _headers(reply, correlation_id))
        return [reply.body]

    def _match(self, method: str, path: str) -> tuple[Route, Mapping[str, str]] | None:
        if fixed := self._fixed.get((method, path)):
            return fixed, {}
        if method in ("HEAD", "OPTIONS"):
            return None
        try:
            # WSGI gives the bytes of the path as Latin-1 (PEP 3333).
            endpoint, ids = self._urls.match(path.encode("latin-1").decode("utf-8", "replace"), method)
        except HTTPException:
            return None
        route = self._declared.get(endpoint)
        return None if route is None else (route, ids)


def _view(route: Route, application: Application) -> Callable[..., flask.Response]:
    def view(**ids: str) -> flask.Response:
        reply, correlation_id = route.answer(application, flask.request.environ, ids)
        return _response(reply, correlation_id)

    return view


def _response(reply: Reply, correlation_id: str) -> flask.Response:
    response = flask.Response(reply.body, reply.status)
    response.headers.clear()
    response.headers.extend(_headers(reply, correlation_id))
    return response


def _headers(reply: Reply, correlation_id: str) -> list[tuple[str, str]]:
    headers = [("X-Correlation-Id", correlation_id), ("X-Content-Type-Options", "nosniff"), *reply.headers]
    if reply.body:
        headers.append(("Content-Type", reply.media_type))
        headers.append(("Content-Length", str(len(reply.body))))
    return headers
