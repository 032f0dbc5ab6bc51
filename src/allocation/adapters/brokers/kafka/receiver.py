"""Receives from Kafka. Offsets are committed when a delivery is settled, which is after our own commit.

Kafka knows one offset for each partition: everything before it is done. So a delivery that is settled out of order is
remembered here, and one that was released is kept here and handed out again, before later ones of its key.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from math import inf
from threading import Thread
from time import monotonic, sleep
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka import Message as Record

from allocation.adapters.brokers.kafka.address import (
    CAPABILITIES,
    OF_PRODUCERS,
    Address,
    have_topic,
    log,
    unavailable,
)
from allocation.adapters.brokers.kafka.publisher import HEADER_PREFIX
from allocation.adapters.brokers.kafka.shares import Kept, Share, Token
from allocation.adapters.cloudevents import PREFIX
from allocation.service_layer.broker import COMMANDS, Delivery, Receiver
from allocation.service_layer.errors import Unavailable

MOST_KEPT = 1_000
"""When so many deliveries wait to be handed out, for the first time or again, nothing more is fetched."""
ANSWERS_EVERY_SECONDS = 0.001
"""The pause between checks for an answer, each of which may bring a message that nobody has asked for."""
MOST_HEAPS = 100
"""How often more is fetched, without waiting, after fetches that brought only errors."""

NO_LONGER_OURS = frozenset(
    {
        KafkaError.ILLEGAL_GENERATION,
        KafkaError.UNKNOWN_MEMBER_ID,
        KafkaError.REBALANCE_IN_PROGRESS,
        KafkaError.FENCED_INSTANCE_ID,
        KafkaError._ASSIGNMENT_LOST,
        KafkaError._NO_OFFSET,
    }
)


class KafkaReceiver(Receiver):
    """A member of a group that shares the partitions of the topic `commands`."""

    capabilities = CAPABILITIES

    def __init__(self, address: Address, namespace: str, owner: str) -> None:
        self._address, self._namespace, self._owner = address, namespace, owner
        self._topic = f"{namespace}.{COMMANDS}"
        self._consumer: Consumer | None = None
        self._shares: dict[int, Share] = {}
        self._trouble: KafkaError | None = None
        self._refusal: KafkaError | None = None
        self._untold: dict[str, KafkaError] = {}

    def receive(self, most: int, wait_seconds: float) -> Sequence[Delivery]:
        consumer, until = self._opened(), monotonic() + wait_seconds
        self._commit(list(self._shares.values()))
        found = self._due(most)
        while not found and (left := until - monotonic()) > 0:
            self._tell_errors()
            self._fetch(consumer, 1, min(left, self._seconds_to_the_next()))
            found = self._due(most)
        if len(found) < most:
            try:
                self._fetch(consumer, most - len(found), 0)
            except Unavailable:
                if not found:
                    raise
                log.info("%s: reported again once the messages at hand are handed out", self._topic, exc_info=True)
            found += self._due(most - len(found))
        if not found:
            self._tell_errors()
        if not found:
            self._look_for_the_broker(consumer)
        return found

    def accept(self, deliveries: Sequence[Delivery]) -> None:
        self._commit([share for share, offset in self._ours(deliveries) if share.kept.pop(offset, None)])

    def release(self, deliveries: Sequence[Delivery], delay_seconds: float = 0.0) -> None:
        due = monotonic() + delay_seconds
        for share, offset in self._ours(deliveries):
            if offset in share.kept:
                share.kept[offset].due = due

    def reject(self, delivery: Delivery, reason: str) -> None:
        self.accept([delivery])

    def close(self) -> None:
        if self._consumer is not None:
            closing = Thread(target=self._consumer.close, daemon=True)  # a silent broker would never let it end
            closing.start()
            closing.join(self._address.patience_seconds)
            if closing.is_alive():
                log.warning("%s: Kafka does not answer; the group is left without notice", self._topic)
            self._consumer = None
            self._shares.clear()

    def _opened(self) -> Consumer:
        if self._consumer is None:
            have_topic(self._address, self._namespace, COMMANDS)
            self._consumer = Consumer(
                {
                    "session.timeout.ms": 10_000,
                    **self._address.client(
                        OF_PRODUCERS,
                        client_id=self._owner,
                        group_id=self._namespace,
                        partition_assignment_strategy="cooperative-sticky",
                        auto_offset_reset="earliest",
                        enable_auto_commit=False,
                        enable_auto_offset_store=False,
                    ),
                    "error_cb": self._in_trouble,
                    "on_commit": self._answered,
                }
            )
            self._consumer.subscribe([self._topic], on_revoke=self._not_ours, on_lost=self._not_ours)
        return self._consumer

    # What is handed out

    def _fetch(self, consumer: Consumer, most: int, wait_seconds: float) -> None:
        """Keep what there is; if that is only errors, keep also what waits behind them, because errors come in heaps:
        one for each partition and attempt."""
        records = self._fetched(consumer, most, wait_seconds)
        self._keep(records)
        for _ in range(MOST_HEAPS):
            if not records or any(record.error() is None for record in records):
                return
            records = self._fetched(consumer, MOST_KEPT, 0)
            self._keep(records)

    def _fetched(self, consumer: Consumer, most: int, wait_seconds: float) -> list[Record]:
        """Also serves the group: partitions are assigned and revoked in this call."""
        full = sum(k.due is not None for share in self._shares.values() for k in share.kept.values()) >= MOST_KEPT
        assigned = consumer.assignment()
        (consumer.pause if full else consumer.resume)(assigned)
        try:
            return consumer.consume(most, wait_seconds)
        except KafkaException as failure:
            raise unavailable(failure) from failure

    def _keep(self, records: Iterable[Record]) -> None:
        """Keep records as due at once, after those of the same key that wait already."""
        for record in records:
            if (error := record.error()) is not None:
                self._untold.setdefault(error.str(), error)  # raising it here would lose the messages around it
                continue
            partition, offset = _place(record)
            share = self._shares.setdefault(partition, Share(partition))
            share.kept[offset] = Kept(self._delivery(record, share), 0.0)
            share.next_offset = offset + 1

    def _due(self, most: int) -> list[Delivery]:
        found: list[Delivery] = []
        for share in self._shares.values():
            for kept in share.due(monotonic()):
                if len(found) == most:
                    break
                kept.due = None  # its attempts stay: Kafka does not count deliveries; our releases are not any
                found.append(kept.delivery)
        return found

    def _seconds_to_the_next(self) -> float:
        due = min((share.next_due() for share in self._shares.values()), default=inf)
        return max(due - monotonic(), 0.001)

    def _delivery(self, record: Record, share: Share) -> Delivery:
        # A topic that was deleted and created again begins at 0 again: the time distinguishes its messages from the old
        # ones.
        partition, offset = _place(record)
        name = f"{partition}-{offset}-{record.timestamp()[1]}"
        key = record.key()
        return Delivery(
            record.value() or b"",
            f"kafka {self._topic}",
            name,
            dict(_headers(record)),
            None if key is None else _text(key),
            token=Token(share, offset),
        )

    # What is settled

    def _ours(self, deliveries: Sequence[Delivery]) -> Iterator[tuple[Share, int]]:
        """Where the deliveries stand; those of a partition that has passed to another receiver are left out."""
        for delivery in deliveries:
            token = delivery.token
            assert isinstance(token, Token)
            if self._shares.get(token.share.partition) is token.share:
                yield token.share, token.offset

    def _commit(self, shares: Iterable[Share]) -> None:
        """Returns when the broker has answered. A synchronous commit would wait for ever for a silent broker, so this
        polls: answers come while messages are fetched, and those are kept. Raises `Unavailable`."""
        consumer, until = self._consumer, monotonic() + self._address.patience_seconds
        moved = {share: share.done_before for share in shares if share.done_before > share.committed}
        if not moved or consumer is None:
            return
        offsets = [TopicPartition(self._topic, share.partition, offset) for share, offset in moved.items()]
        self._refusal = None
        try:
            consumer.commit(offsets=offsets, asynchronous=True)
        except KafkaException as failure:
            self._refusal = failure.args[0]
        while self._refusal is None and any(self._awaits(*place) for place in moved.items()):
            if monotonic() > until:
                raise unavailable("it does not confirm that offsets are committed")
            sleep(ANSWERS_EVERY_SECONDS)
            self._keep(self._fetched(consumer, 1, 0))
        if self._refusal is not None and self._refusal.code() not in NO_LONGER_OURS:
            raise unavailable(self._refusal)

    def _awaits(self, share: Share, offset: int) -> bool:
        return self._shares.get(share.partition) is share and share.committed < offset

    def _answered(self, error: KafkaError | None, places: Sequence[TopicPartition]) -> None:
        refusals = [error, *(place.error for place in places)]
        self._refusal = next((refusal for refusal in refusals if refusal is not None), None)
        if self._refusal is not None:
            log.info("%s: offsets could not be committed, and will be committed again: %s", self._topic, self._refusal)
        for place in places if error is None else ():
            share = self._shares.get(place.partition)
            if share is not None and place.error is None:
                share.committed = max(share.committed, place.offset)

    # The group, and the broker

    def _not_ours(self, _: Consumer, partitions: Sequence[TopicPartition]) -> None:
        for place in partitions:
            self._shares.pop(place.partition, None)

    def _in_trouble(self, error: KafkaError) -> None:
        if error.code() == KafkaError._ALL_BROKERS_DOWN or error.fatal():
            self._trouble = error

    def _tell_errors(self) -> None:
        """Log the errors that stood among the messages, once those are handed out: all together, each text once. Raises
        `Unavailable` for the first that is more than a warning."""
        told = list(self._untold.values())
        self._untold.clear()
        for error in told:
            log.warning("%s: %s", self._topic, error.str())
        for error in told:
            if error.code() != KafkaError._MAX_POLL_EXCEEDED:
                raise unavailable(error)

    def _look_for_the_broker(self, consumer: Consumer) -> None:
        """Called when nothing came: after trouble, silence may mean that the broker is unreachable."""
        if self._trouble is None:
            return
        try:
            consumer.list_topics(self._topic, timeout=1.0)
            self._trouble = None
        except KafkaException as away:
            raise unavailable(away) from away


def _place(record: Record) -> tuple[int, int]:
    partition, offset = record.partition(), record.offset()
    assert partition is not None
    assert offset is not None
    return partition, offset


def _headers(record: Record) -> Iterator[tuple[str, str]]:
    headers: Any = record.headers()
    for name, value in headers or []:
        if value is None:
            continue
        if name.startswith(HEADER_PREFIX):
            yield PREFIX + name.removeprefix(HEADER_PREFIX).lower(), _text(value)
        elif name.lower() == "content-type":
            yield "content-type", _text(value)


def _text(value: bytes | str) -> str:
    """Bytes that are not UTF-8 are replaced by a mark that shows this to a reader of the dead letter."""
    return value if isinstance(value, str) else value.decode(errors="replace")
