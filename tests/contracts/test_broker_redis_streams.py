"""Redis Streams keep the contract of brokers, over crashes of the server and of receivers too."""

from collections.abc import Iterator

import pytest

from allocation.adapters.brokers.redis_streams import CAPABILITIES
from tests.contracts.broker_contract import BrokerContract
from tests.contracts.brokers import Rig
from tests.contracts.redis_rigs import StreamsRig
from tests.servers.redis import PrivateRedis


class TestRedisStreams(BrokerContract):
    capabilities = CAPABILITIES

    @pytest.fixture
    def rig(self, durable_redis: PrivateRedis) -> Iterator[Rig]:
        rig = StreamsRig(durable_redis)
        yield rig
        rig.close()
