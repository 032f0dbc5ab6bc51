"""The broker in memory keeps the contract of brokers."""

from collections.abc import Iterator

import pytest

from allocation.adapters.brokers.memory import CAPABILITIES
from tests.contracts.broker_contract import BrokerContract
from tests.contracts.brokers import Rig


class TestMemoryBroker(BrokerContract):
    capabilities = CAPABILITIES
    has_a_server = False

    @pytest.fixture
    def rig(self) -> Iterator[Rig]:
        rig = Rig("memory:")
        yield rig
        rig.close()
