"""Webhooks: CloudEvents pushed to an address that a subscriber names, signed according to Standard Webhooks.

One event goes in structured mode, several as a batch (CloudEvents HTTP binding, 3.2 and 3.3). Before the first one, the
address has to consent (CloudEvents Webhook, section 4). An answer alone is not consent; otherwise anybody could make us
flood anybody.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from hashlib import sha256
from hmac import digest
from urllib.parse import urlsplit

import httpcore

from allocation.adapters.batches import OneOfThem, in_batches
from allocation.adapters.cloudevents import BATCH, STRUCTURED, structured
from allocation.adapters.guarded import Answer, Guarded, NoAnswer, NoConnection
from allocation.service_layer.broker import Message
from allocation.service_layer.envelope import Clock
from allocation.service_layer.errors import Busy, Gone, Rejected, Unavailable
from allocation.service_layer.pushing import BadSink, Push, Sink, outcome_of
from allocation.service_layer.waiting import Timer

SECRET_PREFIX, SECRET_BYTES = "whsec_", range(24, 65)  # Standard Webhooks, "Signature scheme"
ASKED_RATE = 60_000  # requests a minute; the receiver decides how many it allows
RATE_WINDOW_SECONDS = 60.0
LONGEST_RETRY_AFTER_SECONDS = 86_400.0
SAID_LENGTH = 200
PERHAPS_ONE = frozenset({400, 413})  # of a batch

_URL = re.compile(r"https?://[!-~]{1,2000}\Z")
_RATE = re.compile(r"[1-9][0-9]{0,8}\Z")


@dataclass(slots=True)
class _Consent:
    """What an address has agreed to: so many requests a minute, or any number."""

    rate: int | None
    window_ends: float = 0.0
    used: int = 0

    def wait_seconds(self, now: float) -> float:
        """How long to wait before the next request; 0: it may go, and is counted."""
        if self.rate is None:
            return 0.0
        if now >= self.window_ends:
            self.window_ends, self.used = now + RATE_WINDOW_SECONDS, 0
        if self.used >= self.rate:
            return self.window_ends - now
        self.used += 1
        return 0.0


class Webhooks(Push):
    """`origin` is the name in which consent is asked for. `has_plain_http`: whether `http:` may be named at all."""

    def __init__(self, http: Guarded, clock: Clock, timer: Timer, origin: str, has_plain_http: bool = False) -> None:
        self._http, self._clock, self._timer, self._origin = http, clock, timer, origin
        self._schemes = {"https", "http"} if has_plain_http else {"https"}
        self._consents: dict[str, _Consent] = {}
        self._smaller: dict[Sink, dict[str, int]] = {}  # by sink and message: how many to send from there on
        self._is_finishing = False

    def check(self, sink: Sink) -> None:
        _url_of(sink.url, self._schemes)
        for secret in sink.secret.split() or [""]:
            _key_of(secret)
        if sink.most < 1 or sink.most_bytes < 1 or sink.answer_seconds <= 0:
            raise BadSink("a request needs at least one event, and some time")

    def push(self, sink: Sink, messages: Sequence[Message]) -> Sequence[Exception | None]:
        if not messages:
            return []
        begin = self._timer.seconds()
        try:
            self.check(sink)
            consent = self._consent(sink)
        except BadSink as bad:
            return [Unavailable(f"this address cannot be pushed to: {bad}")] * len(messages)
        except Unavailable as away:
            return [away] * len(messages)

        # The search for the message to blame continues where the last call ran out of time: if it began anew each time,
        # it would take as long each time, and never find it.
        smaller = self._smaller.setdefault(sink, {})
        most = min([sink.most, *(smaller.pop(m.id) for m in messages if m.id in smaller)])
        half = most if most < sink.most else 0

        def send(batch: Sequence[Message]) -> Exception | None:
            nonlocal half
            failure = self._no_time(sink, consent, begin) or self._send(sink, batch)
            if isinstance(failure, Unavailable) and half:
                smaller[batch[0].id] = half
            half = len(batch) // 2 if isinstance(failure, OneOfThem) else 0
            return failure

        return in_batches(messages, send, most, sink.most_bytes)

    def forget(self, sink: Sink) -> None:
        self._consents.pop(sink.url, None)
        self._smaller.pop(sink, None)

    def finish(self) -> None:
        self._is_finishing = True

    def close(self) -> None:
        self._http.close()

    def _no_time(self, sink: Sink, consent: _Consent, begin: float) -> Exception | None:
        """Whether the call has used up its time, or the address its share of this minute."""
        now = self._timer.seconds()
        if self._is_finishing or now - begin >= sink.answer_seconds:
            return Busy("the rest is delivered in the next round", 0.0)
        wait_seconds = consent.wait_seconds(now)
        return Busy(f"it allows {consent.rate} requests a minute", wait_seconds) if wait_seconds else None

    def _send(self, sink: Sink, messages: Sequence[Message]) -> Exception | None:
        try:
            answer = self._http.send("POST", *self._request(sink, messages), sink.answer_seconds)
        except NoConnection as away:
            return Unavailable(str(away))
        except NoAnswer as silence:
            return Rejected(str(silence))
        try:
            failure = self._meaning(answer)
        except Gone:
            self.forget(sink)
            raise
        is_about_all = len(messages) == 1 or answer.status not in PERHAPS_ONE
        return failure if is_about_all else OneOfThem(str(failure))

    def _request(self, sink: Sink, messages: Sequence[Message]) -> tuple[httpcore.URL, Mapping[str, str], bytes]:
        """A single message is sent as it is; several as a batch, whose id follows from theirs, so a repeated batch has
        the same id."""
        events = [structured(message) for message in messages]
        if sink.most == 1:
            [body], media_type, delivery_id = events, STRUCTURED, messages[0].id
        else:
            body, media_type = b"[" + b",".join(events) + b"]", BATCH
            delivery_id = "batch_" + sha256("\n".join(message.id for message in messages).encode()).hexdigest()[:32]
        url = _url_of(sink.url, self._schemes)
        signed = signature_headers(sink.secret, delivery_id, int(self._clock.now().timestamp()), body)
        return url, {"host": _host(sink.url), "content-type": media_type, **signed}, body

    def _consent(self, sink: Sink) -> _Consent:
        """The consent given earlier, or obtained now. Raises `Gone`, and `Unavailable` if there is no consent."""
        if not sink.asks_consent:
            return _Consent(None)  # not kept: another sink may have the same address, and ask
        if (found := self._consents.get(sink.url)) is None:
            found = self._consents[sink.url] = self._ask(sink)
        return found

    def _ask(self, sink: Sink) -> _Consent:
        asking = {
            "host": _host(sink.url),
            "webhook-request-origin": self._origin,
            "webhook-request-rate": str(ASKED_RATE),
        }
        try:
            url = _url_of(sink.url, self._schemes)
            answer = self._http.send("OPTIONS", url, asking, b"", sink.answer_seconds)
        except (NoConnection, NoAnswer) as away:
            raise Unavailable(str(away)) from away
        failure = self._meaning(answer)
        if failure is not None:
            raise failure if isinstance(failure, Unavailable) else Unavailable(f"asked for consent, {failure}")
        origin, rate = (answer.headers.get(f"webhook-allowed-{what}", "").strip() for what in ("origin", "rate"))
        if origin not in ("*", self._origin) or not (rate == "*" or _RATE.match(rate)):
            raise Unavailable(f"it did not consent to be pushed to by {self._origin}")
        return _Consent(None if rate == "*" else int(rate))

    def _meaning(self, answer: Answer) -> Exception | None:
        said = answer.body[:SAID_LENGTH].decode("utf-8", "replace")
        words = "".join(c if c.isprintable() else " " for c in said).strip()
        return outcome_of(answer.status, words, self._retry_after(answer.headers.get("retry-after", "").strip()))

    def _retry_after(self, said: str) -> float | None:
        """Seconds, from seconds or a date (RFC 9110, section 10.2.3); None: the header has neither."""
        if said.isascii() and said.isdigit():
            seconds = float(said[:10])
        else:
            try:
                seconds = (parsedate_to_datetime(said) - self._clock.now()).total_seconds()
            except (ValueError, TypeError, OverflowError):
                return None
        return min(max(seconds, 1.0), LONGEST_RETRY_AFTER_SECONDS)


def signature_headers(secrets: str, delivery_id: str, seconds: int, body: bytes) -> dict[str, str]:
    """The three headers of Standard Webhooks, with a signature for each secret. Raises `BadSink`."""
    signed = f"{delivery_id}.{seconds}.".encode() + body
    signatures = (b64encode(digest(_key_of(secret), signed, "sha256")).decode() for secret in secrets.split())
    return {
        "webhook-id": delivery_id,
        "webhook-timestamp": str(seconds),
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }


def _key_of(secret: str) -> bytes:
    try:
        key = b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except ValueError:
        key = b""
    if not secret.startswith(SECRET_PREFIX) or len(key) not in SECRET_BYTES:
        raise BadSink("a secret must be whsec_ followed by the Base64 of 24 to 64 bytes")
    return key


def _url_of(url: str, schemes: set[str]) -> httpcore.URL:
    """Raises `BadSink`."""
    if not _URL.match(url):
        raise BadSink("write the address as https://HOST/PATH, in up to 2,000 printable ASCII characters")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as wrong:
        raise BadSink(f"the address cannot be read: {wrong}") from wrong
    if parts.scheme not in schemes:
        raise BadSink("the address has to begin with https:, unless ALLOCATION_PUSH_TO_PRIVATE names networks")
    if not host or "@" in parts.netloc or "#" in url or "\\" in url:
        raise BadSink("the address must have a host, and no user, fragment or backslash")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return httpcore.URL(scheme=parts.scheme, host=host, port=port, target=target)


def _host(url: str) -> str:
    return urlsplit(url).netloc
