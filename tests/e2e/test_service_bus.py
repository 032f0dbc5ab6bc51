"""The book's flow over Service Bus, each side a process, with everything made by the command line before."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from azure.servicebus import ServiceBusClient, ServiceBusMessage

from tests.e2e.service import PATIENCE_SECONDS, Service
from tests.e2e.test_streams import consumer
from tests.servers.service_bus import PrivateServiceBus


@dataclass(frozen=True)
class Shop:
    service: Service
    onlooker: ServiceBusClient

    def send(self, body: bytes) -> None:
        with self.onlooker.get_queue_sender("shop.commands") as sender:
            sender.send_messages(ServiceBusMessage(body, session_id="LAMP"))

    def wait_for(self, kind: str, batchref: str) -> None:
        """Until the subscription `moves` was told of it."""
        with self.onlooker.get_subscription_receiver("shop.facts", "moves") as receiver:
            for message in receiver.receive_messages(100, PATIENCE_SECONDS):
                receiver.complete_message(message)
                if (message.subject, message.application_properties[b"batchref"]) == (kind, batchref.encode()):
                    return
        raise AssertionError(f"no {kind} with {batchref}")


@pytest.fixture
def shop(service_bus: PrivateServiceBus) -> Iterator[Shop]:
    url = f"servicebus://?sessions=2&admin_port={service_bus.admin_port}"
    connection = service_bus.connection_string
    with (
        Service(publish_to=url, receive_from=url, namespace="shop", service_bus=connection) as service,
        ServiceBusClient.from_connection_string(connection) as onlooker,
    ):
        yield Shop(service, onlooker)


@pytest.mark.slow
def test_a_change_of_quantity_comes_in_by_the_queue_and_the_reallocation_goes_out_by_a_topic(shop: Shop) -> None:
    subscriptions = b'{"moves": {"by_sku": false, "rules": {"moves": {"filter": "batchref = \'late\'"}}}}'
    provision = [sys.executable, "-m", "allocation.entrypoints.cli", "topology", "provision", "-"]
    done = subprocess.run(
        provision, input=subscriptions, env=os.environ | shop.service.environment(), capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    ask = shop.service.ask
    for ref, eta in (("early", None), ("late", "2031-01-02")):
        assert ask("POST", "/add_batch", {"ref": ref, "sku": "LAMP", "qty": 100, "eta": eta})[0] == 201
    assert ask("POST", "/allocate", {"orderid": "o1", "sku": "LAMP", "qty": 100})[0] == 202
    with consumer(shop.service):
        shop.send(b'{"batchref": "early", "qty": 5}')
        shop.wait_for("Allocated", "late")
    assert ask("GET", "/allocations/o1") == (200, [{"sku": "LAMP", "batchref": "late"}])
    assert "SAS_KEY_VALUE" not in shop.service.words()
