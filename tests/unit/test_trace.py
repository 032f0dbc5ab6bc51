"""What followed from one request: the tree, and how far every subscription has come with it."""

from datetime import datetime, timedelta

import pytest

from allocation.adapters.memory import MemoryStore, MemoryUnitOfWork
from allocation.adapters.memory_history import MemoryHistory
from allocation.adapters.memory_subscriptions import MemorySubscriptionStore
from allocation.domain.commands import Allocate, ChangeBatchQuantity, Command, CreateBatch
from allocation.domain.events import Allocated, OutOfStock
from allocation.service_layer.handlers import COMMAND_HANDLERS
from allocation.service_layer.history.trace import MOST_EVENTS, Outcome, Trace, TracedCommand, Wants, trace
from allocation.service_layer.messagebus import MessageBus
from allocation.service_layer.subscriptions import Lane, Settlement
from tests.fakes import NOON, CountingIds, SetClock

CHAIR = "RED-CHAIR"
WANTS: Wants = {"mail": frozenset({OutOfStock}), "tell": frozenset({Allocated})}


class Shop:
    def __init__(self) -> None:
        ids, self.clock = CountingIds(), SetClock()
        clock = self.clock
        store = self.store = MemoryStore(ids, clock)
        self.bus = MessageBus(lambda: MemoryUnitOfWork(store), COMMAND_HANDLERS, ids, clock)
        self.history = MemoryHistory(store)
        self.subscriptions = MemorySubscriptionStore(store)

    def ask(self, command: Command, **context: object) -> str:
        """Answers the id of the command."""
        envelope = self.bus.envelope(command, **context)
        self.bus.ask(envelope).unwrap()
        return envelope.id

    def trace(self, correlation_id: str, limit: int = 99) -> list[TracedCommand]:
        return list(self.whole(correlation_id, limit).commands)

    def whole(self, correlation_id: str, limit: int = 99) -> Trace:
        return trace(self.history, self.subscriptions, WANTS, correlation_id, self.clock.now(), limit)

    def settle(self, name: str, settlement: Settlement) -> None:
        lease = self.subscriptions.lease(name, 0, "worker", 60)
        assert lease is not None
        settlement.seen = {lane.key: lane for lane in self.subscriptions.lanes(name)}
        self.subscriptions.settle(lease, settlement, 60)


@pytest.fixture
def shop() -> Shop:
    return Shop()


def told(traced: TracedCommand) -> object:
    """Types of messages, as nested as they are."""
    events = [(type(e.logged.event).__name__, [told(c) for c in e.commands]) for e in traced.events]
    return type(traced.handled.envelope.command).__name__, events, [told(c) for c in traced.commands]


def test_commands_hang_below_what_they_name_as_their_cause(shop: Shop) -> None:
    root = shop.ask(CreateBatch("b1", CHAIR, 5), correlation_id="request-1")
    [event] = shop.subscriptions.read(0, 0, 9)
    shop.ask(Allocate("o1", CHAIR, 9), correlation_id="request-1", causation_id=event.id)
    shop.ask(ChangeBatchQuantity("b1", 9), correlation_id="request-1", causation_id=root)
    shop.ask(Allocate("o2", CHAIR, 1), correlation_id="request-1", causation_id="of somewhere else")
    shop.ask(CreateBatch("b2", CHAIR, 5), correlation_id="request-2")
    first, second = shop.trace("request-1")
    assert told(first) == (
        "CreateBatch",
        [("BatchCreated", [("Allocate", [("Backordered", []), ("OutOfStock", [])], [])])],
        [("ChangeBatchQuantity", [("BatchQuantityChanged", []), ("Allocated", [])], [])],
    )
    assert told(second) == ("Allocate", [("Backordered", []), ("OutOfStock", [])], [])
    assert len(shop.trace("request-1", limit=1)) == 1
    assert shop.trace("request-9") == []


def test_a_command_of_many_events_has_all_of_them_and_none_of_its_neighbours(shop: Shop) -> None:
    shop.ask(CreateBatch("b1", CHAIR, 700))
    for n in range(700):
        shop.ask(Allocate(f"o{n}", CHAIR, 1))
    shop.ask(ChangeBatchQuantity("b1", 0), correlation_id="fire")
    shop.ask(Allocate("after", CHAIR, 1))
    [traced] = shop.trace("fire")
    assert [e.logged.position.seq for e in traced.events] == list(range(702, 702 + 2 * 700 + 1))
    assert traced.events_left_out == 0


