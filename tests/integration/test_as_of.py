"""How things stood at any place of the log is what a ledger, kept step by step beside it, says."""

from __future__ import annotations

from copy import deepcopy
from datetime import date
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allocation.bootstrap import Application
from allocation.domain.commands import (
    Allocate,
    ChangeBatch,
    ChangeBatchEta,
    ChangeBatchQuantity,
    Command,
    CreateBatch,
    Deallocate,
)
from allocation.domain.errors import CorruptLog
from allocation.service_layer import handlers
from allocation.service_layer.envelope import EventEnvelope, LogPosition
from allocation.service_layer.history.steps import history_of_batch
from allocation.service_layer.history.trace import events_of
from allocation.service_layer.read_models import ReadModels
from allocation.service_layer.subscriptions import Settlement
from allocation.views import PastViews
from tests.integration.damage import execute
from tests.ledger import Ledger
from tests.thoroughness import examples

POSITIONS = 40  # of each of 25 examples: a thousand
KEEPER = "keep_snapshots"

orders = st.sampled_from(["o1", "o2", "o3", "o4", "o5"])
skus = st.sampled_from(["CHAIR", "TABLE"])
quantities = st.integers(1, 9)
etas = st.sampled_from([None, date(2031, 5, 1), date(2031, 6, 1)])
refs = st.sampled_from(["CHAIR-1", "CHAIR-2", "CHAIR-3", "TABLE-1", "TABLE-2"])
commands = st.one_of(
    st.builds(lambda ref, qty, eta: CreateBatch(ref, ref.partition("-")[0], qty, eta), refs, quantities, etas),
    st.builds(Allocate, orders, skus, quantities),
    st.builds(Allocate, orders, skus, quantities),
    st.builds(Deallocate, orders, skus),
    st.builds(ChangeBatchQuantity, refs, st.integers(0, 9)),
    st.builds(ChangeBatchEta, refs, etas),
    st.builds(ChangeBatch, refs, st.integers(0, 9), etas),
)

places = st.lists(st.floats(0, 1), min_size=POSITIONS, max_size=POSITIONS)
"""As shares of what an example adds to the log."""


class Shop:
    """An application, and a ledger of every place of its log (of one partition)."""

    def __init__(self, application: Application) -> None:
        self.application = application
        self.ledgers = [Ledger()]
        self.numbers = count(1)
        application.subscriptions.join(KEEPER, from_the_beginning=True)

    def live(self, wanted: list[Command]) -> tuple[str, int, int]:
        """Give commands under names that nothing else uses; answers what these begin with, and the places of the log
        at which it began and ended."""
        first = len(self.ledgers) - 1
        prefix = f"x{next(self.numbers)}-"
        self.application.bus.handle_many([self.application.bus.envelope(renamed(c, prefix)) for c in wanted])
        page = self.application.subscriptions.read(0, first, 100_000)
        for logged in page:
            ledger = deepcopy(self.ledgers[-1]) if len(self.ledgers) - 1 > first else Ledger()
            ledger.step(logged)
            self.ledgers.append(ledger)
        self.keep_snapshots(page)
        return prefix, first, len(self.ledgers) - 1

    def keep_snapshots(self, page: list[EventEnvelope]) -> None:
        read_models = ReadModels()
        handlers.keep_snapshots(page, self.application.history, read_models)
        lease = self.application.subscriptions.lease(KEEPER, 0, "test", 60)
        assert lease is not None
        self.application.subscriptions.settle(lease, Settlement(len(self.ledgers) - 1, read_models=read_models), 60)


def renamed(command: Command, prefix: str) -> Command:
    changed = {name: prefix + getattr(command, name) for name in ("ref", "sku", "orderid") if hasattr(command, name)}
    return type(command)(**{name: getattr(command, name) for name in command.__dataclass_fields__} | changed)


@pytest.fixture
def shop(application: Application, monkeypatch: pytest.MonkeyPatch) -> Shop:
    """Snapshots are kept so often that most answers come from one."""
    monkeypatch.setattr(handlers, "EVERY", 4)
    return Shop(application)


@given(st.lists(commands, min_size=15, max_size=40), places, orders)
@examples(25)
def test_a_thousand_places_of_the_log_are_as_a_ledger_has_them(
    shop: Shop, wanted: list[Command], places: list[float], order: str
) -> None:
    prefix, first, last = shop.live(wanted)
    for share in places:
        place = first + round(share * (last - first))
        ledger = shop.ledgers[place] if place > first else Ledger()
        past = PastViews(shop.application.history, LogPosition(0, place))
        for sku in (prefix + "CHAIR", prefix + "TABLE"):
            assert past.product(sku) == ledger.product(sku)
        assert past.order(prefix + order) == ledger.order(prefix + order)


@pytest.mark.parametrize("lost", [500, 1000])
def test_a_past_that_lacks_an_event_is_told_as_corrupt_and_not_as_shorter(application: Application, lost: int) -> None:
    """Wherever a page of those that read it may end."""
    envelope = application.bus.envelope
    application.bus.handle(CreateBatch("TABLE-1", "TABLE", 5_000))
    application.bus.handle_many([envelope(Allocate(f"o{n}", "TABLE", 1)) for n in range(1_200)])
    execute(application.settings.database_url, f"DELETE FROM event_log WHERE sku = 'TABLE' AND version = {lost}")
    with pytest.raises(CorruptLog):
        PastViews(application.history, LogPosition(0, 1_201)).product("TABLE")
    with pytest.raises(CorruptLog):
        history_of_batch(application.history, "TABLE-1", 0, 2_000)


def test_the_events_of_a_command_are_told_though_the_log_has_lost_its_beginning(application: Application) -> None:
    bus = application.bus
    bus.handle(CreateBatch("TABLE-1", "TABLE", 1))
    bus.handle_many([bus.envelope(Allocate(f"o{n}", "TABLE", 2)) for n in range(20)])
    serving = bus.envelope(CreateBatch("TABLE-2", "TABLE", 40))
    bus.ask(serving)
    execute(application.settings.database_url, "DELETE FROM event_log WHERE position <= 41")
    [done] = application.history.commands([serving.id])
    told, count = events_of(application.history, done, 5)
    assert ([type(logged.event).__name__ for logged in told], count) == (["BatchCreated", *["Allocated"] * 4], 21)
