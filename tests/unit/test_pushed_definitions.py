"""What is pushed by a definition, and what becomes of it when the definition changes."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from allocation.adapters.clock import TimeOrderedIds
from allocation.adapters.memory import MemoryStore
from allocation.adapters.memory_definitions import MemoryDefinitions
from allocation.adapters.memory_subscriptions import MemorySubscriptionStore
from allocation.adapters.rule_parser import LarkRuleParser
from allocation.domain.events import Allocated
from allocation.service_layer.broker import Message
from allocation.service_layer.definitions import Address, Definition, NamedRule, RuleBook
from allocation.service_layer.envelope import EventEnvelope, LogPosition
from allocation.service_layer.errors import Busy, Gone, Rejected, RejectedForGood, Unavailable
from allocation.service_layer.pushing import Push, Sink
from allocation.service_layer.pushing_definitions import deliver_by
from allocation.service_layer.read_models import ReadModels
from allocation.service_layer.subscriptions import Deliver
from tests.fakes import NOON, CountingIds, SetClock

CHAIR, TABLE = "RED-CHAIR", "SMALL-TABLE"
DEFINITION = Definition("hook", "push", sink=Address("https://example.com", "whsec_x"))


class FakePush(Push):
    """Does with each message what `fails` says, and with all that comes behind an absence."""

    def __init__(self) -> None:
        self.pushed: list[str] = []
        self.fails: dict[str, Exception] = {}
        self.most: int | None = None
        """How many messages one call has time for."""

    def check(self, sink: Sink) -> None: ...

    def push(self, sink: Sink, messages: Sequence[Message]) -> Sequence[Exception | None]:
        outcomes: list[Exception | None] = []
        for number, message in enumerate(messages):
            failure = self.fails.get(message.id)
            if number == self.most:
                failure = Busy("the rest comes in the next round", 0.0)
            if isinstance(failure, Gone):
                raise failure
            if isinstance(failure, Unavailable):
                return outcomes + [failure] * (len(messages) - len(outcomes))
            if failure is None:
                self.pushed.append(message.id)
            outcomes.append(failure)
        return outcomes

    def forget(self, sink: Sink) -> None: ...

    def finish(self) -> None: ...

    def close(self) -> None: ...


class Pushed:
    def __init__(self) -> None:
        self.push = FakePush()
        self.definitions = MemoryDefinitions(MemorySubscriptionStore(MemoryStore(CountingIds(), SetClock())))
        self.definition = DEFINITION
        self.put(DEFINITION)

    def put(self, definition: Definition) -> None:
        assert self.definitions.put(definition, self.definitions.get(definition.name), from_the_beginning=True)

    def opened(self) -> Deliver:
        """What delivers by the definition of now."""
        rules = RuleBook(LarkRuleParser(TimeOrderedIds())).rules(self.definition)
        return deliver_by(self.push, self.definition, rules, self.definitions)

    def ruled(self, *rules: NamedRule) -> None:
        self.definition = replace(DEFINITION, rules=rules)
        self.put(self.definition)

    def deliver(self, *events: EventEnvelope) -> list[type]:
        return [type(outcome) for outcome in self.opened()(events, ReadModels())]


@pytest.fixture
def shop() -> Pushed:
    return Pushed()


def event(seq: int, qty: int = 1, sku: str = CHAIR) -> EventEnvelope:
    return EventEnvelope(Allocated("o1", sku, qty, "b1"), f"e{seq}", NOON, LogPosition(0, seq), seq, "c", None)


DONE = type(None)
COPIED = (NamedRule("a", action="SET x = 1"), NamedRule("b", action="SET x = 2"), NamedRule("c", action="SET x = 3"))


def test_what_is_wanted_is_pushed_and_the_rest_is_done_with(shop: Pushed) -> None:
    shop.ruled(NamedRule("large", "qty > 5"))
    assert shop.deliver(event(1), event(2, 6), event(3)) == [DONE] * 3
    assert shop.push.pushed == ["e2"]
    assert shop.deliver(event(4)) == [DONE]


def test_an_event_is_done_when_all_its_copies_are(shop: Pushed) -> None:
    shop.ruled(NamedRule("plain"), NamedRule("a", "qty > 5", action="SET x = 1"), NamedRule("b", action="SET x = 2"))
    shop.push.fails["e1:b"] = Rejected("no")
    assert shop.deliver(event(1, 6), event(2, sku=TABLE)) == [Rejected, DONE]
    assert shop.push.pushed == ["e1", "e1:a", "e2", "e2:b"]


def test_an_event_whose_rule_fails_is_parked_and_holds_its_key_alone(shop: Pushed) -> None:
    shop.ruled(NamedRule("odd", "10 / (qty - 1) > 0"))
    assert shop.deliver(event(1, 5), event(2, 1), event(3, 5), event(4, 5, TABLE)) == [
        DONE,
        RejectedForGood,
        RejectedForGood,
        DONE,
    ]
    assert shop.push.pushed == ["e1", "e4"]


def test_who_is_gone_is_stopped_and_nothing_moves(shop: Pushed) -> None:
    shop.push.fails["e1"] = Gone("it answered 410: moved away")
    assert shop.deliver(event(1), event(2)) == [Unavailable] * 2
    stopped = shop.definitions.get("hook")
    assert stopped is not None
    assert stopped.stopped == "it answered 410: moved away"
    shop.push.fails.clear()
    assert shop.deliver(event(1)) == [Unavailable]
    assert shop.push.pushed == []


@pytest.mark.parametrize("now", [None, replace(DEFINITION, batch_size=2)])
def test_nothing_goes_to_an_address_that_was_changed_or_removed(shop: Pushed, now: Definition | None) -> None:
    shop.definitions.delete("hook")
    if now is not None:
        shop.put(now)
    assert shop.deliver(event(1)) == [Unavailable]
    assert shop.push.pushed == []


def test_an_event_with_more_copies_than_a_call_has_time_for_is_done_at_last(shop: Pushed) -> None:
    shop.ruled(*COPIED)
    shop.push.most = 1
    deliver, told = shop.opened(), []
    for _ in range(3):
        told += [type(outcome) for outcome in deliver([event(1), event(2)], ReadModels())[:1]]
    assert shop.push.pushed == ["e1:a", "e1:b", "e1:c"]
    assert told == [Busy, Busy, DONE]


def test_events_of_other_lanes_and_partitions_in_between_undo_no_progress(shop: Pushed) -> None:
    """They take turns behind a receiver that takes only so much at a time."""
    shop.ruled(*COPIED)
    shop.push.most = 1
    deliver = shop.opened()
    here, lane = event(5), event(2, sku=TABLE)
    elsewhere = EventEnvelope(here.event, "f1", NOON, LogPosition(1, 1), 1, "c", None)
    for _ in range(3):
        for page in ([here, event(6, sku=TABLE)], [lane], [elsewhere]):
            deliver(page, ReadModels())
    assert shop.push.pushed == [f"{id_}:{rule}" for rule in "abc" for id_ in ("e5", "e2", "f1")]


@pytest.mark.parametrize("sku", [CHAIR, TABLE])
def test_who_goes_back_gets_all_copies_again(shop: Pushed, sku: str) -> None:
    shop.ruled(*COPIED)
    shop.push.most = 1
    deliver = shop.opened()
    deliver([event(5)], ReadModels())
    shop.push.most = None
    deliver([event(3, sku=sku), event(4)], ReadModels())
    shop.push.pushed.clear()
    deliver([event(5)], ReadModels())
    deliver([event(5)], ReadModels())
    assert shop.push.pushed == ["e5:a", "e5:b", "e5:c"] * 2


def test_copies_that_were_acknowledged_come_again_with_one_that_was_refused(shop: Pushed) -> None:
    shop.ruled(*COPIED)
    shop.push.most = 1
    deliver = shop.opened()
    deliver([event(1)], ReadModels())
    shop.push.most, shop.push.fails["e1:c"] = None, Rejected("no")
    assert type(deliver([event(1)], ReadModels())[0]) is Rejected
    shop.push.fails.clear()
    deliver([event(1)], ReadModels())
    assert shop.push.pushed == ["e1:a", "e1:b", "e1:a", "e1:b", "e1:c"]
