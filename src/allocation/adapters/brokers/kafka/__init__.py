"""Apache Kafka: `kafka://HOST:PORT[,HOST:PORT]?partitions=4&...` (see `address`).

Topics are `NAMESPACE.facts`, `NAMESPACE.stock_level` and `NAMESPACE.commands`, keyed by sku, so that Kafka keeps the
order of each product; the first program to use a topic creates it if it is missing.
"""

from __future__ import annotations

from allocation.adapters.brokers.kafka.address import CAPABILITIES, address_of
from allocation.adapters.brokers.kafka.publisher import KafkaPublisher
from allocation.adapters.brokers.kafka.receiver import KafkaReceiver
from allocation.service_layer.broker import Publisher, Receiver

__all__ = ["CAPABILITIES", "publisher", "receiver"]


def publisher(url: str, namespace: str) -> Publisher:
    """Connects at first use. Raises `SetupError` for an invalid URL."""
    return KafkaPublisher(address_of(url), namespace)


def receiver(url: str, namespace: str, owner: str) -> Receiver:
    """Joins the group `NAMESPACE` at first use; `owner` is the name that Kafka's own tools show. Raises as above."""
    return KafkaReceiver(address_of(url), namespace, owner)
