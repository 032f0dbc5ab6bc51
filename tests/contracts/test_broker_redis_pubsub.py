"""Redis pub/sub keeps the contract of brokers: it declares next to nothing, and that is asserted."""

from collections.abc import Iterator

import pytest

from allocation.adapters.brokers.redis_pubsub import CAPABILITIES
from tests.contracts.broker_contract import BrokerContract
from tests.contracts.brokers import Rig
from tests.contracts.redis_rigs import PubSubRig
from tests.servers.redis import PrivateRedis


class TestRedisPubSub(BrokerContract):
    capabilities = CAPABILITIES

    @pytest.fixture
    def rig(self, durable_redis: PrivateRedis) -> Iterator[Rig]:
        rig = PubSubRig(durable_redis)
        yield rig
        rig.close()
