"""A closed loop of HTTP/1.1 clients: each connection sends its next request when the last one is answered.

One thread and plain sockets, since the load and what it loads share the machine's processors: a request costs it
some ten microseconds. How much of a processor it took is part of the result.
"""

import gc
import re
import selectors
import socket
import time
from array import array
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass

CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
SILENCE_SECONDS = 30.0


class LoadError(RuntimeError):
    """The load could not be run, or an answer was not what the benchmark expects: its figure would mean nothing."""


@dataclass(frozen=True, slots=True)
class Load:
    """What came back in `seconds`. `cpu_share` is what the load itself took of one processor (1.0: all of it)."""

    seconds: float
    statuses: Counter[int]
    latencies_seconds: array
    cpu_share: float

    @property
    def per_second(self) -> float:
        return len(self.latencies_seconds) / self.seconds

    def latency_seconds(self, quantile: float) -> float:
        """The latency that this share of the answers was not slower than."""
        ordered = sorted(self.latencies_seconds)
        return ordered[min(len(ordered) - 1, int(quantile * len(ordered)))]


class _Connection:
    __slots__ = ("answer", "sent_at", "socket")

    def __init__(self, host: str, port: int) -> None:
        self.socket = socket.create_connection((host, port), timeout=10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.answer = b""
        self.sent_at = 0.0

    def send(self, request: bytes) -> None:
        self.answer = b""
        self.sent_at = time.perf_counter()
        if self.socket.send(request) != len(request):
            raise LoadError("a request did not fit into the socket's buffer; make the bodies smaller")

    def status(self) -> int | None:
        """The status of the answer once all of it is here, else None."""
        received = self.socket.recv(262_144)
        if not received:
            raise LoadError(f"the server closed a connection after it sent {self.answer[:200]!r}")
        answer = self.answer = self.answer + received if self.answer else received
        head = answer.find(b"\r\n\r\n")
        if head < 0:
            return None
        length = CONTENT_LENGTH.search(answer, 0, head + 2)
        if length is None:
            raise LoadError(f"an answer without a length: {answer[:200]!r}")
        missing = head + 4 + int(length[1]) - len(answer)
        if missing < 0:
            raise LoadError(f"more than one answer: {answer[:200]!r}")
        return int(answer[9:12]) if not missing else None


def posts(path: str, bodies: Iterator[bytes], host: str = "127.0.0.1") -> Iterator[bytes]:
    """The bytes of one POST of JSON for each body."""
    head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: ".encode()
    return (b"%b%d\r\n\r\n%b" % (head, len(body), body) for body in bodies)


def run(
    port: int,
    requests: Iterator[bytes],
    *,
    seconds: float,
    warm_up_seconds: float = 0.5,
    connections: int = 32,
    expected: Collection[int] = (200, 201),
    host: str = "127.0.0.1",
) -> Load:
    """Load a server for `seconds`, after a warm-up that is not counted. At the end nothing that was sent is open.

    Raises `LoadError` at the first status that is not `expected`, a lost connection, or a server that falls silent.
    """
    clients = [_Connection(host, port) for _ in range(connections)]
    selector = selectors.DefaultSelector()
    for client in clients:
        selector.register(client.socket, selectors.EVENT_READ, client)
    gc.collect()
    gc.disable()
    try:
        _loop(selector, clients, requests, warm_up_seconds, expected)
        cpu, started = time.process_time(), time.perf_counter()
        statuses, latencies, ended = _loop(selector, clients, requests, seconds, expected)
        return Load(ended - started, statuses, latencies, (time.process_time() - cpu) / (ended - started))
    finally:
        gc.enable()
        selector.close()
        for client in clients:
            client.socket.close()


def paced(
    port: int,
    requests: Iterator[bytes],
    *,
    per_second: float,
    seconds: float,
    connections: int = 32,
    expected: Collection[int] = (200, 201),
    host: str = "127.0.0.1",
) -> Load:
    """Send one request every 1 / `per_second`, whether or not earlier ones are answered, while a connection is free; a
    latency counts from the moment when its request was due. Raises as `run` does."""
    clients = [_Connection(host, port) for _ in range(connections)]
    selector = selectors.DefaultSelector()
    for client in clients:
        selector.register(client.socket, selectors.EVENT_READ, client)
    statuses: Counter[int] = Counter()
    latencies, free, due_at = array("d"), list(clients), {id(client): 0.0 for client in clients}
    cpu, started = time.process_time(), time.perf_counter()
    count, sent, now = int(per_second * seconds), 0, started
    while len(latencies) < count:
        while free and sent < count and (due := started + sent / per_second) <= now:
            due_at[id(free[-1])] = due
            free.pop().send(next(requests))
            sent += 1
        more = sent < count and bool(free)
        wait = max(0.0, started + sent / per_second - time.perf_counter()) if more else SILENCE_SECONDS
        ready = selector.select(wait)
        if not ready and not more:
            raise LoadError(f"no answer in {SILENCE_SECONDS:.0f} seconds, {sent - len(latencies)} requests open")
        for key, _ in ready:
            answered: _Connection = key.data
            status = answered.status()
            if status is None:
                continue
            latencies.append(time.perf_counter() - due_at[id(answered)])
            statuses[status] += 1
            free.append(answered)
            if status not in expected:
                raise LoadError(f"status {status}: {answered.answer[-500:]!r}")
        now = time.perf_counter()
    selector.close()
    for client in clients:
        client.socket.close()
    return Load(now - started, statuses, latencies, (time.process_time() - cpu) / (now - started))


def _loop(
    selector: selectors.BaseSelector,
    clients: list[_Connection],
    requests: Iterator[bytes],
    seconds: float,
    expected: Collection[int],
) -> tuple[Counter[int], array, float]:
    statuses: Counter[int] = Counter()
    latencies = array("d")
    deadline = time.perf_counter() + seconds
    for client in clients:
        client.send(next(requests))
    in_flight = len(clients)
    now = 0.0
    while in_flight:
        ready = selector.select(SILENCE_SECONDS)
        if not ready:
            raise LoadError(f"no answer in {SILENCE_SECONDS:.0f} seconds, {in_flight} requests open")
        for key, _ in ready:
            client: _Connection = key.data
            status = client.status()
            if status is None:
                continue
            now = time.perf_counter()
            latencies.append(now - client.sent_at)
            statuses[status] += 1
            if status not in expected:
                raise LoadError(f"status {status}: {client.answer[-500:]!r}")
            if now < deadline:
                client.send(next(requests))
            else:
                in_flight -= 1
    return statuses, latencies, now
