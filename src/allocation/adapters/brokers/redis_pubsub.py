"""Redis pub/sub: quick, and forgetful. A program that is not listening at the moment never gets the message."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence

import msgspec
import redis

from allocation.adapters.brokers.redis_client import connect, plain_url, translated, words_of
from allocation.adapters.clock import TimeOrderedIds
from allocation.adapters.cloudevents import STRUCTURED, structured
from allocation.service_layer.broker import COMMANDS, Capabilities, Delivery, Message, Publisher, Receiver
from allocation.service_layer.envelope import Ids
from allocation.service_layer.errors import Unavailable
from allocation.service_layer.ports import Channel

__all__ = ["RedisChannel", "RedisSubscriber", "connect"]

CAPABILITIES = Capabilities(ordered_by_key=True)
"""Holds for a receiver that listens all the time; a publisher learns that Redis has a message, not that anybody else
does."""

BOOK_CHANNEL = "change_batch_quantity"
SILENCE_SECONDS = 10.0
HEADERS = {"content-type": STRUCTURED}


class RedisChannel(Channel):
    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def publish(self, name: str, message: Mapping[str, object]) -> None:
        with translated():
            self._client.publish(name, msgspec.json.encode(message))


class RedisSubscriber:
    """Listens to channels. It notices a dead connection, and a silent one by a ping that is not answered. Both are
    replaced; what was published meanwhile is lost, as always with pub/sub."""

    def __init__(self, client: redis.Redis, *channels: str, silence_seconds: float = SILENCE_SECONDS) -> None:
        """After `silence_seconds` without any data a ping is sent; after as many more the connection counts as dead."""
        self._client, self._channels, self._silence_seconds = client, channels, silence_seconds
        self._pubsub: redis.client.PubSub | None = None
        self._heard_at = self._pinged_at = 0.0
        self._confirmed = 0

    def receive(self, wait_seconds: float) -> Iterator[bytes]:
        """The messages that arrive, until `wait_seconds` pass without one. Raises `Unavailable`; call it again then."""
        while (heard := self.next(wait_seconds)) is not None:
            yield heard[1]

    def next(self, wait_seconds: float) -> tuple[str, bytes] | None:
        """Channel and content of the next message; None if `wait_seconds` pass without one. Raises as above."""
        until = time.monotonic() + wait_seconds
        try:
            with translated():
                pubsub = self._subscribed()
                while True:
                    left = max(0.0, until - time.monotonic())
                    # Without a limit of its own, a read never ends if the other side has fallen silent.
                    message = pubsub.get_message(timeout=min(left, self._silence_seconds))
                    self._watch(pubsub, heard=message is not None)
                    if message is not None:
                        self._confirmed += message["type"] == "subscribe"
                        if message["type"] == "message":
                            return message["channel"].decode(), message["data"]
                    elif left == 0.0:
                        return None
        except Unavailable:
            self.close()
            raise

    def is_subscribed(self) -> bool:
        """Whether Redis has confirmed the subscription to every channel."""
        return self._pubsub is not None and self._confirmed >= len(self._channels)

    def close(self) -> None:
        if self._pubsub is not None:
            self._pubsub.close()
            self._pubsub = None

    def _subscribed(self) -> redis.client.PubSub:
        if self._pubsub is None:
            self._pubsub = self._client.pubsub()  # type: ignore[no-untyped-call]  # untyped in redis-py
            self._pubsub.subscribe(*self._channels)
            self._heard_at = self._pinged_at = time.monotonic()
            self._confirmed = 0
        return self._pubsub

    def _watch(self, pubsub: redis.client.PubSub, heard: bool) -> None:
        now = time.monotonic()
        if heard:
            self._heard_at = now
        elif now - self._heard_at > 2 * self._silence_seconds:
            raise Unavailable(f"Redis has been silent for {now - self._heard_at:.1f} seconds")
        elif now - max(self._heard_at, self._pinged_at) > self._silence_seconds:
            self._pinged_at = now
            pubsub.ping()  # the answer comes as a message


def publisher(url: str, namespace: str) -> Publisher:
    return RedisPubSubPublisher(connect(plain_url(url)), namespace)


def receiver(url: str, namespace: str, owner: str) -> Receiver:
    return RedisPubSubReceiver(
        RedisSubscriber(connect(plain_url(url)), BOOK_CHANNEL, f"{namespace}:{COMMANDS}"), TimeOrderedIds()
    )


class RedisPubSubPublisher(Publisher):
    """Publishes on the channel `<namespace>:<topic>`, to all that listen."""

    capabilities = CAPABILITIES

    def __init__(self, client: redis.Redis, namespace: str) -> None:
        self._client, self._namespace = client, namespace

    def publish(self, topic: str, messages: Sequence[Message]) -> Sequence[Exception | None]:
        try:
            with self._client.pipeline(transaction=False) as trip:
                for message in messages:
                    trip.publish(f"{self._namespace}:{topic}", structured(message))
                trip.execute()
        except redis.RedisError as away:
            return [Unavailable(f"Redis does not answer: {words_of(away)}")] * len(messages)
        return [None] * len(messages)

    def close(self) -> None:
        self._client.close()


class RedisPubSubReceiver(Receiver):
    """Listens to the book's channel, and to `<namespace>:commands`. There is nothing to acknowledge: what is released
    is kept here, and lost with this process."""

    capabilities = CAPABILITIES

    def __init__(self, subscriber: RedisSubscriber, ids: Ids) -> None:
        self._subscriber, self._ids = subscriber, ids
        self._again: list[Delivery] = []

    def is_subscribed(self) -> bool:
        """Whether it already receives what is published."""
        return self._subscriber.is_subscribed()

    def receive(self, most: int, wait_seconds: float) -> Sequence[Delivery]:
        found, self._again = self._again[:most], self._again[most:]
        try:
            while len(found) < most and (heard := self._subscriber.next(0.0 if found else wait_seconds)) is not None:
                channel, body = heard
                # We give it an id: a message without one may come again after it was handled, when its group is
                # released.
                found.append(Delivery(body, f"redis {channel}", self._ids.new(), HEADERS))
        except Unavailable:
            if not found:
                raise
            # What came before the connection was lost comes from nowhere else, so return it. The next call raises the
            # error.
        return found

    def accept(self, deliveries: Sequence[Delivery]) -> None:
        """It was never to come again."""

    def release(self, deliveries: Sequence[Delivery], delay_seconds: float = 0.0) -> None:
        self._again = [*deliveries, *self._again]

    def reject(self, delivery: Delivery, reason: str) -> None:
        """It was never to come again."""

    def close(self) -> None:
        self._subscriber.close()
