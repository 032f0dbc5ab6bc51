"""Azure Service Bus keeps the contract of brokers, as far as a peer of our own can tell: the SDK is the real one."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from azure.servicebus import ServiceBusClient

from allocation.adapters.brokers import registry, service_bus
from allocation.adapters.brokers.service_bus import CAPABILITIES
from allocation.adapters.brokers.service_bus.receiver import ServiceBusReceiver
from allocation.bootstrap import rule_parser
from allocation.service_layer.broker import FACTS, Message, Publisher, Receiver
from allocation.service_layer.provisioning import WantedRule, WantedSubscription
from allocation.service_layer.rules.rule import Rule
from tests.contracts.broker_contract import BrokerContract
from tests.contracts.brokers import LONG_SECONDS, SHORT_SECONDS, Rig, command
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

    def subscriber(self, wanted: str) -> Callable[[int], list[str]]:
        """The peer evaluates the filter with our own code: that it lets the right ones through is no evidence."""
        rule = WantedRule(Rule("wanted", rule_parser().filter(wanted)))
        url = f"servicebus://?admin_port={self._server.admin_port}"
        provisioner = service_bus.provisioner(url, self.namespace, self._server.connection_string)
        list(provisioner.provision([WantedSubscription(FACTS, "some", [rule], by_sku=False)]))

        def heard(count: int) -> list[str]:
            client = ServiceBusClient.from_connection_string(self._server.connection_string)
            with client, client.get_subscription_receiver(f"{self.namespace}.{FACTS}", "some") as receiver:
                found = receiver.receive_messages(count, LONG_SECONDS)
                found += receiver.receive_messages(10, SHORT_SECONDS)
                return [str(message.message_id) for message in found]

        return heard

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
