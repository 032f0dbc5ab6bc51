"""Many HTTP clients in one thread, and a journal of what they sent and what they were answered.

Each shopper is a generator: it yields a request and is sent its entry in the journal once that is answered, or lost.
One connection each, kept alive; the next request goes out when the last one is answered. The load shares the machine
with what it loads, so it is plain sockets and one selector.
"""

import itertools
import json
import re
import selectors
import socket
import threading
import time
from collections.abc import Callable, Generator, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from tests.servers.process import LOOPBACK

PATIENCE_SECONDS = 60.0
STATUS_LINE = re.compile(rb"HTTP/1\.1 (\d{3})")
UNAVAILABLE = 503
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Request:
    """`expected` are the statuses that are right; `key` is its Idempotency-Key."""

    method: str
    path: str
    body: Mapping[str, Any] | None = None
    key: str | None = None
    expected: tuple[int, ...] = (200,)
    headers: tuple[tuple[str, str], ...] = ()

    def expecting(self, *statuses: int) -> "Request":
        """The same, but these answers are right too."""
        return replace(self, expected=(*self.expected, *statuses))

    def encoded(self, correlation_id: str) -> bytes:
        """As it goes over the wire."""
        head = [f"{self.method} {self.path} HTTP/1.1", "Host: shop", f"X-Correlation-Id: {correlation_id}"]
        head += [f"{name}: {value}" for name, value in self.headers]
        if self.key is not None:
            head.append(f"Idempotency-Key: {self.key}")
        body = b""
        if self.body is not None:
            body = json.dumps(self.body).encode()
            head += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
        return "\r\n".join([*head, "", ""]).encode() + body


@dataclass(slots=True, eq=False)
class Entry:
    """One request that was sent, and its answer. `status` None: none came, the connection was lost."""

    correlation_id: str
    request: Request
    sent_at: float
    status: int | None = None
    answered_at: float | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = None

    @property
    def is_done(self) -> bool:
        """Answered, and with more than "try again"."""
        return self.status not in (None, UNAVAILABLE)

    def __str__(self) -> str:
        r = self.request
        return f"{self.correlation_id} {r.method} {r.path} {r.body} key={r.key}: {self.status} {self.body}"


Shopping = Generator[Request, Entry, None]


class _Client:
    """One shopper and its connection. `request` is what it sends next, None once it has finished."""

    def __init__(self, shopping: Shopping) -> None:
        self.shopping = shopping
        self.request: Request | None = None
        self.entry: Entry | None = None
        self.socket: socket.socket | None = None
        self.received = b""

    def go_on(self) -> None:
        """Tell the shopper what came of its request, if it had one; keep what it wants next."""
        try:
            self.request = next(self.shopping) if self.entry is None else self.shopping.send(self.entry)
        except StopIteration:
            self.request = None


