"""Redis pub/sub: quick, and forgetful. Who is not listening right now never hears it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec
import redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from allocation.service_layer.errors import Unavailable
from allocation.service_layer.ports import Channel

TIMEOUT_SECONDS = 5
HEALTH_CHECK_SECONDS = 10


def connect(url: str) -> redis.Redis:
    """A client that notices a dead connection. Connects at first use."""
    return redis.Redis.from_url(
        url,
        socket_timeout=TIMEOUT_SECONDS,
        socket_connect_timeout=TIMEOUT_SECONDS,
        socket_keepalive=True,
        health_check_interval=HEALTH_CHECK_SECONDS,
        retry=Retry(ExponentialBackoff(cap=0.5, base=0.05), 2),
    )


class RedisChannel(Channel):
    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def publish(self, name: str, message: Mapping[str, object]) -> None:
        try:
            self._client.publish(name, msgspec.json.encode(message))
        except redis.RedisError as away:
            raise Unavailable(f"Redis does not answer: {away}") from away


class RedisSubscriber:
    """Listens to channels. A dead or silent connection is noticed by a ping and replaced; what was said meanwhile is
    lost, as pub/sub has it."""

    def __init__(self, client: redis.Redis, *channels: str) -> None:
        self._client, self._channels = client, channels
        self._pubsub: redis.client.PubSub | None = None

    def receive(self, wait_seconds: float) -> Iterator[bytes]:
        """The messages that arrive, until `wait_seconds` pass without one. Raises `Unavailable`; call it again then."""
        try:
            if self._pubsub is None:
                self._pubsub = self._client.pubsub()  # type: ignore[no-untyped-call]  # untyped in redis-py
                self._pubsub.subscribe(*self._channels)
            while (message := self._pubsub.get_message(timeout=wait_seconds)) is not None:
                if message["type"] == "message":
                    yield message["data"]
        except redis.RedisError as away:
            self.close()
            raise Unavailable(f"Redis does not answer: {away}") from away

    def close(self) -> None:
        if self._pubsub is not None:
            self._pubsub.close()
            self._pubsub = None
