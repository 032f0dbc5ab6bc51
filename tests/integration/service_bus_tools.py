"""A shop beside the peer of Service Bus, and what an onlooker with the plain SDK sees and sends there."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from threading import Event, Thread
from typing import Any
from uuid import uuid4

import msgspec
from azure.servicebus import NEXT_AVAILABLE_SESSION, ServiceBusClient, ServiceBusMessage, ServiceBusSubQueue
from azure.servicebus.amqp import AmqpAnnotatedMessage
from azure.servicebus.exceptions import OperationTimeoutError

from allocation.adapters.brokers import service_bus
from allocation.bootstrap import Application, bootstrap
from allocation.config import load_settings
from allocation.service_layer.broker import Publisher, Receiver
from tests.servers.process import LOOPBACK
from tests.servers.service_bus import PrivateServiceBus
from tests.servers.service_bus.making import make_ours

LONG_SECONDS = 20.0
URL = "servicebus://?sessions=3&patience_seconds=2&socket_seconds=0.05"


@dataclass(frozen=True)
class Told:
    """A message of a topic, as it came out of a subscription."""

    key: str
    id: str
    subject: str
    properties: dict[str, Any]
    body: Any

    @property
    def version(self) -> int:
        return int(self.properties["version"])


class Bus:
    """A namespace of its own at the peer."""

    def __init__(self, server: PrivateServiceBus, lock: str = "PT30S", deliveries: int = 1000) -> None:
        self.server, self.namespace = server, f"t{uuid4().hex[:12]}"
        make_ours(server.admin_port, self.namespace, lock, deliveries)
        self.onlooker = ServiceBusClient.from_connection_string(server.connection_string, retry_total=0)
        self.opened: list[Publisher | Receiver] = []

    @property
    def connection(self) -> str:
        return self.server.connection_string

    @property
    def queue(self) -> str:
        return f"{self.namespace}.commands"

    def publisher(self) -> Publisher:
        self.opened.append(service_bus.publisher(URL, self.namespace, self.connection))
        return self.opened[-1]  # type: ignore[return-value]  # it has just been made

    def receiver(self, owner: str = "one") -> Receiver:
        self.opened.append(service_bus.receiver(URL, self.namespace, owner, self.connection))
        return self.opened[-1]  # type: ignore[return-value]  # as above

    def send(self, *messages: ServiceBusMessage | AmqpAnnotatedMessage) -> None:
        with self.onlooker.get_queue_sender(self.queue, socket_timeout=0.05) as sender:
            sender.send_messages(list(messages))

    def told(self, topic: str, count: int, subscription: str = "all") -> list[Told]:
        """What came out of a subscription since it was last asked, each session in order: all that is there, or that
        many once they are."""
        found: list[Told] = []
        deadline = time.monotonic() + LONG_SECONDS
        path = f"{self.namespace}.{topic}", subscription
        while True:
            try:
                receiver = self.onlooker.get_subscription_receiver(
                    *path, session_id=NEXT_AVAILABLE_SESSION, max_wait_time=0.3, prefetch_count=100, socket_timeout=0.05
                )
                with receiver:
                    for message in receiver.receive_messages(1000, 0.2):
                        found.append(_told(message))
                        receiver.complete_message(message)
            except OperationTimeoutError:
                if len(found) >= count or time.monotonic() > deadline:
                    return found

    def dead(self) -> list[str]:
        """The reasons of the queue's dead letters."""
        dead = ServiceBusSubQueue.DEAD_LETTER
        with self.onlooker.get_queue_receiver(self.queue, sub_queue=dead, socket_timeout=0.05) as receiver:
            found = receiver.receive_messages(100, 0.5)
            for message in found:
                receiver.complete_message(message)
            return [message.dead_letter_reason or "" for message in found]

    def settings(self, **further: object) -> Mapping[str, object]:
        return {"receive_from": URL, "namespace": self.namespace, "service_bus": self.connection} | further

    def close(self) -> None:
        for one in self.opened:
            one.close()
        self.onlooker.close()


def _told(message: Any) -> Told:
    properties = {name.decode(): _text(value) for name, value in message.application_properties.items()}
    body = msgspec.json.decode(b"".join(message.body))
    return Told(message.session_id, message.message_id, message.subject, properties, body)


def _text(value: object) -> object:
    return value.decode() if isinstance(value, bytes) else value


class Hole:
    """A way to the peer whose connections can be told to swallow everything, while new ones pass it on."""

    def __init__(self, server: PrivateServiceBus) -> None:
        self._to, self._swallows = server.port, Event()
        self._entrance = socket.create_server((LOOPBACK, 0))
        here = f"{LOOPBACK}:{self._entrance.getsockname()[1]}"
        self.connection_string = server.connection_string.replace(f"{LOOPBACK}:{server.port}", here)
        Thread(target=self._serve, daemon=True).start()

    def swallow(self) -> None:
        self._swallows.set()
        self._swallows = Event()

    def close(self) -> None:
        self._entrance.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits in accept()
        self._entrance.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                here, _ = self._entrance.accept()
                there = socket.create_connection((LOOPBACK, self._to))
                for ends in ((here, there), (there, here)):
                    Thread(target=pass_on, args=(*ends, self._swallows), daemon=True).start()


def pass_on(one: socket.socket, other: socket.socket, swallows: Event) -> None:
    with suppress(OSError):
        while data := one.recv(65_536):
            if not swallows.is_set():
                other.sendall(data)
        other.shutdown(socket.SHUT_RDWR)


@contextmanager
def shop(database_url: str, bus: Bus, **further: object) -> Iterator[Application]:
    """A service that takes commands from the bus, and tells it everything, with its worker running."""
    settings = bus.settings(database_url=database_url, publish_to=URL, **further)
    application = bootstrap(load_settings(**settings))
    try:
        application.worker.start()
        yield application
    finally:
        application.close()


def wait_for(true: Callable[[], bool], seconds: float = LONG_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.01)
