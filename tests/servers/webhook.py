"""A receiver of webhooks that does as the test says: a real HTTP server on a loopback port, with TLS if wanted."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from threading import Condition, Event, Thread
from typing import Any, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.servers.process import LOOPBACK, free_port

LONG_SECONDS = 10.0


@dataclass(frozen=True)
class Request:
    """What came: `headers` in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    def events(self) -> list[dict[str, Any]]:
        """The CloudEvents in it, one or a batch."""
        found = json.loads(self.body)
        return found if isinstance(found, list) else [found]


@dataclass(frozen=True)
class Reply:
    """`after`: an event to wait for before answering. `trickles`: the answer comes byte by byte, each after a while."""

    status: int = 204
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    after: Event | None = None
    trickles: bool = False


CONSENTS = Reply(200, {"WebHook-Allowed-Origin": "*", "WebHook-Allowed-Rate": "*"})

Answering = Callable[[Request], Reply]


class WebhookReceiver:
    """As a context manager. `answers` is asked for the reply to each POST, `consents` holds that to OPTIONS.

    `stop` closes the port, and `start` opens the same one again.
    """

    def __init__(self, certificate: Path | None = None) -> None:
        self.port = free_port()
        self.answers: Answering = lambda request: Reply()
        self.consents = CONSENTS
        self.requests: list[Request] = []
        self._came = Condition()
        self._certificate = certificate
        self._server: _Server | None = None

    @property
    def url(self) -> str:
        scheme = "http" if self._certificate is None else "https"
        return f"{scheme}://{LOOPBACK}:{self.port}/hook"

    def start(self) -> Self:
        self._server = _Server((LOOPBACK, self.port), _handler(self))
        if self._certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self._certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server.cut_all()
            self._server = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def answers_with(self, *replies: Reply) -> None:
        """These, one after the other; then all is well."""
        left = list(replies)
        self.answers = lambda request: left.pop(0) if left else Reply()

    def posts(self) -> list[Request]:
        return [request for request in self.requests if request.method == "POST"]

    def told(self) -> list[str]:
        """The ids of the events that came, in order, with repetitions."""
        return [event["id"] for request in self.posts() for event in request.events()]

    def wait_for(self, true: Callable[[], bool], seconds: float = LONG_SECONDS) -> bool:
        """Whether it came true, asked after each request."""
        with self._came:
            return self._came.wait_for(true, seconds)

    def take(self, request: Request) -> Reply:
        with self._came:
            self.requests.append(request)
            reply = self.consents if request.method == "OPTIONS" else self.answers(request)
            self._came.notify_all()
        return reply


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # one that is still answering slowly is nobody's business any more
    request_queue_size = 64

    def __init__(self, *given: Any) -> None:
        self._open: set[socket.socket] = set()
        super().__init__(*given)

    def cut_all(self) -> None:
        for connection in list(self._open):
            with contextlib.suppress(OSError):  # the other end was faster
                connection.shutdown(socket.SHUT_RDWR)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away."""


def _handler(receiver: WebhookReceiver) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            reply = receiver.take(Request(self.command, self.path, headers, body))
            if reply.after is not None:
                reply.after.wait(LONG_SECONDS)
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            if reply.status != 204:
                self.send_header("Content-Length", str(len(reply.body)))
            if reply.trickles:
                self.send_header("X-Slow", "x" * 150)
                self._trickle()
                return
            self.end_headers()
            self.wfile.write(reply.body)

        def _trickle(self) -> None:
            head = b"".join(self._headers_buffer)  # type: ignore[attr-defined]  # what send_header gathered
            for byte in head:
                self.wfile.write(bytes([byte]))
                self.wfile.flush()
                if Event().wait(0.02):
                    return

        do_OPTIONS = do_POST  # noqa: N815  # the name that http.server looks for

        def log_message(self, format: str, *args: object) -> None:
            """Not on the tests' terminal."""

    return Handler


def certificate_for(folder: Path, *, name: str = "", address: str = "") -> Path:
    """A key and a certificate that signs itself, in one file, for the name or the address."""
    key = ec.generate_private_key(ec.SECP256R1())
    whose = x509.DNSName(name) if name else x509.IPAddress(ip_address(address))
    called = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tests")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(called, called, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([whose]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file = folder / "certificate.pem"
    file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM) + key.private_bytes(*form))
    return file
