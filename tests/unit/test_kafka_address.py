"""URLs of Kafka: what they say, and which cannot be meant."""

import pytest

from allocation.adapters.brokers.kafka.address import OF_CONSUMERS, OF_PRODUCERS, address_of
from allocation.service_layer.errors import SetupError


def test_what_a_url_leaves_out_is_as_documented() -> None:
    address = address_of("kafka://localhost")
    assert (address.servers, address.partitions, address.replication) == ("localhost:9092", 4, -1)
    assert address.patience_seconds == 10


def test_several_brokers_and_their_options() -> None:
    address = address_of("kafka://one:9092,[::1]:9093/?partitions=12&replication=3&patience_seconds=2")
    assert address.servers == "one:9092,[::1]:9093"
    assert (address.partitions, address.replication, address.patience_seconds) == (12, 3, 2)


def test_properties_of_librdkafka_reach_the_side_that_they_are_for() -> None:
    address = address_of(
        "kafka://one?security.protocol=SASL_SSL&linger.ms=9&session.timeout.ms=7000&sasl.password=a%26b"
    )
    producer = address.client(OF_CONSUMERS, acks="all")
    assert (producer["security.protocol"], producer["sasl.password"], producer["linger.ms"]) == ("SASL_SSL", "a&b", "9")
    assert "session.timeout.ms" not in producer
    consumer = address.client(OF_PRODUCERS)
    assert consumer["session.timeout.ms"] == "7000"
    assert "linger.ms" not in consumer


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("kafka://", "HOST:PORT"),
        ("kafka://one:port", "HOST:PORT"),
        ("kafka://one,,two", "HOST:PORT"),
        ("kafka://one:9092/facts", "the service names the topics"),
        ("kafka://user:secret@one", "sasl.username"),
        ("kafka://one?partitions=0", "partitions must be a whole number from 1"),
        ("kafka://one?partitions=many", "partitions must be a whole number"),
        ("kafka://one?patience_seconds=0", "patience_seconds"),
        ("kafka://one?shards=4", "there is no option shards"),
        ("kafka://one?enable.auto.commit=true", "what the service promises depends on it"),
        ("kafka://one?acks=0", "what the service promises depends on it"),
    ],
)
def test_a_url_that_cannot_be_meant_is_refused_at_the_start(url: str, why: str) -> None:
    with pytest.raises(SetupError, match=why) as refused:
        address_of(url)
    assert "secret" not in str(refused.value)
