"""Apache Kafka keeps the contract of brokers."""

from collections.abc import Iterator

import pytest

from allocation.adapters.brokers.kafka import CAPABILITIES
from allocation.service_layer.broker import Message, Receiver
from tests.contracts.broker_contract import BrokerContract
from tests.contracts.brokers import Rig, command
from tests.servers.kafka import Kafka, PrivateKafka

URL = "kafka://{}?patience_seconds=2&partitions=3&session.timeout.ms=3000&max.poll.interval.ms=3000"
"""Quick to notice: a receiver that asks for nothing in 3 seconds is taken for dead."""


class KafkaRig(Rig):
    def __init__(self, server: PrivateKafka) -> None:
        super().__init__(URL.format(server.bootstrap))
        self.server = server

    def rejected(self) -> Message | None:
        large = command("LARGE", 0)
        return Message(large.id, large.type, large.key, large.time, "x" * 2_000_000)

    def lose(self, receiver: Receiver) -> None:
        """It never asks again, as one whose process hangs; Kafka gives its partitions to others."""

    def stop(self) -> None:
        self.server.kill()

    def start(self) -> None:
        self.server.start()


class TestKafka(BrokerContract):
    capabilities = CAPABILITIES

    @pytest.fixture
    def rig(self, kafka_server: Kafka) -> Iterator[Rig]:
        assert isinstance(kafka_server, PrivateKafka)
        rig = KafkaRig(kafka_server)
        yield rig
        rig.close()
