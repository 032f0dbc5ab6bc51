"""The self-audit goes on, whatever it comes across."""

import logging
from threading import Event as Flag

import pytest

from allocation.adapters.memory_verification import MemoryAuditStore
from allocation.service_layer.self_audit import SelfAudit
from allocation.service_layer.verify import Place, Step, Walk
from tests.fakes import SetClock

PATIENCE_SECONDS = 20.0


class Stumbling(Walk):
    """Cannot read what it sees the first time."""

    def __init__(self) -> None:
        self.looks = 0
        self.looked_again = Flag()

    def step(self, place: Place) -> Step:
        self.looks += 1
        if self.looks == 1:
            raise ValueError("an event that nobody can read")
        self.looked_again.set()
        return Step(place.part, 0, [], place)


def test_what_it_cannot_read_is_said_and_does_not_end_it(caplog: pytest.LogCaptureFixture) -> None:
    walk = Stumbling()
    audit = SelfAudit(walk, MemoryAuditStore(), SetClock(), "auditor", pause_seconds=0.001, rest_seconds=0.001)
    with caplog.at_level(logging.ERROR):
        audit.start()
        went_on = walk.looked_again.wait(PATIENCE_SECONDS)
        audit.stop()
    assert went_on
    assert "an event that nobody can read" in caplog.text
