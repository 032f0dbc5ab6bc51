"""The peer's HTTP side: entities are made, described and deleted by Atom entries, as the administration client writes
them. Each request is kept as it came, for tests that look at its bytes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import unquote, urlsplit
from xml.etree import ElementTree

from allocation.service_layer.rules.values import literal
from tests.servers.service_bus.store import Store

CONNECT = "{http://schemas.microsoft.com/netservices/2010/10/servicebus/connect}"
ATOM = "{http://www.w3.org/2005/Atom}"
TYPE = "{http://www.w3.org/2001/XMLSchema-instance}type"
EMPTY_FEED = b'<feed xmlns="http://www.w3.org/2005/Atom"></feed>'
TRUE_RULE = (
    b'<entry xmlns="http://www.w3.org/2005/Atom"><title type="text">$Default</title><content type="application/xml">'
    b'<RuleDescription xmlns="http://schemas.microsoft.com/netservices/2010/10/servicebus/connect" '
    b'xmlns:i="http://www.w3.org/2001/XMLSchema-instance"><Filter i:type="TrueFilter"><SqlExpression>1=1'
    b'</SqlExpression></Filter><Action i:type="EmptyRuleAction"/><Name>$Default</Name></RuleDescription>'
    b"</content></entry>"
)
DURATION = re.compile(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:([\d.]+)S)?)?")
CORRELATED = {"Label": "Subject"}


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    body: bytes
    authorization: str


class Admin:
    """Serves in a thread of its own; `requests` are those that came, in order."""

    def __init__(self, port: int, store: Store) -> None:
        self.requests: list[Request] = []
        self._store, self._entries = store, dict[str, bytes]()
        self._server = ThreadingHTTPServer(("127.0.0.1", port), self._handler())
        self.port = self._server.server_port
        self._thread = Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        admin = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                path = unquote(urlsplit(self.path).path).strip("/")
                admin.requests.append(Request(self.command, path, body, self.headers.get("Authorization", "")))
                status, told = admin.answer(self.command, path, body, "If-Match" in self.headers)
                self.send_response(status)
                self.send_header("Content-Type", "application/xml")
                self.send_header("Content-Length", str(len(told)))
                self.end_headers()
                self.wfile.write(told)

            do_GET = do_PUT = do_DELETE = answer  # noqa: N815  # the library's names

            def log_message(self, *_: object) -> None:
                """Nothing."""

        return Handler

    def answer(self, method: str, path: str, body: bytes, is_update: bool = False) -> tuple[int, bytes]:
        if method == "GET":
            return 200, self._read(path)
        if method == "DELETE":
            return self._delete(path)
        if path in self._entries and not is_update:
            return 409, b"<Error><Code>409</Code><Detail>The messaging entity already exists.</Detail></Error>"
        self._make(path.split("/"), ElementTree.fromstring(body))
        self._entries[path] = titled(path, body)
        return 201, self._entries[path]

    def _read(self, path: str) -> bytes:
        if not path.endswith("/rules"):
            return self._entries.get(path, EMPTY_FEED)
        listed = [body for name, body in self._entries.items() if name.startswith(f"{path}/")]
        return b'<feed xmlns="http://www.w3.org/2005/Atom">' + b"".join(map(without_declaration, listed)) + b"</feed>"

    def _delete(self, path: str) -> tuple[int, bytes]:
        if self._entries.pop(path, None) is None:
            return 404, b"<Error><Code>404</Code><Detail>There is no such entity.</Detail></Error>"
        match path.split("/"):
            case [topic, _, subscription, _, rule]:
                self._store.remove_rule(topic, subscription, rule)
        return 200, b""

    def _make(self, path: list[str], entry: Any) -> None:
        described = next(iter(entry.find(f"{ATOM}content")))
        told = {child.tag.removeprefix(CONNECT): child.text or "" for child in described}
        match path:
            case [name] if described.tag == f"{CONNECT}QueueDescription":
                self._store.make_queue(name, **settings(told))
            case [name]:
                self._store.make_topic(name, settings(told)["duplicates_seconds"])
            case [topic, _, name]:
                self._store.make_subscription(topic, name, **settings(told))
                self._entries["/".join([*path, "rules", "$Default"])] = TRUE_RULE
            case [topic, _, subscription, _, name]:
                filter, action = (
                    described.find(f"{CONNECT}Filter"),
                    described.find(f"{CONNECT}Action/{CONNECT}SqlExpression"),
                )
                text = None if action is None else action.text
                self._store.add_rule(topic, subscription, name, filter_text(filter), text)


def filter_text(filter: Any) -> str:
    """A correlation filter as the text that means the same."""
    if (sql := filter.find(f"{CONNECT}SqlExpression")) is not None:
        return str(sql.text)
    terms = [
        f"sys.{CORRELATED.get(name, name)} = {literal(child.text)}"
        for child in filter
        if (name := child.tag.removeprefix(CONNECT)) != "Properties"
    ]
    for pair in filter.iter(f"{CONNECT}KeyValueOfstringanyType"):
        value = pair.find(f"{CONNECT}Value")
        is_text = value.get(TYPE, "").endswith("string")
        terms.append(f"[{pair.findtext(f'{CONNECT}Key')}] = {literal(value.text) if is_text else value.text}")
    return " AND ".join(terms)


def settings(told: dict[str, str]) -> dict[str, Any]:
    has_duplicates = told.get("RequiresDuplicateDetection") == "true"
    return {
        "lock_seconds": seconds(told.get("LockDuration", "PT1M")),
        "most_deliveries": int(told.get("MaxDeliveryCount", "10")),
        "sessions": told.get("RequiresSession") == "true",
        "dead_letters_expired": told.get("DeadLetteringOnMessageExpiration") == "true",
        "duplicates_seconds": seconds(told.get("DuplicateDetectionHistoryTimeWindow", "PT10M"))
        if has_duplicates
        else 0.0,
    }


def seconds(duration: str) -> float:
    found = DURATION.fullmatch(duration)
    assert found is not None, duration
    days, hours, minutes, rest = (float(part or 0) for part in found.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + rest


def titled(path: str, entry: bytes) -> bytes:
    """An entry with its name, as it is given back."""
    name = path.rpartition("/")[2]
    title = f'<title xmlns="http://www.w3.org/2005/Atom" type="text">{name}</title>'
    return re.sub(rb"(<[\w:]*entry [^>]*>)", lambda found: found[1] + title.encode(), entry, count=1)


def without_declaration(xml: bytes) -> bytes:
    return re.sub(rb"^<\?xml[^>]*\?>\s*", b"", xml)
