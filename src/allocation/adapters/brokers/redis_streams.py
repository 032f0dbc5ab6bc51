"""Redis Streams, outgoing: facts, stock levels, and the commands that other programs send.

A topic consists of several streams, `<namespace>:<topic>:<shard>`; a key lives in one of them, so its messages stay in
order. The URL is that of Redis with `+streams` after its scheme: `redis+streams://HOST/0?shards=4&keep_hours=24`.
`shards` must be the same for all users of the namespace and never change: another number moves keys to other streams.
`lease_seconds` is how long a receiver that falls silent keeps its shards from the others.

How safely Redis keeps what it accepted depends on its settings: with `appendfsync everysec` a crash may lose the last
second. `allocation subscriptions rewind` publishes it again; what Redis still has is not appended twice.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from time import monotonic
from urllib.parse import parse_qs, urlsplit

import redis

from allocation.adapters.brokers.redis_client import Script, connect, plain_url, words_of
from allocation.adapters.cloudevents import structured
from allocation.service_layer.broker import FACTS, Capabilities, Message, Publisher, Receiver
from allocation.service_layer.envelope import partition_of
from allocation.service_layer.errors import SetupError, Unavailable

CAPABILITIES = Capabilities(durable=True, ordered_by_key=True, acknowledged=True, replayable=True, deduplicated=True)
TRIM_EVERY_SECONDS = 60.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Address:
    """What a URL says: which Redis, how many streams a topic has, how long entries stay after they were read, and how
    long a silent receiver keeps its shards."""

    url: str
    shards: int = 4
    keep_hours: float = 24.0
    lease_seconds: float = 10.0

    @classmethod
    def of(cls, url: str) -> Address:
        """Raises `SetupError` for an invalid address, and for options that are unknown or out of range."""
        plain = plain_url(url)
        parts = urlsplit(url)
        options = {name: values[-1] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        try:
            address = cls(
                plain,
                int(options.pop("shards", "4")),
                float(options.pop("keep_hours", "24")),
                float(options.pop("lease_seconds", "10")),
            )
        except ValueError as wrong:
            raise SetupError(
                f"{parts.scheme}: shards, keep_hours and lease_seconds must be numbers: {wrong}"
            ) from wrong
        if (
            options
            or not 1 <= address.shards <= 256
            or not 0 <= address.keep_hours < 1e6
            or not 0.5 <= address.lease_seconds <= 300
        ):
            raise SetupError(
                f"{parts.scheme}: the options are shards (1 to 256), keep_hours (0 or more) and lease_seconds "
                "(0.5 to 300)"
            )
        return address


def stream_of(namespace: str, topic: str, shard: int) -> str:
    return f"{namespace}:{topic}:{shard}"


def shard_of(key: str, shards: int) -> int:
    """The shard that a key lives in; senders in other languages take the CRC-32 of its UTF-8, modulo the number of
    shards."""
    return partition_of(key, shards)


def publisher(url: str, namespace: str) -> Publisher:
    address = Address.of(url)
    return RedisStreamsPublisher(connect(address.url), namespace, address)


def receiver(url: str, namespace: str, owner: str) -> Receiver:
    from allocation.adapters.brokers.redis_streams_receiver import RedisStreamsReceiver

    address = Address.of(url)
    return RedisStreamsReceiver(connect(address.url, retries=0), namespace, owner, address, address.lease_seconds)


class RedisStreamsPublisher(Publisher):
    capabilities = CAPABILITIES

    def __init__(self, client: redis.Redis, namespace: str, address: Address) -> None:
        self._client, self._namespace, self._address = client, namespace, address
        self._append, self._trimmer = Script(client, "append"), Trimmer(client, address)

    def publish(self, topic: str, messages: Sequence[Message]) -> Sequence[Exception | None]:
        shards: dict[int, list[int]] = {}
        for number, message in enumerate(messages):
            shards.setdefault(shard_of(message.key, self._address.shards), []).append(number)
        streams = {shard: stream_of(self._namespace, topic, shard) for shard in shards}
        calls = [
            (
                (streams[shard], f"{streams[shard]}:versions"),
                _arguments(topic, [messages[number] for number in numbers]),
            )
            for shard, numbers in shards.items()
        ]
        try:
            answers = self._append.run_all(calls)
        except redis.RedisError as away:
            return [Unavailable(f"Redis does not answer: {words_of(away)}")] * len(messages)
        outcomes: list[Exception | None] = [None] * len(messages)
        for numbers, answer in zip(shards.values(), answers, strict=True):
            done, failure = (0, answer) if isinstance(answer, redis.RedisError) else answer
            for number in numbers[done:]:
                outcomes[number] = Unavailable(f"Redis rejected it: {_text(failure)}")
        self._trimmer.now_and_then(streams.values())
        return outcomes

    def close(self) -> None:
        self._client.close()


def _arguments(topic: str, messages: Sequence[Message]) -> list[str | int | bytes]:
    found: list[str | int | bytes] = [int(topic == FACTS)]  # only the versions of facts are gapless
    for message in messages:
        found += (message.key, message.version, structured(message))
    return found


def _text(failure: object) -> str:
    return failure.decode(errors="replace") if isinstance(failure, bytes) else str(failure)


class Trimmer:
    """Removes what every group has read and settled, once it is `keep_hours` old. A stream that no group reads keeps
    everything, and so does one with a group that stopped reading: `XGROUP DESTROY` is for an operator to decide, not
    for us."""

    def __init__(self, client: redis.Redis, address: Address) -> None:
        self._trim, self._keep_ms = Script(client, "trim"), int(address.keep_hours * 3_600_000)
        self._due: dict[str, float] = {}

    def now_and_then(self, streams: Iterable[str]) -> None:
        """At most once in `TRIM_EVERY_SECONDS` for each stream. Never raises: what is left is trimmed next time."""
        now = monotonic()
        due = [stream for stream in streams if self._due.setdefault(stream, now + TRIM_EVERY_SECONDS) <= now]
        if due:
            self._due.update(dict.fromkeys(due, now + TRIM_EVERY_SECONDS))
            self.trim(due)

    def trim(self, streams: Sequence[str]) -> None:
        try:
            answers = self._trim.run_all([([stream], [self._keep_ms]) for stream in streams])
        except redis.RedisError as away:
            answers = [away]
        for failure in answers:
            if isinstance(failure, redis.RedisError):
                _log.warning("the streams cannot be trimmed now: %s", failure)
