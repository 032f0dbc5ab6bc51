"""Apache Kafka keeps the contract of brokers."""

from collections.abc import Iterator

import pytest

from allocation.adapters.brokers.kafka import CAPABILITIES
from allocation.service_layer.broker import Message, Receiver
from tests.contracts.broker_contract import BrokerContract
from tests.contracts.brokers import Rig, command
from tests.servers.kafka import Kafka, PrivateKafka


class KafkaRig(Rig):
    def __init__(self, server: Kafka) -> None:
        # A receiver that asks for nothing for so long is taken for dead; brokers of others may insist on 6 seconds.
        dead = 3000 if isinstance(server, PrivateKafka) else 6000
        quick = f"patience_seconds=2&partitions=3&session.timeout.ms={dead}&max.poll.interval.ms={dead}"
        super().__init__(f"kafka://{server.bootstrap}?{quick}")
        self.server = server

    def rejected(self) -> Message | None:
        large = command("LARGE", 0)
        return Message(large.id, large.type, large.key, large.time, "x" * 2_000_000)

    def lose(self, receiver: Receiver) -> None:
        """It never asks again, as one whose process hangs; Kafka gives its partitions to others."""

    def stop(self) -> None:
        if not isinstance(self.server, PrivateKafka):
            pytest.skip("a broker of others is not to be killed")
        self.server.kill()

    def start(self) -> None:
        assert isinstance(self.server, PrivateKafka)
        self.server.start()


class TestKafka(BrokerContract):
    capabilities = CAPABILITIES

    @pytest.fixture
    def rig(self, kafka_server: Kafka) -> Iterator[Rig]:
        if not kafka_server.is_real:
            pytest.skip(kafka_server.source)
        rig = KafkaRig(kafka_server)
        yield rig
        rig.close()
