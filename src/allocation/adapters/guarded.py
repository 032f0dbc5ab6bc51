"""HTTP requests to addresses that others name: checked, limited, and never led to another place.

Built on httpcore, which does one request and nothing more: it follows no redirects, and knows no proxies or cookies.
This module gives it the network: a name is looked up once, its addresses are checked, and the connection goes to one
that was checked, so that a name which leads elsewhere a moment later (DNS rebinding) leads nowhere. A deadline holds
for a whole request, however slowly its parts come.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from threading import Thread, local
from typing import Any

import httpcore

from allocation.service_layer.waiting import Timer

MOST_ANSWER_BYTES = 65_536
WRITTEN_AT_ONCE_BYTES = 65_536
IDLE_SECONDS = 1.0  # servers close idle connections; the next request would fail on one that is about to be closed

Lookup = Callable[[str, int], list[str]]


class NoConnection(Exception):
    """There is no connection: the name, the address, TLS or the network prevented it. Nothing was sent."""


class NotAllowed(NoConnection):
    """The host leads to an address that is not allowed."""


class NoAnswer(Exception):
    """The request was sent, at least in part, and no complete answer came back in time."""


@dataclass(frozen=True, slots=True)
class Answer:
    """`headers` in lower case, `body` no more than the first `MOST_ANSWER_BYTES`."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def look_up(host: str, port: int) -> list[str]:
    """The addresses of a host, in the system's order. Raises `OSError`."""
    return [str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


class Guarded:
    """Sends requests with TLS to addresses that `securely` allows, without it to those that `plainly` allows.

    Several threads may use it. Proxies named in the environment are not used: they would connect to addresses that were
    not checked.
    """

    def __init__(
        self,
        securely: Callable[[str], bool],
        plainly: Callable[[str], bool],
        timer: Timer,
        tls: ssl.SSLContext | None = None,
        lookup: Lookup = look_up,
    ) -> None:
        self._deadline = _Deadline(timer)
        context = tls or ssl.create_default_context()
        self._pools = {
            scheme: httpcore.ConnectionPool(
                ssl_context=context,
                max_connections=None,
                keepalive_expiry=IDLE_SECONDS,
                network_backend=_CheckedNetwork(allowed, self._deadline, lookup),
            )
            for scheme, allowed in (("https", securely), ("http", plainly))
        }

    def send(self, method: str, url: httpcore.URL, headers: Mapping[str, str], body: bytes, seconds: float) -> Answer:
        """One request, within `seconds` from looking up the name to the end of the answer. Raises `NoConnection`,
        `NoAnswer`."""
        self._deadline.start(seconds)
        sent = [(name.encode("ascii"), value.encode("ascii")) for name, value in headers.items()]
        try:
            with self._pools[url.scheme.decode()].stream(method, url, headers=sent, content=body) as response:
                told = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
                return Answer(response.status, told, _beginning(response.iter_stream()))
        except (httpcore.ConnectError, httpcore.ConnectTimeout) as away:
            raise away.__cause__ if isinstance(away.__cause__, NoConnection) else NoConnection(_words(away)) from away
        except httpcore.TimeoutException as slow:
            raise NoAnswer(f"it did not answer within {seconds:g} seconds") from slow
        except (httpcore.NetworkError, httpcore.ProtocolError) as broken:
            raise NoAnswer(f"it gave no valid HTTP answer: {_words(broken)}") from broken

    def close(self) -> None:
        for pool in self._pools.values():
            pool.close()


def _beginning(parts: Iterable[bytes]) -> bytes:
    """The first bytes of the body. Leaving the rest unread ends the connection; nobody can make us read on."""
    body = b""
    for part in parts:
        body += part
        if len(body) >= MOST_ANSWER_BYTES:
            break
    return body[:MOST_ANSWER_BYTES]


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__


class _Deadline(local):
    """Until when the request of this thread has time."""

    def __init__(self, timer: Timer) -> None:
        self._timer, self._end = timer, 0.0

    def start(self, seconds: float) -> None:
        self._end = self._timer.seconds() + seconds

    def left(self) -> float:
        """The time left in seconds; 0: none."""
        return max(0.0, self._end - self._timer.seconds())


class _CheckedNetwork(httpcore.NetworkBackend):
    """Looks a host up, and connects to those of its addresses that are allowed."""

    def __init__(self, allowed: Callable[[str], bool], deadline: _Deadline, lookup: Lookup) -> None:
        self._allowed, self._deadline, self._lookup = allowed, deadline, lookup
        self._network = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        failure: Exception = NotAllowed(f"{host} has no address that may be connected to")
        for address in filter(self._allowed, self._addresses(host, port)):
            try:
                left = _some(self._deadline.left(), httpcore.ConnectTimeout)
                stream = self._network.connect_tcp(address, port, left, local_address, socket_options)
                return _TimedStream(stream, self._deadline)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as away:
                failure = away
        raise httpcore.ConnectError(_words(failure)) from failure

    def _addresses(self, host: str, port: int) -> list[str]:
        """Looks up in a thread of its own, because the system's look-up takes no time limit."""
        found: Future[list[str]] = Future()

        def ask() -> None:
            try:
                found.set_result(self._lookup(host, port))
            except Exception as failed:  # noqa: BLE001  # passed to the thread that waits for it
                found.set_exception(failed)

        Thread(target=ask, name=f"lookup {host}", daemon=True).start()
        try:
            return found.result(self._deadline.left())
        except TimeoutError as slow:
            raise httpcore.ConnectTimeout(f"{host} was not found in time") from slow
        except (OSError, UnicodeError) as unknown:
            raise httpcore.ConnectError(f"{host} was not found") from unknown


class _TimedStream(httpcore.NetworkStream):
    """A connection whose every step has only what is left of the request's time."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: _Deadline) -> None:
        self._stream, self._deadline = stream, deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _some(self._deadline.left(), httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        for begin in range(0, len(buffer), WRITTEN_AT_ONCE_BYTES):  # each step has its own time limit
            part = buffer[begin : begin + WRITTEN_AT_ONCE_BYTES]
            self._stream.write(part, _some(self._deadline.left(), httpcore.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        left = _some(self._deadline.left(), httpcore.ConnectTimeout)
        return _TimedStream(self._stream.start_tls(ssl_context, server_hostname, left), self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _some(left_seconds: float, too_late: type[Exception]) -> float:
    """The time left. For a socket, 0 would mean not to wait at all, and it would fail with another error."""
    if left_seconds <= 0:
        raise too_late("no time is left")
    return left_seconds
