"""Azure Service Bus: `servicebus://?sessions=8&...` (see `address`), with the connection string beside it.

The topics are `NAMESPACE.facts` and `NAMESPACE.stock_level`, the queue is `NAMESPACE.commands`; a product's sku is the
session of all its messages, so that Service Bus keeps their order. Nothing is created in passing: `allocation topology
provision` creates what is missing.
"""

from __future__ import annotations

from allocation.adapters.brokers.service_bus.address import CAPABILITIES, address_of
from allocation.adapters.brokers.service_bus.publisher import ServiceBusPublisher
from allocation.adapters.brokers.service_bus.receiver import ServiceBusReceiver
from allocation.service_layer.broker import Publisher, Receiver
from allocation.service_layer.provisioning import Provisioner

__all__ = ["CAPABILITIES", "provisioner", "publisher", "receiver"]


def publisher(url: str, namespace: str, connection: str = "") -> Publisher:
    """Connects at first use. Raises `SetupError` for an invalid URL or connection string."""
    return ServiceBusPublisher(address_of(url, connection), namespace)


def receiver(url: str, namespace: str, owner: str, connection: str = "") -> Receiver:
    """Connects at first use; `owner` is the name that Service Bus's own tools show. Raises as above."""
    return ServiceBusReceiver(address_of(url, connection), namespace, owner)


def provisioner(url: str, namespace: str, connection: str = "") -> Provisioner:
    """Connects when it is used. Raises as above."""
    from allocation.adapters.brokers.service_bus.provisioning import ServiceBusProvisioner

    return ServiceBusProvisioner(address_of(url, connection), namespace)
