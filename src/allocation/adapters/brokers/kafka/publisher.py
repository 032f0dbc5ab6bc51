"""Publishes to Kafka. A message counts as published when its delivery report says so, and not before."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from threading import Lock
from time import monotonic
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka import Message as Report

from allocation.adapters.brokers.kafka.address import (
    CAPABILITIES,
    COMPACTED,
    OF_CONSUMERS,
    Address,
    have_topic,
    log,
    unavailable,
)
from allocation.adapters.cloudevents import binary
from allocation.service_layer.broker import Message, Publisher
from allocation.service_layer.errors import Rejected, Unavailable

HEADER_PREFIX = "ce_"
FRESH_SECONDS = 3.0
WILL_NOT_HAVE = frozenset({KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_MSG, KafkaError.INVALID_RECORD})

Outcomes = list[Exception | None]
Reporting = Callable[[KafkaError | None, Report], None]


def settings_of(address: Address, room_bytes: int, **further: object) -> dict[str, Any]:
    """A producer's configuration: what our promises depend on."""
    return address.client(
        OF_CONSUMERS,
        acks="all",
        enable_idempotence=True,
        partitioner="murmur2_random",  # puts a key into the same partition as Java's producers
        message_max_bytes=room_bytes,
        batch_size=min(room_bytes, 1_000_000),
        **further,
    )


class KafkaPublisher(Publisher):
    """Each topic has a producer of its own, so that giving one up does not affect the others, and different threads may
    publish to different topics."""

    capabilities = CAPABILITIES

    def __init__(self, address: Address, namespace: str) -> None:
        self._address, self._namespace = address, namespace
        self._outlets: dict[str, Outlet] = {}
        self._making = Lock()

    def publish(self, topic: str, messages: Sequence[Message]) -> Sequence[Exception | None]:
        return self._outlet(topic, messages[0]).send(messages) if messages else []

    def close(self) -> None:
        for outlet in self._outlets.values():
            outlet.close()

    def _outlet(self, topic: str, first: Message) -> Outlet:
        """In a compacted topic each partition of the log has a fence of its own; all messages of a page come from one
        partition."""
        name = f"{topic}-{first.extensions.get('partition', 0)}" if topic in COMPACTED else topic
        with self._making:
            if name not in self._outlets:
                made = FencedOutlet if topic in COMPACTED else Outlet
                self._outlets[name] = made(self._address, self._namespace, topic, name)
            return self._outlets[name]


