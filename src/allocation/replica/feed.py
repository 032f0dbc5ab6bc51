"""The feed: where a replica asks for what it has missed."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from io import BufferedReader, RawIOBase
from socket import socket
from typing import Any
from urllib.parse import urlencode

from .facts import AnotherLog, FeedUnavailable

MOST_AT_ONCE = 1000
"""The most events that the feed returns for one request."""

ANOTHER_LOG = "#problem-unknown-position"
"""Part of the service's answer to a cursor that is beyond its log."""

Message = Mapping[str, object]


class Feed(ABC):
    """Answers from the log. Callers must not assume that it already knows what a message has said (it may be a copy
    that follows), or that it is reachable. Both methods raise `FeedUnavailable`, and `AnotherLog` if they are sure of
    it."""

    @abstractmethod
    def behind_version(self, sku: str, version: int, limit: int) -> Sequence[Message]:
        """The first events of a product after a version, in order, at most `limit` (which is up to 1,000)."""

    @abstractmethod
    def behind(self, positions: Mapping[int, int], limit: int) -> Sequence[Message]:
        """The first events after a position in each partition (in one that is not named: from its start), partition by
        partition, each in order and without a gap."""


class HttpFeed(Feed):
    """`GET /v1/events` of an allocation service at `url`, such as `http://127.0.0.1:5005`.

    To connect may take `timeout_seconds`, and so may the whole answer, which may have `most_bytes`. `headers` are sent
    with each request.
    """

    def __init__(
        self,
        url: str,
        timeout_seconds: float = 5.0,
        most_bytes: int = 16 * 1024 * 1024,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"the address of a feed must begin with http:// or https://, unlike {url!r}")
        self._url, self._timeout_seconds, self._most_bytes = url.rstrip("/"), timeout_seconds, most_bytes
        self._headers = {"Accept": "application/json", **(headers or {})}
        self._open = urllib.request.build_opener(_InTime).open

    def behind_version(self, sku: str, version: int, limit: int) -> Sequence[Message]:
        return self._events({"sku": sku, "after_version": version, "limit": limit})

    def behind(self, positions: Mapping[int, int], limit: int) -> Sequence[Message]:
        after = ".".join(f"{partition}-{seq}" for partition, seq in sorted(positions.items()))
        return self._events({"limit": limit, **({"after": after} if after else {})})

    def _events(self, query: Mapping[str, str | int]) -> Sequence[Message]:
        request = urllib.request.Request(f"{self._url}/v1/events?{urlencode(query)}", headers=self._headers)
        try:
            with self._open(request, timeout=self._timeout_seconds) as response:
                events = json.loads(self._body(response))["events"]
        except urllib.error.HTTPError as refused:
            told = _beginning(refused)
            if refused.code == 422 and ANOTHER_LOG in told:
                raise AnotherLog(
                    f"this replica must be rebuilt from scratch, because the log is another one: {told}"
                ) from refused
            raise FeedUnavailable(f"the feed answered {refused.code}: {told}") from refused
        except (OSError, HTTPException, ValueError, RecursionError, TypeError, KeyError) as error:
            raise FeedUnavailable(f"the feed does not answer: {type(error).__name__}: {error}") from error
        if not isinstance(events, list) or not all(isinstance(event, dict) for event in events):
            raise FeedUnavailable("the feed does not answer with a list of events")
        return events

    def _body(self, response: HTTPResponse) -> bytes:
        body = response.read(self._most_bytes + 1)
        if len(body) > self._most_bytes:
            raise ValueError(f"more than {self._most_bytes:,} bytes")
        return body


def _beginning(refused: urllib.error.HTTPError) -> str:
    """What a refusal says, as far as that comes: without it, it is a refusal all the same."""
    try:
        with refused:
            return refused.read(500).decode(errors="replace")
    except (OSError, HTTPException):
        return ""


class _Pieces(RawIOBase):
    """What a socket receives, until its timeout is over for all pieces together."""

    def __init__(self, connected: socket) -> None:
        self._socket, self._pieces = connected, connected.makefile("rb", buffering=0)
        self._seconds = connected.gettimeout() or 0.0
        self._end = time.monotonic() + self._seconds

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left_seconds = self._end - time.monotonic()
        if left_seconds <= 0:
            raise TimeoutError(f"not complete after {self._seconds} s")
        self._socket.settimeout(left_seconds)
        return self._pieces.readinto(buffer)

    def close(self) -> None:
        self._pieces.close()
        super().close()


class _Answer(HTTPResponse):
    """Has to be complete within the socket's timeout. For the socket, that begins anew with each piece, so a slow
    trickle, be it of headers, would never end."""

    def __init__(self, sock: socket, *arguments: Any, **named: Any) -> None:
        super().__init__(sock, *arguments, **named)
        self.fp.close()
        self.fp = BufferedReader(_Pieces(sock))


class _Http(HTTPConnection):
    response_class = _Answer


class _Https(HTTPSConnection):
    response_class = _Answer


class _InTime(urllib.request.HTTPSHandler, urllib.request.HTTPHandler):
    def http_open(self, req: urllib.request.Request) -> HTTPResponse:
        return self.do_open(_Http, req)

    def https_open(self, req: urllib.request.Request) -> HTTPResponse:
        return self.do_open(_Https, req)
