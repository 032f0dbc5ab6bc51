"""Where a Service Bus is and how to talk to it, from a URL and a connection string.

The connection string is that of Azure's portal, or of Microsoft's emulator (`UseDevelopmentEmulator=true`). It holds a
key, so it has a setting of its own, and none of our messages repeats it. The URL's parameters are `sessions` (8), how
many skus a receiver serves at a time; `patience_seconds` (10); `socket_seconds` (the SDK's default), how long a socket
waits for more data; and `admin_port` (5300), where an emulator accepts administration.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from ssl import SSLContext, SSLSocket, create_default_context
from urllib.parse import parse_qsl, urlsplit

import certifi
from azure.servicebus import ServiceBusClient, parse_connection_string

from allocation.service_layer.broker import COMMANDS, Capabilities
from allocation.service_layer.errors import SetupError

CAPABILITIES = Capabilities(durable=True, ordered_by_key=True, acknowledged=True, scheduled=True, filtered=True)
"""scheduled: by the receiver, which holds a session back; a restart forgets the delay. Not replayable: a subscription
begins when it is created. Not deduplicated: duplicate detection forgets after its window."""

SETTING = "ALLOCATION_SERVICE_BUS"
EMULATOR_ADMIN_PORT = 5300
WHOLE = frozenset({"sessions", "admin_port"})


@dataclass(frozen=True, slots=True)
class Address:
    """`patience_seconds`: how long a call waits for Service Bus before it counts as unreachable."""

    connection: str = field(repr=False)
    sessions: int = 8
    patience_seconds: float = 10.0
    socket_seconds: float | None = None
    admin_port: int = EMULATOR_ADMIN_PORT

    def client(self, open_seconds: float) -> ServiceBusClient:
        """A client that does not retry by itself: what is not known to be accepted is published again by us, in
        order."""
        chatter = logging.getLogger("azure")
        if chatter.level == logging.NOTSET:  # at level INFO it logs each step of each connection
            chatter.setLevel(logging.WARNING)
        return ServiceBusClient.from_connection_string(
            self.connection,
            retry_total=0,
            try_timeout=open_seconds,
            ssl_context=_patient_context(self.patience_seconds),
        )


def _patient_context(patience_seconds: float) -> SSLContext:
    """Trusts whom the SDK trusts, but does not wait for ever. The SDK gives a new connection all the time in the world,
    so a server that accepts one and says nothing would hold us up even after others answer again."""

    class PatientSocket(SSLSocket):
        def settimeout(self, seconds: float | None, /) -> None:
            super().settimeout(patience_seconds if seconds is None else seconds)

    context = create_default_context(cafile=certifi.where())
    context.sslsocket_class = PatientSocket
    return context


def entity_of(namespace: str, topic: str) -> str:
    """The name of a topic, or of the queue of commands, at Service Bus."""
    return f"{namespace}.{topic}"


def is_queue(topic: str) -> bool:
    """A command goes to one receiver; facts and stock levels go to all subscribers."""
    return topic == COMMANDS


def address_of(url: str, connection: str) -> Address:
    """Raises `SetupError` with an explanation, which never repeats the connection string."""
    parts = urlsplit(url)
    if parts.netloc or parts.path.strip("/"):
        raise SetupError(f"servicebus: write servicebus:// alone, and put the connection string into {SETTING}")
    if not connection:
        raise SetupError(f"servicebus: set {SETTING} to the connection string")
    try:
        parsed = parse_connection_string(connection)
    except ValueError:
        raise SetupError(f"servicebus: {SETTING} is not a connection string of Service Bus") from None
    if parsed.entity_path:
        raise SetupError(f"servicebus: {SETTING} names one entity (EntityPath); use the namespace's own")
    given = dict(parse_qsl(parts.query, keep_blank_values=True))
    sessions = _number(given.pop("sessions", "8"), "sessions", 1, 100)
    patience = _number(given.pop("patience_seconds", "10"), "patience_seconds", 0.1, 300)
    socket = given.pop("socket_seconds", None)
    wait = None if socket is None else _number(socket, "socket_seconds", 0.01, 60)
    admin_port = _number(given.pop("admin_port", str(EMULATOR_ADMIN_PORT)), "admin_port", 1, 65_535)
    if given:
        known = "sessions, patience_seconds, socket_seconds, admin_port"
        raise SetupError(f"servicebus: there is no option {', '.join(given)}; the options are {known}")
    return Address(connection, int(sessions), patience, wait, int(admin_port))


def _number(value: str, name: str, least: float, most: float) -> float:
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if not least <= number <= most or (name in WHOLE and number != int(number)):
        raise SetupError(f"servicebus: {name} must be a number from {least} to {most}, not {value!r}")
    return number
