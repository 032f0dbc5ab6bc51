"""Azure Event Grid keeps the contract of brokers as far as it goes: it declares nothing, and has no receiver of ours.

What is published is read from the stand-in's hands, as a subscriber that filters by `topic` would be pushed it.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from time import monotonic
from urllib.parse import quote

import msgspec
import pytest

from allocation.adapters.brokers.event_grid import CAPABILITIES
from allocation.adapters.cloudevents import STRUCTURED
from allocation.service_layer.broker import COMMANDS, Delivery, Message, Receiver
from allocation.service_layer.errors import Unavailable
from tests.contracts.broker_contract import BrokerContract
from tests.contracts.brokers import Rig, command
from tests.servers.event_grid import KEY, EventGridPeer
from tests.servers.process import LOOPBACK
from tests.servers.webhook import certificate_for


class Subscriber(Receiver):
    """What Event Grid would push to somebody who asked for one topic."""

    capabilities = CAPABILITIES

    def __init__(self, peer: EventGridPeer, topic: str) -> None:
        self._peer, self._topic, self._seen = peer, topic, 0

    def receive(self, most: int, wait_seconds: float) -> Sequence[Delivery]:
        until = monotonic() + wait_seconds
        with self._peer.changed:
            while not (found := self._next(most)) and (left := until - monotonic()) > 0 and self._peer.is_running:
                self._peer.changed.wait(left)
        if not found and not self._peer.is_running:
            raise Unavailable("Event Grid is away")
        return found

    def _next(self, most: int) -> list[Delivery]:
        found: list[Delivery] = []
        while self._seen < len(self._peer.accepted) and len(found) < most:
            event = self._peer.accepted[self._seen]
            self._seen += 1
            if event["topic"] == self._topic:
                headers = {"content-type": STRUCTURED}
                found.append(Delivery(msgspec.json.encode(event), f"event grid {self._topic}", event["id"], headers))
        return found

    def accept(self, deliveries: Sequence[Delivery]) -> None:
        """It is answered with 200."""

    def release(self, deliveries: Sequence[Delivery], delay_seconds: float = 0.0) -> None:
        """It would be answered with 503."""

    def reject(self, delivery: Delivery, reason: str) -> None:
        """It is answered with 200, parked."""

    def close(self) -> None:
        """There is nothing to let go of."""


class EventGridRig(Rig):
    def __init__(self, peer: EventGridPeer) -> None:
        super().__init__(f"eventgrid+https://:{quote(KEY, safe='')}@{LOOPBACK}:{peer.http.port}/api/events")
        self.peer = peer

    def receiver(self, owner: str = "receiver-1", namespace: str | None = None) -> Receiver:
        return Subscriber(self.peer, f"{namespace or self.namespace}.{COMMANDS}")

    def rejected(self) -> Message | None:
        large = command("LARGE", 0)
        return Message(large.id, large.type, large.key, large.time, "x" * 2_000_000)

    def stop(self) -> None:
        self.peer.stop()

    def start(self) -> None:
        self.peer.start()

    def close(self) -> None:
        super().close()
        self.peer.stop()


class TestEventGrid(BrokerContract):
    capabilities = CAPABILITIES

    @pytest.fixture
    def rig(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
        certificate = certificate_for(tmp_path, address=LOOPBACK)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))  # whom their client trusts
        peer = EventGridPeer(certificate)
        peer.start()
        rig = EventGridRig(peer)
        yield rig
        rig.close()
