"""Looking into Kafka past the adapter, with clients of the plainest kind."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from confluent_kafka import Consumer, Message, TopicPartition

LONG_SECONDS = 30.0


@dataclass(frozen=True)
class Told:
    """A record of a topic: its attributes without the prefix."""

    key: str
    attributes: dict[str, str]
    body: bytes
    partition: int

    @property
    def version(self) -> int:
        return int(self.attributes["productversion"])


def everything(bootstrap: str, topic: str) -> list[Told]:
    """What a reader of the topic sees who comes now, each partition in order. Aborted transactions are not seen."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "onlooker", "enable.partition.eof": True})
    try:
        partitions = consumer.list_topics(topic, LONG_SECONDS).topics[topic].partitions
        consumer.assign([TopicPartition(topic, number, 0) for number in partitions])
        found: list[Told] = []
        open_ends = set(partitions)
        while open_ends:
            for record in consumer.consume(1000, 1.0):
                if record.error() is not None:
                    open_ends.discard(record.partition())  # type: ignore[arg-type]  # the end of a partition names it
                else:
                    found.append(_told(record))
        return found
    finally:
        consumer.close()


def _told(record: Message) -> Told:
    attributes = {name.removeprefix("ce_"): value.decode() for name, value in record.headers() or []}  # type: ignore[union-attr,misc,str-unpack]  # pairs
    return Told(record.key().decode(), attributes, record.value() or b"", record.partition() or 0)  # type: ignore[union-attr]


def versions(told: Sequence[Told]) -> dict[str, list[int]]:
    """Of each sku the versions that a consumer takes: those that it has not passed."""
    taken: dict[str, list[int]] = defaultdict(list)
    for one in told:
        if one.version > max(taken[one.key], default=0):
            taken[one.key].append(one.version)
    return dict(taken)