class Outlet:
    """A topic and its producer. The producer is idempotent, so that librdkafka's retries neither duplicate nor reorder.

    librdkafka is configured never to give up a message by itself: later ones of its key would still be sent. This class
    gives up instead, on all messages at once, and then takes a new producer.
    """

    def __init__(self, address: Address, namespace: str, topic: str, name: str) -> None:
        self._address, self._namespace, self._topic, self._name = address, namespace, topic, name
        self._full_name = f"{namespace}.{topic}"
        self._producer: Producer | None = None

    def send(self, messages: Sequence[Message]) -> Outcomes:
        """What became of each message, in order. One that is not known to be accepted in time is `Unavailable`."""
        outcomes: Outcomes = [_NOT_YET] * len(messages)
        self._try(messages, outcomes)
        if suspects := [n for n, outcome in enumerate(outcomes) if isinstance(outcome, _BatchRejected)]:
            # The broker rejects whole batches. The topic takes less than before: a new producer knows the limit, and
            # finds the message that is too large.
            self._producer = None
            again: Outcomes = [_NOT_YET] * len(suspects)
            self._try([messages[n] for n in suspects], again)
            for number, outcome in zip(suspects, again, strict=True):
                outcomes[number] = outcome
        return _nothing_behind_a_failure(messages, outcomes)

    def close(self) -> None:
        self._producer = None

    def _try(self, messages: Sequence[Message], outcomes: Outcomes) -> None:
        try:
            if self._producer is None:
                self._producer = self._open(have_topic(self._address, self._namespace, self._topic))
            self._exchange(self._producer, messages, outcomes)
        except KafkaException as failure:
            self._give_up(unavailable(failure), outcomes)
        except Unavailable as away:
            self._give_up(away, outcomes)

    def _open(self, room_bytes: int) -> Producer:
        return Producer(settings_of(self._address, room_bytes, message_timeout_ms=0))

    def _exchange(self, producer: Producer, messages: Sequence[Message], outcomes: Outcomes) -> None:
        self._hand_over(producer, messages, outcomes)
        producer.flush(self._address.patience_seconds)  # proves nothing: the reports do, which it calls
        for outcome in outcomes:
            if isinstance(outcome, Unavailable):
                raise Unavailable(str(outcome))  # a new one: an exception raised repeatedly collects tracebacks

    def _hand_over(self, producer: Producer, messages: Sequence[Message], outcomes: Outcomes) -> None:
        """Queue all messages, but none after one of the same key that cannot be queued."""
        refused: dict[str, Exception] = {}
        for number, message in enumerate(messages):
            if message.key in refused:
                outcomes[number] = refused[message.key]
                continue
            headers, body = binary(message, HEADER_PREFIX)
            try:
                self._queue(producer, body, message.key, headers, partial(_report, outcomes, number))
            except KafkaException as failure:
                outcomes[number] = refused[message.key] = _failure(failure.args[0])

    def _queue(self, producer: Producer, body: bytes, key: str, headers: Mapping[str, str], report: Reporting) -> None:
        until = monotonic() + self._address.patience_seconds
        while True:
            try:
                return producer.produce(self._full_name, body, key, on_delivery=report, headers=dict(headers))
            except BufferError:
                if monotonic() > until:
                    raise Unavailable("Kafka does not accept the messages that wait for it") from None
                producer.poll(0.05)

    def _give_up(self, why: Unavailable, outcomes: Outcomes) -> None:
        """Take back what is not confirmed, and drop the producer."""
        log.warning("%s: %s", self._full_name, why)
        if self._producer is not None:
            self._producer.purge()
            self._producer.flush(1.0)
            self._producer = None
        for number, outcome in enumerate(outcomes):
            if outcome is _NOT_YET:
                outcomes[number] = why


class FencedOutlet(Outlet):
    """Writes in transactions under a name that stands for one partition of the log. A producer that opens it shuts out
    the previous one: so a worker that lost its lease without noticing cannot write an old state after a newer one."""

    def _open(self, room_bytes: int) -> Producer:
        began, milliseconds = monotonic(), int(self._address.patience_seconds * 1000)
        settings = settings_of(
            self._address, room_bytes, message_timeout_ms=milliseconds, transaction_timeout_ms=milliseconds
        )
        producer = Producer({**settings, "transactional.id": f"{self._namespace}.{self._name}"})
        producer.init_transactions(self._address.patience_seconds)
        if monotonic() - began > FRESH_SECONDS:
            self._producer = producer
            raise Unavailable("Kafka took long to open a transaction; the messages may be out of date by now")
        return producer

    def _exchange(self, producer: Producer, messages: Sequence[Message], outcomes: Outcomes) -> None:
        reported: Outcomes = list(outcomes)
        producer.begin_transaction()
        self._hand_over(producer, messages, reported)
        producer.commit_transaction(self._address.patience_seconds)
        outcomes[:] = reported


class _BatchRejected(Rejected):
    """The broker rejected the batch that this message was in."""


_NOT_YET = Unavailable("Kafka has not confirmed it in time")


def _report(outcomes: Outcomes, number: int, error: KafkaError | None, _: Report) -> None:
    outcomes[number] = None if error is None else _failure(error, _BatchRejected)


def _failure(error: KafkaError, rejected: type[Rejected] = Rejected) -> Exception:
    return rejected(f"Kafka rejected it: {error.str()}") if error.code() in WILL_NOT_HAVE else unavailable(error)


def _nothing_behind_a_failure(messages: Sequence[Message], outcomes: Outcomes) -> Outcomes:
    failed: dict[str, Exception] = {}
    for number, message in enumerate(messages):
        failure = outcomes[number] = failed.get(message.key, outcomes[number])
        if failure is not None:
            failed[message.key] = failure
    return outcomes
