import pytest

from allocation.service_layer.messagebus import MessageBus
from tests.fakes import Diary
from tests.unit.buses import make_bus


@pytest.fixture
def diary() -> Diary:
    return Diary()


@pytest.fixture
def bus(diary: Diary) -> MessageBus:
    return make_bus(diary)