@pytest.mark.parametrize("neighbours", [0, 1])
def test_of_too_many_events_the_first_are_told_and_the_others_counted(shop: Shop, neighbours: int) -> None:
    """One command that serves thousands of lines; it may stand at the very beginning of the log, or not."""
    for n in range(neighbours):
        shop.ask(CreateBatch(f"t{n}", "TABLE", 1), correlation_id="fire")
    shop.ask(CreateBatch("b1", CHAIR, 1500))
    for n in range(1500):
        shop.ask(Allocate(f"o{n}", CHAIR, 1))
    first = 1502 + neighbours
    shop.ask(ChangeBatchQuantity("b1", 0), correlation_id="fire")  # a quantity, then two events a line
    shop.ask(Allocate("after", CHAIR, 1), correlation_id="fire")
    *others, traced, last = shop.trace("fire")
    told = MOST_EVENTS // (2 + neighbours)
    assert [e.logged.position.seq for e in traced.events] == list(range(first, first + told))
    assert traced.events_left_out == 3001 - told
    assert [(len(x.events), x.events_left_out) for x in [*others, last]] == [(1, 0)] * neighbours + [(2, 0)]


def test_commands_that_cause_themselves_or_each_other_are_told(shop: Shop) -> None:
    """Ids and causes are the senders' own."""
    chosen = {"correlation_id": "c1", "source": "POST /v1/event-grid"}

    def ask(command: Command, message_id: str, causation_id: str) -> None:
        shop.bus.ask(shop.bus.envelope(command, message_id, causation_id=causation_id, **chosen)).unwrap()

    ask(CreateBatch("b1", CHAIR, 5), "self", "self")
    ask(CreateBatch("b2", CHAIR, 5), "hen", "egg")
    ask(CreateBatch("b3", CHAIR, 5), "egg", "hen")
    ask(CreateBatch("b4", CHAIR, 5), "chick", "egg")
    own, hen = shop.trace("c1")
    assert told(own) == ("CreateBatch", [("BatchCreated", [])], [])
    leaf = ("CreateBatch", [("BatchCreated", [])], [])
    assert told(hen) == ("CreateBatch", [("BatchCreated", [])], [("CreateBatch", [("BatchCreated", [])], [leaf])])


def test_a_trace_tells_that_there_are_more_commands(shop: Shop) -> None:
    for n in range(3):
        shop.ask(CreateBatch(f"b{n}", CHAIR, 5), correlation_id="request-1")
    assert [shop.whole("request-1", limit).more for limit in (2, 3, 4)] == [True, False, False]


def test_every_subscription_tells_how_far_it_has_come(shop: Shop) -> None:
    for name in ("mail", "tell", "elsewhere:broker"):
        shop.subscriptions.join(name, from_the_beginning=True)
    shop.ask(CreateBatch("b1", CHAIR, 5))  # 1
    shop.ask(Allocate("o1", CHAIR, 9), correlation_id="request-1")  # 2, 3
    [traced] = shop.trace("request-1")

    def outcomes(which: int) -> dict[str, tuple[Outcome, str]]:
        [traced] = shop.trace("request-1")
        return {d.subscription: (d.outcome, d.because) for d in traced.events[which].deliveries}

    assert set(outcomes(0)) == {"elsewhere:broker"}, "mail and tell do not want it; nobody knows what the third wants"
    assert outcomes(1)["mail"] == (Outcome.WAITS, "it has reached 0-0")
    shop.settle("mail", Settlement(3))
    assert outcomes(1) == {
        "mail": (Outcome.PASSED, ""),
        "elsewhere:broker": (Outcome.WAITS, "it has reached 0-0"),
    }
    due = NOON + timedelta(minutes=1)
    lane = Lane("mail", CHAIR, 0, 3, 2, due, "no such user")
    shop.settle("mail", Settlement(3, lanes={CHAIR: lane}))
    assert outcomes(1)["mail"] == (Outcome.RETRYING, "no such user")
    [traced] = shop.trace("request-1")
    assert next(d.due_at for d in traced.events[1].deliveries if d.subscription == "mail") == due
    shop.settle("mail", Settlement(3, lanes={CHAIR: Lane("mail", CHAIR, 0, 3, 9, None, "no such user")}))
    assert outcomes(1)["mail"] == (Outcome.PARKED, "no such user")
    shop.settle("mail", Settlement(3, lanes={CHAIR: Lane("mail", CHAIR, 0, 2, 9, None, "no such user")}))
    assert outcomes(1)["mail"] == (Outcome.WAITS, "behind 0-2: no such user")
    shop.settle("mail", Settlement(3, closed={CHAIR}, discarded=[(lane, 3, "anna", "told by telephone")]))
    assert outcomes(1)["mail"] == (Outcome.DISCARDED, "by anna: told by telephone")


