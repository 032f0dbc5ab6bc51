from collections.abc import Callable

import pytest

from allocation.adapters.clock import TimeOrderedIds
from allocation.adapters.memory import MemoryStore, MemoryUnitOfWork, MemoryViews
from allocation.service_layer.unit_of_work import UnitOfWork
from allocation.views import Views
from tests.contracts.harness import MakeStore, Store
from tests.contracts.store_contract import StoreContract
from tests.fakes import SetClock


class InMemory(Store):
    def __init__(self, partitions: int) -> None:
        super().__init__(partitions)
        self._kept = MemoryStore(TimeOrderedIds(), SetClock(), partitions)

    def ports(
        self, clock: SetClock, pages: tuple[int, int], lock_timeout_seconds: float
    ) -> tuple[Callable[[], UnitOfWork], Views]:
        self._kept.clock, self._kept.lock_timeout_seconds = clock, lock_timeout_seconds
        return lambda: MemoryUnitOfWork(self._kept), MemoryViews(self._kept)


class TestMemory(StoreContract):
    @pytest.fixture
    def make_store(self) -> MakeStore:
        return InMemory
