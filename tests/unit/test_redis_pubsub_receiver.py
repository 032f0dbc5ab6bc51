"""A bare message of pub/sub has an id from the moment it is heard: what is released was perhaps done already."""

from typing import Any

from allocation.adapters.brokers.redis_pubsub import RedisPubSubReceiver
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
