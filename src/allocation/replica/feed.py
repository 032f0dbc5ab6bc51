"""The feed: where a replica asks for what it has missed."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from http.client import HTTPException, HTTPResponse
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

    An answer has to be complete within `timeout_seconds` and may have `most_bytes`. `headers` are sent with each
    request.
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

    def behind_version(self, sku: str, version: int, limit: int) -> Sequence[Message]:
        return self._events({"sku": sku, "after_version": version, "limit": limit})

    def behind(self, positions: Mapping[int, int], limit: int) -> Sequence[Message]:
        after = ".".join(f"{partition}-{seq}" for partition, seq in sorted(positions.items()))
        return self._events({"limit": limit, **({"after": after} if after else {})})

    def _events(self, query: Mapping[str, str | int]) -> Sequence[Message]:
        request = urllib.request.Request(f"{self._url}/v1/events?{urlencode(query)}", headers=self._headers)
        try:
            with urllib.request.urlopen(request, timeout=self._timeout_seconds) as response:
                events = json.loads(self._body(response))["events"]
        except urllib.error.HTTPError as refused:
            with refused:
                told = refused.read(500).decode(errors="replace")
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
        """The whole body. A socket's timeout begins anew with each piece, so a slow trickle would never end."""
        deadline, pieces, size = time.monotonic() + self._timeout_seconds, [], 0
        while piece := response.read1(65_536):
            pieces.append(piece)
            size += len(piece)
            if size > self._most_bytes:
                raise ValueError(f"more than {self._most_bytes:,} bytes")
            if time.monotonic() > deadline:
                raise TimeoutError(f"not complete after {self._timeout_seconds} s")
        return b"".join(pieces)
