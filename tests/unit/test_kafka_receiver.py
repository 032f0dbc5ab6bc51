"""What Kafka's client hands over: messages, and between them errors that are none."""

from collections.abc import Callable, Sequence
from threading import Event as Flag
from time import monotonic, sleep

import pytest
from confluent_kafka import KafkaError, TopicPartition

from allocation.adapters.brokers.kafka.address import address_of
from allocation.adapters.brokers.kafka.receiver import KafkaReceiver
from allocation.service_layer.broker import Delivery
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


class Queue:
    """A consumer with records for us, then nothing."""

    def __init__(self, *records: Record) -> None:
        self._records = list(records)
        self.fetches = 0
        self.answering = True
        self.lets_go = Flag()
        self.lets_go.set()
        self.refusal: KafkaError | None = None
        self.answers: list[list[TopicPartition]] = []
        self.on_commit: Callable[[KafkaError | None, list[TopicPartition]], None] = lambda *_: None

    def assignment(self) -> list[object]:
        return []

    def close(self) -> None:
        self.lets_go.wait(5.0)  # an end for a test that fails

    def pause(self, partitions: list[object]) -> None: ...

    def resume(self, partitions: list[object]) -> None: ...

    def consume(self, most: int, wait_seconds: float) -> list[Record]:
        self.fetches += 1
        while self.answering and self.answers:
            self.on_commit(self.refusal, self.answers.pop(0))
        found, self._records = self._records[:most], self._records[most:]
        if not found:
            sleep(wait_seconds)
        return found

    def commit(self, offsets: list[TopicPartition], asynchronous: bool) -> None:
        assert asynchronous, "nothing ends the wait if the broker says nothing"
        self.answers.append(offsets)


def receiver_of(queue: Queue) -> KafkaReceiver:
    receiver = KafkaReceiver(address_of("kafka://127.0.0.1:1?patience_seconds=1"), "allocation", "test")
    receiver._consumer = queue  # type: ignore[assignment]  # as far as it is used
    queue.on_commit = receiver._answered
    return receiver


def places(deliveries: Sequence[Delivery]) -> list[str]:
    return [delivery.id.rsplit("-", 1)[0] for delivery in deliveries]


def test_an_error_between_messages_takes_none_of_them_along() -> None:
    error = KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED)
    receiver = receiver_of(Queue(Record(0, 1), Record(0, -1, error), Record(1, 7)))
    assert places(receiver.receive(10, 0.1)) == ["0-1", "1-7"]
    with pytest.raises(Unavailable):
        receiver.receive(10, 0.1)
    assert receiver.receive(10, 0.0) == []


def test_a_release_is_no_delivery() -> None:
    """Consumers park what was delivered too often; while the database takes nothing, all is released over and over."""
    receiver = receiver_of(Queue(Record(0, 1)))
    for _ in range(12):
        [delivery] = receiver.receive(10, 0.1)
        assert delivery.attempts == 1
        receiver.release([delivery])


def test_what_is_due_behind_a_first_of_its_key_that_waits_is_not_asked_for_all_the_time() -> None:
    queue = Queue(Record(0, 1), Record(0, 2))
    receiver = receiver_of(queue)
    first, second = receiver.receive(10, 0.1)
    receiver.release([first], 60.0)
    receiver.release([second])
    queue.fetches = 0
    assert receiver.receive(10, 0.2) == []
    assert queue.fetches < 5
    receiver.release([first])
    assert receiver.receive(10, 0.2) == [first, second]


def test_errors_that_piled_up_are_told_at_once(caplog: pytest.LogCaptureFixture) -> None:
    """The client queues one for each partition and try; told one by one, they hold up what is behind them for hours."""
    errors = [KafkaError(KafkaError._TRANSPORT, f"broker {n % 2}") for n in range(2_500)]
    receiver = receiver_of(Queue(*(Record(0, -1, error) for error in errors)))
    with pytest.raises(Unavailable, match="broker 0"):
        receiver.receive(10, 5.0)
    assert [record.getMessage() for record in caplog.records] == [
        "allocation.commands: broker 0",
        "allocation.commands: broker 1",
    ]
    assert receiver.receive(10, 0.0) == []


def test_messages_behind_errors_are_handed_out_at_once_and_in_order() -> None:
    error = KafkaError(KafkaError._TRANSPORT)
    errors = [Record(0, -1, error)] * 1_500
    receiver = receiver_of(Queue(*errors, Record(0, 1), *errors[:7], *(Record(0, n) for n in range(2, 8))))
    assert places(receiver.receive(3, 5.0)) == ["0-1", "0-2", "0-3"]
    assert places(receiver.receive(10, 0.0)) == ["0-4", "0-5", "0-6", "0-7"]
    with pytest.raises(Unavailable):
        receiver.receive(10, 0.0)
    assert receiver.receive(10, 0.0) == []


def test_a_commit_that_is_not_answered_is_given_up_and_told_again_until_it_is() -> None:
    queue = Queue(*(Record(0, n) for n in range(1, 6)))
    receiver = receiver_of(queue)
    first = receiver.receive(2, 0.1)
    queue.answering = False
    started = monotonic()
    with pytest.raises(Unavailable):
        receiver.accept(first)
    assert 1.0 <= monotonic() - started < 3.0
    with pytest.raises(Unavailable):
        receiver.receive(10, 0.1)
    queue.answering = True
    assert places(receiver.receive(10, 0.1)) == ["0-3", "0-4", "0-5"], "what came meanwhile is kept"
    assert receiver._shares[0].committed == 3


def test_a_commit_that_is_refused_is_not_taken_for_done() -> None:
    queue = Queue(Record(0, 1))
    receiver = receiver_of(queue)
    in_hand = receiver.receive(2, 0.1)
    queue.refusal = KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED)
    with pytest.raises(Unavailable):
        receiver.accept(in_hand)
    queue.refusal = KafkaError(KafkaError.REBALANCE_IN_PROGRESS)
    assert receiver.receive(1, 0.0) == []
    assert receiver._shares[0].committed == 0
    queue.refusal = None
    assert receiver.receive(1, 0.0) == []
    assert receiver._shares[0].committed == 2


def test_closing_ends_though_the_broker_says_nothing() -> None:
    queue = Queue()
    queue.lets_go.clear()
    started = monotonic()
    receiver_of(queue).close()
    assert 1.0 <= monotonic() - started < 3.0
    queue.lets_go.set()
