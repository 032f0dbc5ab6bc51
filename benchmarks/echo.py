"""The echo: what Flask on the same server does at best when there is nothing to do but read JSON and answer JSON.

`VARIANTS` are those that were tried (`python -m benchmarks --only variants` measures them again); the service is
compared with `app`, the fastest.
"""

from collections.abc import Callable

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


VARIANTS = (flask_json, msgspec_json, msgspec_json_off_the_server)


def application(view: Callable[[], Response]) -> Flask:
    """A Flask application with one route, `POST /echo`."""
    app = Flask(__name__)
    app.post("/echo")(view)
    return app


app = application(msgspec_json_off_the_server)
