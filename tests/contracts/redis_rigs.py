"""Redis as the suite of brokers sees it: a server of its own, which keeps everything and can be killed."""

from __future__ import annotations

from time import monotonic

from allocation.adapters.brokers.redis_client import connect, plain_url
from allocation.adapters.brokers.redis_pubsub import RedisPubSubReceiver
from allocation.adapters.brokers.redis_streams import Address
from allocation.adapters.brokers.redis_streams_receiver import RedisStreamsReceiver
from allocation.service_layer.broker import Receiver
from allocation.service_layer.errors import Unavailable
from tests.contracts.brokers import LONG_SECONDS, Rig
from tests.servers.redis import PrivateRedis

LEASE_SECONDS = 1.5


class RedisRig(Rig):
    scheme: str

    def __init__(self, server: PrivateRedis) -> None:
        super().__init__(server.url.replace("redis:", f"{self.scheme}:"))
        self._server = server

    def stop(self) -> None:
        self._server.kill()

    def start(self) -> None:
        self._server.start()


class StreamsRig(RedisRig):
    scheme = "redis+streams"
    abandoned_after_seconds = 10.0

    def receiver(self, owner: str = "receiver-1", namespace: str | None = None) -> Receiver:
        """With a short lease, so that nobody waits long for the shards of a dead one."""
        client = connect(plain_url(self.url), retries=0)
        made = RedisStreamsReceiver(client, namespace or self.namespace, owner, Address.of(self.url), LEASE_SECONDS)
        self._opened.append(made)
        return made

    def lose(self, receiver: Receiver) -> None:
        self._opened.remove(receiver)


class PubSubRig(RedisRig):
    scheme = "redis+pubsub"

    def listening(self, receiver: Receiver) -> None:
        """It subscribes when it is asked; Redis says whether it has."""
        assert isinstance(receiver, RedisPubSubReceiver)
        deadline = monotonic() + LONG_SECONDS
        while monotonic() < deadline:
            try:
                assert list(receiver.receive(1, 0.02)) == []
            except Unavailable:  # its server has just come back
                continue
            if receiver.is_subscribed():
                return
        raise AssertionError("it does not listen")
