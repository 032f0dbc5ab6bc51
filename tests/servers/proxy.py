"""A TCP proxy in front of PostgreSQL that loses a connection exactly when a test wants it lost.

It understands as much of PostgreSQL's protocol 3.0 ("Frontend/Backend Protocol", Message Formats) as it takes to see
a COMMIT go by: in a simple query, or prepared, bound and executed in a pipeline.
"""

import contextlib
import enum
import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Self

from sqlalchemy.engine import make_url

from tests.servers.process import LOOPBACK, free_port

ENCRYPTION_REQUESTS = {80877103, 80877104}  # SSLRequest and GSSENCRequest: answered with "no", to read along
COMMIT = re.compile(rb"(^|;)\s*(COMMIT|END)\b[^;]*;?\s*$", re.IGNORECASE)
TRANSACTION_START = re.compile(rb"^\s*(BEGIN|START)\b", re.IGNORECASE)


class Fate(enum.Enum):
    """What becomes of the next COMMIT."""

    REPLY_LOST = "the server commits, and the client never hears of it"
    NEVER_SENT = "the connection is lost before the server sees it"


class PostgresProxy:
    """Hands everything on, until told otherwise; as a context manager.

    `lose_reply_of_next_commit`, `lose_next_commit`, `cut_all`, `refuse` and `accept` may be called from any thread.
    """

    def __init__(self, url: str) -> None:
        """`url` is that of the real server, as SQLAlchemy writes it."""
        self._upstream = make_url(url)
        self.port = free_port()
        self._lock = threading.Lock()
        self._links: set[_Link] = set()
        self._listener: socket.socket | None = None
        self._fate: tuple[Fate, bytes] | None = None
        self.commit_lost = threading.Event()
        self.server_answer: str | None = None

    @property
    def url(self) -> str:
        """The same database, through the proxy."""
        return self._upstream.set(host=LOOPBACK, port=self.port).render_as_string(hide_password=False)

    def lose_reply_of_next_commit(self, after: str = "") -> None:
        """Let the next COMMIT through and drop the server's answer with the connection.

        `after` picks the transaction: one that has sent a statement with this text in it. `commit_lost` is set once
        it happened; `server_answer` is then what the client was never told, such as "COMMIT".
        """
        self._arm(Fate.REPLY_LOST, after)

    def lose_next_commit(self, after: str = "") -> None:
        """Drop the connection in place of the next COMMIT: the server never sees it, and rolls back."""
        self._arm(Fate.NEVER_SENT, after)

    def cut_all(self) -> None:
        """Drop every connection there is. New ones are welcome."""
        with self._lock:
            links = list(self._links)
        for link in links:
            link.cut()

    def refuse(self) -> None:
        """The database is gone: every connection is dropped, and new ones are refused, until `accept()`."""
        self.refuse_new()
        self.cut_all()

    def refuse_new(self) -> None:
        """Connections there are live on; new ones are refused, until `accept()`."""
        with self._lock:
            listener, self._listener = self._listener, None
        if listener is not None:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits in accept()
            listener.close()

    def accept(self) -> None:
        """The database is back, on the same port."""
        listener = socket.create_server((LOOPBACK, self.port))
        with self._lock:
            self._listener = listener
        threading.Thread(target=self._serve, args=(listener,), daemon=True).start()

    def __enter__(self) -> Self:
        self.accept()
        return self

    def __exit__(self, *_: object) -> None:
        self.refuse()

    def _arm(self, fate: Fate, after: str) -> None:
        with self._lock:
            self.commit_lost.clear()
            self.server_answer = None
            self._fate = (fate, after.encode())

    def _take_fate(self, transaction: bytes) -> Fate | None:
        """What is to become of a COMMIT that ends `transaction`; it holds for one COMMIT only."""
        with self._lock:
            if self._fate is None or self._fate[1] not in transaction:
                return None
            fate, self._fate = self._fate[0], None
            return fate

    def _serve(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection((self._upstream.host or LOOPBACK, self._upstream.port or 5432), 10)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # small messages must not wait for each other
            link = _Link(self, client, server)
            with self._lock:
                welcome = self._listener is listener
                if welcome:
                    self._links.add(link)
            if welcome:
                link.start()
            else:
                link.cut()

    def _forget(self, link: "_Link") -> None:
        with self._lock:
            self._links.discard(link)


class _Link:
    """One client's connection and ours to the server, with a thread in each direction."""

    def __init__(self, proxy: PostgresProxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy = proxy
        self._client = client
        self._server = server
        self._statements = _Statements()
        self._reply_is_lost = False  # of the COMMIT that went by last

    def start(self) -> None:
        for run in (self._client_to_server, self._server_to_client):
            threading.Thread(target=self._until_closed, args=(run,), daemon=True).start()

    def cut(self) -> None:
        for end in (self._client, self._server):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self._proxy._forget(self)

    def _until_closed(self, run: Callable[[], None]) -> None:
        with contextlib.suppress(OSError):
            run()
        self.cut()

    def _client_to_server(self) -> None:
        if not self._pass_startup():
            return
        for kind, body in messages(self._client):
            if self._statements.commits(kind, body):
                fate = self._proxy._take_fate(self._statements.transaction)
                if fate is Fate.NEVER_SENT:
                    self.cut()
                    self._proxy.commit_lost.set()
                    return
                self._reply_is_lost = fate is Fate.REPLY_LOST
            self._server.sendall(framed(kind, body))

    def _server_to_client(self) -> None:
        for kind, body in messages(self._server):
            answer = body.rstrip(b"\0").decode(errors="replace") if kind == b"C" else ""
            if self._reply_is_lost and (answer in ("COMMIT", "ROLLBACK") or kind == b"E"):
                self._proxy.server_answer = answer or "ERROR"
                self.cut()
                self._proxy.commit_lost.set()
                return
            self._client.sendall(framed(kind, body))

    def _pass_startup(self) -> bool:
        """Hand on the first message, which has no kind; "no" to encryption. False: a cancel request, all is said."""
        while True:
            size, code = struct.unpack("!ii", exactly(self._client, 8))
            rest = exactly(self._client, size - 8)
            if code in ENCRYPTION_REQUESTS:
                self._client.sendall(b"N")
                continue
            self._server.sendall(struct.pack("!ii", size, code) + rest)
            return bool(code >> 16 == 3)


class _Statements:
    """Which statement a client runs with which message, and what its transaction has said so far."""

    def __init__(self) -> None:
        self.transaction = b""
        self._prepared: dict[bytes, bytes] = {}
        self._portals: dict[bytes, bytes] = {}

    def commits(self, kind: bytes, body: bytes) -> bool:
        """Whether this message makes the server commit."""
        text = self._run_by(kind, body)
        if text is None:
            return False
        if TRANSACTION_START.match(text):
            self.transaction = b""
        self.transaction += text + b"\n"
        return COMMIT.search(text) is not None

    def _run_by(self, kind: bytes, body: bytes) -> bytes | None:
        if kind == b"Q":
            return body.rstrip(b"\0")
        name, _, rest = body.partition(b"\0")
        if kind == b"P":
            self._prepared[name] = rest.partition(b"\0")[0]
        elif kind == b"B":
            self._portals[name] = self._prepared.get(rest.partition(b"\0")[0], b"")
        elif kind == b"E":
            return self._portals.get(name, b"")
        return None


def messages(source: socket.socket) -> Iterator[tuple[bytes, bytes]]:
    """The messages that arrive, as (kind, body), until the connection ends (`OSError`)."""
    while True:
        kind, size = struct.unpack("!ci", exactly(source, 5))
        yield kind, exactly(source, size - 4)


def framed(kind: bytes, body: bytes) -> bytes:
    return struct.pack("!ci", kind, len(body) + 4) + body


def exactly(source: socket.socket, count: int) -> bytes:
    """The next `count` bytes. Raises `ConnectionError` if the connection ends before."""
    parts = []
    while count:
        part = source.recv(min(count, 65_536))
        if not part:
            raise ConnectionError("the connection ended")
        parts.append(part)
        count -= len(part)
    return b"".join(parts)
