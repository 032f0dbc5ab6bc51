"""A bare message of pub/sub has an id from the moment it is heard: what is released was perhaps done already."""

from typing import Any

import pytest

from allocation.adapters.brokers.redis_pubsub import RedisPubSubReceiver
from allocation.service_layer.errors import Unavailable
from tests.fakes import CountingIds


class Heard:
    """A subscriber to whom the same words were said twice."""

    def __init__(self) -> None:
        self._bodies = [b"{}", b"{}"]

    def next(self, wait_seconds: float) -> tuple[str, bytes] | None:
        return ("change_batch_quantity", self._bodies.pop()) if self._bodies else None


def test_each_message_has_an_id_of_its_own_and_keeps_it_when_it_is_released() -> None:
    subscriber: Any = Heard()
    receiver = RedisPubSubReceiver(subscriber, CountingIds())
    first = receiver.receive(10, 0.0)
    assert len({delivery.id for delivery in first} - {""}) == 2
    receiver.release(first)
    assert [delivery.id for delivery in receiver.receive(10, 0.0)] == [delivery.id for delivery in first]


class Leaving(Heard):
    """The same, and then the connection ends."""

    def next(self, wait_seconds: float) -> tuple[str, bytes] | None:
        if (heard := super().next(wait_seconds)) is None:
            raise Unavailable("gone")
        return heard


def test_what_was_heard_before_the_connection_ended_is_handed_over_and_so_is_what_was_released() -> None:
    subscriber: Any = Leaving()
    receiver = RedisPubSubReceiver(subscriber, CountingIds())
    first = receiver.receive(10, 0.0)
    assert len(first) == 2
    receiver.release(first)
    assert receiver.receive(10, 0.0) == first
    with pytest.raises(Unavailable):
        receiver.receive(10, 0.0)
