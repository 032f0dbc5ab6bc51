"""A peer for the SDK of Azure Service Bus: AMQP 1.0 (python-qpid-proton), and the HTTP of its administration client.

It proves that the SDK and we agree with it, and nothing about Azure. Its subscriptions evaluate rules with our own
code, so that a rule matches here is no evidence that it does there.
"""

from __future__ import annotations

import socket
import sys
from pathlib import Path

from tests.servers.process import LOOPBACK, PrivateServer, free_port

ROOT = Path(__file__).parents[3]
SASL_HEADER = b"AMQP\x03\x01\x00\x00"
"""AMQP 1.0, part 5, section 5.3."""


class PrivateServiceBus(PrivateServer):
    """The peer as a process of its own, which can be killed and come back with what it accepted."""

    name = "service-bus"

    def __init__(self) -> None:
        super().__init__()
        self.admin_port = free_port()
        self.source = "a peer of our own in place of Azure Service Bus"

    @property
    def connection_string(self) -> str:
        """As that of Microsoft's emulator."""
        return (
            f"Endpoint=sb://{LOOPBACK}:{self.port};SharedAccessKeyName=RootManageSharedAccessKey;"
            "SharedAccessKey=SAS_KEY_VALUE;UseDevelopmentEmulator=true;"
        )

    def command(self) -> list[str]:
        module = "tests.servers.service_bus.peer"
        return [sys.executable, "-m", module, str(self.port), str(self.admin_port), str(self.folder)]

    def environment(self) -> dict[str, str]:
        return super().environment() | {"PYTHONPATH": f"{ROOT}:{ROOT / 'src'}"}

    def is_ready(self) -> bool:
        """Whether it answers as the SDK's connections begin, not only accepts them."""
        try:
            socket.create_connection((LOOPBACK, self.admin_port), timeout=2).close()
            with socket.create_connection((LOOPBACK, self.port), timeout=2) as probe:
                probe.sendall(SASL_HEADER)
                return probe.recv(len(SASL_HEADER), socket.MSG_WAITALL) == SASL_HEADER
        except OSError:
            return False
