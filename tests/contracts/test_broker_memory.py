"""The broker in memory keeps the contract of brokers."""

from collections.abc import Iterator

import pytest

from allocation.adapters.brokers.memory import CAPABILITIES
from allocation.service_layer.broker import COMMANDS
from tests.contracts.broker_contract import BrokerContract
from tests.contracts.brokers import Rig, command, gather


class TestMemoryBroker(BrokerContract):
    capabilities = CAPABILITIES
    has_a_server = False

    @pytest.fixture
    def rig(self) -> Iterator[Rig]:
        rig = Rig("memory:")
        yield rig
        rig.close()

    def test_who_has_it_no_more_cannot_release_it(self, rig: Rig) -> None:
        """Else it would be counted as tried less often than it was."""
        first, second = rig.receiver("receiver-1"), rig.receiver("receiver-2")
        rig.publisher().publish(COMMANDS, [command("RED-CHAIR", 1)])
        [late] = gather(first, 1)
        first.close()
        [delivery] = gather(second, 1)
        first.release([late])
        assert second.receive(1, 0.0) == []
        second.release([delivery])
        assert [again.attempts for again in gather(second, 1)] == [2]