class Crowd:
    """Shoppers at one service. `journal` holds every request, in the order of sending; `answers` counts the answers so
    far, `unavailable` those that were no more than "try again" (503)."""

    _numbers = itertools.count(1)

    def __init__(self, port: int, shoppers: Iterable[Shopping]) -> None:
        self.journal: list[Entry] = []
        self.answers = 0
        self.unavailable = 0
        self._port = port
        self._name = f"crowd-{next(self._numbers)}"
        self._clients = [_Client(shopping) for shopping in shoppers]
        self._changed = threading.Condition()
        self._has_ended = False
        self._is_resting = False
        self._aside: Future[Any] | None = None

    def run(self) -> bool:
        """Connect everybody and let them go on. Returns when each has finished (True), or has no connection any more
        and gets none, or was told to rest (False): then `run` again once the service is back. Raises `TimeoutError` if
        it falls silent."""
        if self._aside is None:
            self._is_resting = False
        with selectors.DefaultSelector() as selector:
            try:
                for client in self._clients:
                    if client.entry is None:
                        client.go_on()
                    self._send(client, selector)
                while selector.get_map():
                    ready = selector.select(PATIENCE_SECONDS)
                    if not ready:
                        raise TimeoutError(f"no answer in {PATIENCE_SECONDS} s to {len(selector.get_map())} requests")
                    for key, _ in ready:
                        self._receive(key.data, selector)
                    with self._changed:
                        self._changed.notify_all()
                    if self._aside is not None and self._aside.done():
                        self._aside.result()  # whoever wanted to do something to this load has failed: no use to go on
            finally:
                with self._changed:
                    self._has_ended = True
                    self._changed.notify_all()
                for client in self._clients:
                    _hang_up(client)
        return all(client.request is None for client in self._clients)

    def run_while(self, work: Callable[[], T]) -> tuple[bool, T]:
        """Run, while another thread does some work, which may `wait_until`. Answers what both do; raises what `work`
        raises, at once."""
        self._has_ended = self._is_resting = False
        with ThreadPoolExecutor(1) as thread:
            self._aside = thread.submit(work)
            try:
                return self.run(), self._aside.result()
            finally:
                self._aside = None

    def rest(self) -> None:
        """For the work of `run_while`: whoever is answered sends nothing more until the next `run`."""
        self._is_resting = True

    def in_flight(self, moment: float, begin: int = 0) -> int:
        """How many commands had been sent then (`time.monotonic`) and were not answered; `begin` is where to look from
        in the journal."""
        return sum(
            entry.sent_at <= moment and (entry.answered_at is None or entry.answered_at > moment)
            for entry in self.journal[begin:]
            if entry.request.method != "GET"
        )

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """For the work of `run_while`: wait until this is so. Raises `TimeoutError`, or `RuntimeError` if the crowd
        came to its end before."""
        with self._changed:
            if not self._changed.wait_for(lambda: condition() or self._has_ended, PATIENCE_SECONDS):
                raise TimeoutError("the crowd did not come to that point")
            if not condition():
                raise RuntimeError("the crowd came to its end before")

    def _send(self, client: _Client, selector: selectors.BaseSelector) -> None:
        if client.request is None:
            return
        if client.socket is None:
            try:
                client.socket = socket.create_connection((LOOPBACK, self._port), timeout=PATIENCE_SECONDS)
            except OSError:
                return  # the service is gone: this shopper waits for the next `run`
            client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            selector.register(client.socket, selectors.EVENT_READ, client)
        entry = client.entry = Entry(f"{self._name}-{len(self.journal)}", client.request, time.monotonic())
        self.journal.append(entry)
        client.received = b""
        try:
            client.socket.sendall(client.request.encoded(entry.correlation_id))
        except OSError:
            self._lost(client, selector)

    def _receive(self, client: _Client, selector: selectors.BaseSelector) -> None:
        assert client.socket is not None
        assert client.entry is not None
        try:
            received = client.socket.recv(1 << 18)
        except OSError:
            received = b""
        if not received:
            self._lost(client, selector)
            return
        client.received += received
        if not _complete(client.received, client.entry):
            return
        client.entry.answered_at = time.monotonic()
        if client.entry.is_done:
            self.answers += 1
        else:
            self.unavailable += 1
        if client.entry.headers.get("connection", "").lower() == "close":
            selector.unregister(client.socket)
            _hang_up(client)
        client.go_on()
        if client.request is not None and not self._is_resting:
            self._send(client, selector)
        elif client.socket is not None:
            selector.unregister(client.socket)
            _hang_up(client)

    def _lost(self, client: _Client, selector: selectors.BaseSelector) -> None:
        selector.unregister(client.socket)  # type: ignore[arg-type]  # it has one: it was registered
        _hang_up(client)
        client.go_on()


def _hang_up(client: _Client) -> None:
    if client.socket is not None:
        client.socket.close()
        client.socket = None


def _complete(received: bytes, entry: Entry) -> bool:
    """Fill in the answer once all of it is here."""
    head, blank_line, body = received.partition(b"\r\n\r\n")
    if not blank_line:
        return False
    status = STATUS_LINE.match(head)
    assert status, f"this is no answer: {received[:200]!r}"
    fields = (line.partition(":") for line in head.decode("latin-1").split("\r\n")[1:])
    headers = {name.lower(): value.strip() for name, _, value in fields}
    if len(body) < int(headers.get("content-length", "0")):
        return False
    entry.headers = headers
    entry.body = json.loads(body) if body else None
    entry.status = int(status[1])
    return True
