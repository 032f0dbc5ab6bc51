"""Who pulls may wait, but not all at once, and not for ever."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, nullcontext
from threading import Event as Flag
from unittest.mock import patch

import pytest

from allocation.adapters.clock import SystemTimer, TimeOrderedIds
from allocation.adapters.memory import MemoryStore, MemoryUnitOfWork
from allocation.adapters.memory_definitions import MemoryDefinitions
from allocation.adapters.memory_subscriptions import MemorySubscriptionStore
from allocation.adapters.rule_parser import LarkRuleParser
from allocation.bootstrap import bootstrap
from allocation.config import Settings
from allocation.domain.commands import CreateBatch
from allocation.service_layer.definitions import Definition, RuleBook
from allocation.service_layer.handlers import COMMAND_HANDLERS
from allocation.service_layer.messagebus import MessageBus
from allocation.service_layer.pull_locks import Asked
from allocation.service_layer.pulling import Chime, Pulling, Received
from tests.fakes import CountingIds, SetClock


class Listening(Chime):
    """Says when somebody waits."""

    def __init__(self) -> None:
        super().__init__()
        self.somebody_waits = Flag()

    def wait(self, since: int, seconds: float) -> None:
        self.somebody_waits.set()
        super().wait(since, 20)


def shop(chime: Chime) -> tuple[Pulling, Callable[[str], None]]:
    """One who may wait, and how to commit something."""
    store = MemoryStore(CountingIds(), SetClock())
    subscriptions = MemorySubscriptionStore(store)
    definitions = MemoryDefinitions(subscriptions)
    definitions.put(Definition("all", "pull"), None, from_the_beginning=True)
    rules = RuleBook(LarkRuleParser(TimeOrderedIds()))
    pulling = Pulling(
        definitions, subscriptions, rules, store.clock, CountingIds(), SystemTimer(), most_waiting=1, chime=chime
    )
    uow = lambda: MemoryUnitOfWork(store)  # noqa: E731  # as the bus wants it
    bus = MessageBus(uow, COMMAND_HANDLERS, CountingIds(), store.clock, committed=pulling.wake)
    return pulling, lambda sku: bus.handle(CreateBatch(f"batch-of-{sku}", sku, 1))


def test_only_so_many_wait_and_the_others_are_answered_at_once() -> None:
    chime = Listening()
    pulling, commit = shop(chime)
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(pulling.receive, "all", Asked(wait_seconds=20))
        assert chime.somebody_waits.wait(10)
        assert pulling.receive("all", Asked(wait_seconds=20)).held == []
        commit("RED-CHAIR")
        assert [held.key for held in first.result(timeout=10).held] == ["RED-CHAIR"]


def test_waiting_ends() -> None:
    pulling, _ = shop(Chime())
    assert pulling.receive("all", Asked(wait_seconds=0.02)).held == []
    assert pulling.receive("all", Asked(wait_seconds=0.02)).held == [], "the place was given back"


def test_who_waits_is_answered_when_the_process_leaves() -> None:
    chime = Listening()
    pulling, _ = shop(chime)
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(pulling.receive, "all", Asked(wait_seconds=20))
        assert chime.somebody_waits.wait(10)
        pulling.leave()
        assert waiting.result(timeout=10).held == []
    assert pulling.receive("all", Asked(wait_seconds=20)).held == []


class Waits(Exception):
    """Somebody does."""


@pytest.mark.parametrize(("threads", "waits"), [(1, False), (2, True), (16, True)])
def test_one_thread_at_least_goes_on_serving(threads: int, waits: bool) -> None:
    application = bootstrap(Settings(database_url="memory:", threads=threads))
    application.subscribers.define(Definition("all", "pull"), from_the_beginning=True)
    with (
        closing(application),
        patch.object(Chime, "wait", side_effect=Waits),
        pytest.raises(Waits) if waits else nullcontext(),
    ):
        assert application.pulling.receive("all", Asked(wait_seconds=20)) == Received([], has_seen_all=True)


def test_what_is_rung_between_looking_and_waiting_is_heard() -> None:
    chime = Chime()
    before = chime.count()
    chime.ring()
    chime.wait(before, 20)
    assert chime.count() == before + 1
