"""Azure Service Bus keeps the contract of brokers, as far as a peer of our own can tell: the SDK is the real one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from allocation.adapters.brokers import registry
from allocation.adapters.brokers.service_bus import CAPABILITIES
from allocation.adapters.brokers.service_bus.receiver import ServiceBusReceiver
from allocation.service_layer.broker import Message, Publisher, Receiver
from tests.contracts.broker_contract import BrokerContract
from tests.contracts.brokers import Rig, command
from tests.servers.service_bus import PrivateServiceBus
from tests.servers.service_bus.making import make_ours


class ServiceBusRig(Rig):
    abandoned_after_seconds = 10.0

    def __init__(self, server: PrivateServiceBus) -> None:
        super().__init__("servicebus://?sessions=4&patience_seconds=2&socket_seconds=0.05")
        self._server = server
        self._connections = {"servicebus": server.connection_string}
        for namespace in (self.namespace, f"{self.namespace}x"):
            make_ours(server.admin_port, namespace, lock="PT3S")

    def publisher(self, namespace: str | None = None) -> Publisher:
        [made] = registry.publishers(self.url, namespace or self.namespace, self._connections).values()
        self._opened.append(made)
        return made

    def receiver(self, owner: str = "receiver-1", namespace: str | None = None) -> Receiver:
        [made] = registry.receivers(self.url, namespace or self.namespace, owner, self._connections).values()
        self._opened.append(made)
        return made

    def rejected(self) -> Message | None:
        large = command("LARGE", 0)
        return Message(large.id, large.type, large.key, large.time, "x" * 300_000)

    def lose(self, receiver: Receiver) -> None:
        """Nobody renews its locks, as if its process hung."""
        assert isinstance(receiver, ServiceBusReceiver)
        assert receiver._renewer is not None
        receiver._renewer.close()

    def stop(self) -> None:
        self._server.kill()

    def start(self) -> None:
        self._server.start()


class TestServiceBus(BrokerContract):
    capabilities = CAPABILITIES

    @pytest.fixture
    def rig(self, service_bus: PrivateServiceBus) -> Iterator[Rig]:
        rig = ServiceBusRig(service_bus)
        yield rig
        rig.close()