class DiscardedMeanwhile(MemorySubscriptionStore):
    """Somebody has an event discarded while a trace is read."""

    def lanes(self, name: str | None = None, partition: int | None = None) -> list[Lane]:
        for lane in super().lanes("mail") if name is None else ():
            held = self.lease("mail", 0, "worker", 60)
            assert held is not None
            self.settle(held, Settlement(3, closed={CHAIR}, discarded=[(lane, 3, "anna", "told by telephone")]), 60)
        return super().lanes(name, partition)


def test_what_is_discarded_while_it_is_traced_is_not_said_to_be_passed(shop: Shop) -> None:
    shop.subscriptions = DiscardedMeanwhile(shop.store)
    shop.subscriptions.join("mail", from_the_beginning=True)
    shop.ask(CreateBatch("b1", CHAIR, 5))  # 1
    shop.ask(Allocate("o1", CHAIR, 9), correlation_id="request-1")  # 2: waits, 3: out of stock
    shop.settle("mail", Settlement(3, lanes={CHAIR: Lane("mail", CHAIR, 0, 3, 9, None, "no such user")}))
    [traced] = shop.trace("request-1")
    assert [d.outcome for d in traced.events[1].deliveries] == [Outcome.DISCARDED]


def test_what_was_discarded_waits_again_once_its_subscription_begins_anew(shop: Shop) -> None:
    shop.subscriptions.join("mail", from_the_beginning=True)
    shop.ask(CreateBatch("b1", CHAIR, 5))  # 1
    shop.ask(Allocate("o1", CHAIR, 9), correlation_id="request-1")  # 2: waits, 3: out of stock
    lane = Lane("mail", CHAIR, 0, 3, 9, None, "no such user")
    shop.settle("mail", Settlement(3, closed={CHAIR}, discarded=[(lane, 3, "anna", "told by telephone")]))
    shop.subscriptions.rewind("mail", [])
    [traced] = shop.trace("request-1")
    assert [(d.outcome, d.because) for d in traced.events[1].deliveries] == [(Outcome.WAITS, "it has reached 0-0")]


def test_what_a_puller_has_in_hand_is_told_as_that(shop: Shop) -> None:
    shop.subscriptions.join("mine", from_the_beginning=True)
    shop.ask(CreateBatch("b1", CHAIR, 5), correlation_id="request-1")  # 1
    shop.ask(ChangeBatchQuantity("b1", 6), correlation_id="request-1")  # 2
    until = NOON + timedelta(seconds=30)

    def outcomes() -> list[tuple[Outcome, str, datetime | None]]:
        return [
            (d.outcome, d.because, d.due_at) for c in shop.trace("request-1") for e in c.events for d in e.deliveries
        ]

    locked = Lane("mine", CHAIR, 0, 1, 0, NOON, "", None, "token", until)
    shop.settle("mine", Settlement(2, lanes={CHAIR: locked}))
    shop.clock.step(10)
    assert outcomes() == [(Outcome.IN_HAND, "", until), (Outcome.WAITS, "behind 0-1", until)]
    shop.clock.step(20)
    assert outcomes() == [(Outcome.WAITS, "", NOON), (Outcome.WAITS, "behind 0-1", NOON)], "the lock has run out"
    shop.settle("mine", Settlement(2, lanes={CHAIR: Lane("mine", CHAIR, 0, 1, 0, NOON, "")}))
    assert outcomes()[0] == (Outcome.WAITS, "", NOON), "it was never tried"
    shop.settle("mine", Settlement(2, lanes={CHAIR: Lane("mine", CHAIR, 0, 1, 1, NOON, "the lock ran out")}))
    assert outcomes()[0] == (Outcome.RETRYING, "the lock ran out", NOON)
