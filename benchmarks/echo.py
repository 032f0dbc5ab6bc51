"""The echo: what Flask on the same server does at best when there is nothing to do but read JSON and answer JSON.

The service is compared with `app`, the fastest of those tried (`python -m benchmarks --only variants`).
"""

import sys
from collections.abc import Callable
from typing import Any

import msgspec
from flask import Flask, Response, jsonify, request

decode, encode = msgspec.json.Decoder().decode, msgspec.json.Encoder().encode


def flask_json() -> Response:
    return jsonify(request.get_json())


def msgspec_json() -> Response:
    return Response(encode(decode(request.get_data(cache=False))), content_type="application/json")


def msgspec_json_off_the_server() -> Response:
    """Past Flask's own reading of the body, which guards its length: a service would not."""
    return Response(encode(decode(request.environ["wsgi.input"].read())), content_type="application/json")


def application(view: Callable[[], Response]) -> Flask:
    """A Flask application with one route, `POST /echo`."""
    made = Flask(__name__)
    made.post("/echo")(view)
    return made


by_flask, by_msgspec = application(flask_json), application(msgspec_json)
app = off_the_server = application(msgspec_json_off_the_server)


def switching(environ: dict[str, Any], start_response: Any) -> Any:
    """Threads take turns every 0.5 ms, as in the service, instead of Python's 5 ms."""
    sys.setswitchinterval(0.0005)
    return app(environ, start_response)


def bare(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """The same without Flask, to tell what Flask costs: the floor of the server itself."""
    body = encode(decode(environ["wsgi.input"].read()))
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]
