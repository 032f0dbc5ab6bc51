"""What Kafka's client hands over: messages, and between them errors that are none."""

import pytest
from confluent_kafka import KafkaError, TopicPartition

from allocation.adapters.brokers.kafka.address import address_of
from allocation.adapters.brokers.kafka.receiver import KafkaReceiver
from allocation.service_layer.errors import Unavailable


class Record:
    """What `Consumer.consume` gives, as far as it is asked."""

    def __init__(self, partition: int, offset: int, error: KafkaError | None = None) -> None:
        self._place, self._error = (partition, offset), error

    def error(self) -> KafkaError | None:
        return self._error

    def partition(self) -> int:
        return self._place[0]

    def offset(self) -> int:
        return self._place[1]

    def timestamp(self) -> tuple[int, int]:
        return 1, 0

    def key(self) -> bytes:
        return b"CHAIR"

    def value(self) -> bytes:
        return b"{}"

    def headers(self) -> list[tuple[str, bytes]]:
        return []


class OneFetch:
    """A consumer that has one batch for us, then nothing."""

    def __init__(self, *records: Record) -> None:
        self._records = list(records)

    def assignment(self) -> list[object]:
        return []

    def pause(self, partitions: list[object]) -> None: ...

    def resume(self, partitions: list[object]) -> None: ...

    def consume(self, most: int, wait_seconds: float) -> list[Record]:
        found, self._records = self._records, []
        return found

    def commit(self, offsets: list[TopicPartition], asynchronous: bool) -> list[TopicPartition]:
        return offsets


def test_an_error_between_messages_takes_none_of_them_along() -> None:
    receiver = KafkaReceiver(address_of("kafka://127.0.0.1:1"), "allocation", "test")
    error = KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED)
    receiver._consumer = OneFetch(Record(0, 1), Record(0, -1, error), Record(1, 7))  # type: ignore[assignment]  # as far as it is used
    found = receiver.receive(10, 0.1)
    assert [delivery.id.rsplit("-", 1)[0] for delivery in found] == ["0-1", "1-7"]
    with pytest.raises(Unavailable):
        receiver.receive(10, 0.1)
    assert receiver.receive(10, 0.0) == []
