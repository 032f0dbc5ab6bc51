"""A stand-in for Azure Event Grid: an HTTPS endpoint for publishers that checks what they send as Azure documents it,
and pushes to a subscriber what it accepted, with its handshakes. It proves that Microsoft's client and we agree with
these pages, not that Azure behaves so.
"""

from __future__ import annotations

import http.client
import json
import ssl
from collections import deque
from pathlib import Path
from threading import Condition
from typing import Any
from urllib.parse import urlsplit

from tests.servers.process import LOOPBACK
from tests.servers.webhook import Reply, Request, WebhookReceiver

MOST_BYTES = 1_048_576
KEY = "dGhpcyBpcyBhIGtleSBvZiBFdmVudCBHcmlk/+=="
BATCH = "application/cloudevents-batch+json; charset=utf-8"
REQUIRED = {"id", "source", "specversion", "type"}


class EventGridPeer:
    """`accepted` are the events it took, in order; `changed` guards them. `tokens`: those it takes in place of the key.

    `stop` and `start` as with a receiver of webhooks.
    """

    def __init__(self, certificate: Path) -> None:
        self.http = WebhookReceiver(certificate)
        self.http.answers = self._take
        self.certificate = certificate
        self.accepted: list[dict[str, Any]] = []
        self.changed = Condition()
        self.tokens: set[str] = set()
        self.is_running = False
        self.answers_next: deque[Reply] = deque()

    @property
    def endpoint(self) -> str:
        return f"https://{LOOPBACK}:{self.http.port}/api/events"

    def start(self) -> None:
        self.http.start()
        self.is_running = True

    def stop(self) -> None:
        self.is_running = False
        self.http.stop()

    def _take(self, request: Request) -> Reply:
        if self.answers_next:
            return self.answers_next.popleft()
        if fault := self._fault(request):
            status, words = fault
            return Reply(status, {"Content-Type": "application/json"}, json.dumps({"error": words}).encode())
        with self.changed:
            self.accepted += request.events()
            self.changed.notify_all()
        return Reply(200)

    def _fault(self, request: Request) -> tuple[int, str] | None:
        headers = request.headers
        bearer = headers.get("authorization", "").removeprefix("Bearer ")
        if headers.get("aeg-sas-key") != KEY and bearer not in self.tokens:
            return 401, "no key, no token"
        if request.path != "/api/events?api-version=2018-01-01" or headers.get("content-type") != BATCH:
            return 400, f"{request.path} {headers.get('content-type')}"
        if len(request.body) > MOST_BYTES:
            return 413, "too large"
        events = json.loads(request.body)
        if not isinstance(events, list) or not all(set(event) >= REQUIRED for event in events):
            return 400, "no CloudEvents"
        return None


class Delivery:
    """Pushes to a subscriber's endpoint, as Event Grid does, once for each call."""

    def __init__(self, url: str, headers: dict[str, str]) -> None:
        self._parts, self._headers = urlsplit(url), headers

    def push(self, events: Any, content_type: str = "application/cloudevents-batch+json; charset=utf-8") -> Answer:
        kind = {"aeg-event-type": "Notification", "content-type": content_type}
        return self._send("POST", json.dumps(events).encode(), kind)

    def validate_by_event(self, topic: str, code: str = "512d38b6-c7b8-40c8-89fe-f46f9e9622b6") -> Answer:
        """The handshake of the Event Grid schema."""
        event = {
            "id": "2d1781af-3a4c-4d7c-bd0c-e34b19da4e66",
            "topic": topic,
            "subject": "",
            "data": {
                "validationCode": code,
                "validationUrl": "https://rp-eastus2.eventgrid.azure.net/eventsubscriptions",
            },
            "eventType": "Microsoft.EventGrid.SubscriptionValidationEvent",
            "eventTime": "2031-03-01T12:00:00.0000000Z",
            "metadataVersion": "1",
            "dataVersion": "1",
        }
        kind = {"aeg-event-type": "SubscriptionValidation", "content-type": "application/json; charset=utf-8"}
        return self._send("POST", json.dumps([event]).encode(), kind)

    def validate_by_options(self, origin: str = "eventgrid.azure.net") -> Answer:
        """The handshake of CloudEvents."""
        asking = {"WebHook-Request-Origin": origin, "WebHook-Request-Callback": "https://rp.eventgrid.azure.net/x"}
        return self._send("OPTIONS", b"", {**asking, "WebHook-Request-Rate": "120"})

    def _send(self, method: str, body: bytes, headers: dict[str, str]) -> Answer:
        connection = http.client.HTTPConnection(str(self._parts.hostname), self._parts.port, timeout=30)
        path = self._parts.path + (f"?{self._parts.query}" if self._parts.query else "")
        try:
            connection.request(method, path, body, {**self._headers, **headers})
            response = connection.getresponse()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()


class Answer:
    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body

    def json(self) -> Any:
        return json.loads(self.body)


def trusting(peer: EventGridPeer) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(peer.certificate))
