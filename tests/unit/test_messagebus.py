"""The bus: commands in, answers out, one transaction a group, and nobody told wrongly."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest

from allocation.domain.commands import Allocate, CreateBatch, Deallocate, IfShort
from allocation.domain.errors import InvalidSku, NotEnoughStock, UnknownOrderLine
from allocation.domain.events import Allocated, Backordered, BatchCreated
from allocation.service_layer.answers import BatchState, Promise
from allocation.service_layer.envelope import CommandEnvelope, LogPosition
from allocation.service_layer.errors import OutcomeUnknown, Rejected, Unavailable
from allocation.service_layer.handlers import COMMAND_HANDLERS, allocate
from allocation.service_layer.messagebus import MessageBus
from allocation.service_layer.observing import Meter, Telemetry
from allocation.service_layer.read_models import ReadModels
from allocation.service_layer.subscriptions import Deliver
from allocation.service_layer.unit_of_work import UnitOfWork
from tests.fakes import CountingIds, Diary, SetClock
from tests.unit.buses import CHAIRS, group, logged, make_bus, placed

# One command


def test_a_commands_result_comes_back_to_its_caller(bus: MessageBus) -> None:
    assert bus.handle(CHAIRS) == BatchState("b1", "RED-CHAIR", 10, 10, None, version=1)
    assert bus.handle(Allocate("o1", "RED-CHAIR", 4)) == Promise("o1", "RED-CHAIR", 4, "allocated", "b1", None)
    assert bus.handle(Deallocate("o1", "RED-CHAIR")) is None


def test_a_refusal_is_raised_to_its_caller(bus: MessageBus) -> None:
    with pytest.raises(InvalidSku, match="Invalid sku RED-CHAIR"):
        bus.handle(Allocate("o1", "RED-CHAIR", 4))


def test_an_answer_tells_whether_something_changed_and_where_the_log_stands(bus: MessageBus) -> None:
    bus.handle(CHAIRS)
    first = bus.ask(bus.envelope(Allocate("o1", "RED-CHAIR", 11)))
    again = bus.ask(bus.envelope(Allocate("o1", "RED-CHAIR", 11)))
    assert (first.changed, first.position) == (True, LogPosition(0, 3))  # Backordered and OutOfStock
    assert (again.changed, again.position, again.result) == (False, None, first.result)


def test_events_tell_which_command_led_to_them(bus: MessageBus, diary: Diary) -> None:
    bus.ask(bus.envelope(CHAIRS, "my-id", correlation_id="request-1", traceparent="00-ab-cd-01"))
    [event] = diary.store.log[0]
    assert (event.causation_id, event.correlation_id, event.traceparent) == ("my-id", "request-1", "00-ab-cd-01")


def test_a_command_that_changes_nothing_is_not_committed(bus: MessageBus, diary: Diary) -> None:
    bus.handle(CHAIRS)
    bus.handle(CHAIRS)
    group(bus, Allocate("o1", "BLUE-CHAIR", 1))
    assert len(diary.committed) == 1


def test_a_command_nobody_handles_fails_for_its_caller_alone(bus: MessageBus) -> None:
    class Repaint:
        sku = "RED-CHAIR"

    unknown: Any = Repaint()
    strange, usual = group(bus, unknown, CHAIRS)
    assert isinstance(strange.error, KeyError)
    assert usual.changed


# Groups


def test_a_group_is_one_transaction_in_the_order_it_came(bus: MessageBus, diary: Diary) -> None:
    answers = group(bus, CHAIRS, Allocate("o1", "RED-CHAIR", 10), Allocate("o2", "RED-CHAIR", 1))
    assert [type(x) for x in logged(diary)[:3]] == [BatchCreated, Allocated, Backordered]
    assert [answer.position for answer in answers] == [LogPosition(0, 1), LogPosition(0, 2), LogPosition(0, 4)]
    assert (len(diary.begun), len(diary.committed)) == (1, 1)


def test_a_group_of_none_has_no_answers(bus: MessageBus, diary: Diary) -> None:
    assert bus.handle_many([]) == []
    assert diary.committed == []


def test_one_refusal_leaves_the_others_of_its_group_alone(bus: MessageBus, diary: Diary) -> None:
    created, refused, placed = group(
        bus, CHAIRS, Allocate("o1", "RED-CHAIR", 11, IfShort.REFUSE), Allocate("o2", "RED-CHAIR", 10)
    )
    assert isinstance(refused.error, NotEnoughStock)
    assert (created.changed, refused.changed, placed.changed) == (True, False, True)
    assert len(diary.begun) == 1


def recording_then(failure: Exception) -> Callable[[Allocate, UnitOfWork], Promise]:
    """A handler that allocates, and for the order `poison` fails after it."""

    def handler(cmd: Allocate, uow: UnitOfWork) -> Promise:
        promise = allocate(cmd, uow)
        if cmd.orderid == "poison":
            raise failure
        return promise

    return handler


@pytest.mark.parametrize("failure", [UnknownOrderLine("poison", "RED-CHAIR"), ZeroDivisionError("a defect")])
@pytest.mark.parametrize("position", [0, 1, 2])
def test_who_failed_after_recording_has_no_effect_and_the_others_are_answered(
    failure: Exception, position: int, diary: Diary
) -> None:
    bus = make_bus(diary, Allocate=recording_then(failure))
    bus.handle(CHAIRS)
    orders = ["o1", "o2"]
    orders.insert(position, "poison")
    answers = group(bus, *(Allocate(orderid, "RED-CHAIR", 3) for orderid in orders))
    assert [answer.error for answer in answers] == [failure if x == "poison" else None for x in orders]
    assert [placed(diary, x) for x in ("o1", "o2", "poison")] == ["b1", "b1", None]
    assert logged(diary)[1:] == [Allocated("o1", "RED-CHAIR", 3, "b1"), Allocated("o2", "RED-CHAIR", 3, "b1")]
    assert [event.version for event in diary.store.log[0]] == [1, 2, 3]


def test_who_failed_after_recording_is_told_when_alone_too(diary: Diary) -> None:
    bus = make_bus(diary, Allocate=recording_then(ZeroDivisionError("a defect")))
    bus.handle(CHAIRS)
    with pytest.raises(ZeroDivisionError, match="a defect"):
        bus.handle(Allocate("poison", "RED-CHAIR", 3))
    assert len(logged(diary)) == 1
    assert bus.handle(Allocate("o1", "RED-CHAIR", 10)).batchref == "b1"


def test_a_failure_is_not_kept_under_the_senders_id(diary: Diary) -> None:
    failing = [ZeroDivisionError("a defect")]

    def handler(cmd: Allocate, uow: UnitOfWork) -> Promise:
        if failing:
            raise failing.pop()
        return allocate(cmd, uow)

    bus = make_bus(diary, Allocate=handler)
    bus.handle(CHAIRS)
    first, second = (bus.ask(bus.envelope(Allocate("o1", "RED-CHAIR", 3), "id-1")) for _ in range(2))
    assert isinstance(first.error, ZeroDivisionError)
    assert (second.error, second.changed, second.repeated) == (None, True, False)


def test_one_by_one_nothing_overtakes_a_command_for_which_nothing_could_be_done(bus: MessageBus, diary: Diary) -> None:
    bus.handle(CHAIRS)
    diary.commit_fails.extend([ValueError("not as one"), OutcomeUnknown("the database is away")])
    answers = group(bus, *(Allocate(f"o{n}", "RED-CHAIR", 3) for n in range(3)))
    assert isinstance(answers[0].error, OutcomeUnknown)
    for answer in answers[1:]:
        assert type(answer.error) is Unavailable, "which promises that nothing was done"
        assert str(answer.error) == "Not done, because a command before it could not be done: the database is away"
    assert len(logged(diary)) == 1
    assert [answer.error for answer in group(bus, *(Allocate(f"o{n}", "RED-CHAIR", 3) for n in range(3)))] == [None] * 3


@pytest.mark.parametrize("where", ["begin_fails", "commit_fails"])
def test_a_group_that_cannot_be_read_or_written_is_redone_one_by_one(where: str, bus: MessageBus, diary: Diary) -> None:
    bus.handle(CHAIRS)
    getattr(diary, where).extend([ValueError("not as one"), ValueError("nor the first")])
    answers = group(bus, *(Allocate(f"o{n}", "RED-CHAIR", 3) for n in range(3)))
    assert [str(answer.error or "") for answer in answers] == ["nor the first", "", ""]
    assert [placed(diary, f"o{n}") for n in range(3)] == [None, "b1", "b1"]
    assert [len(begun) for begun in diary.begun[1:]] == [3, 1, 1, 1]


def test_an_interrupt_is_nobodys_answer_and_leaves_nothing(bus: MessageBus, diary: Diary) -> None:
    diary.commit_fails.append(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        bus.handle(CHAIRS)
    assert (logged(diary), diary.store.products) == ([], {})
    assert bus.handle(CHAIRS).version == 1


# Threads


def test_threads_share_one_bus_and_each_gets_its_own_answer(bus: MessageBus, diary: Diary) -> None:
    bus.handle(CreateBatch("b1", "RED-CHAIR", 10_560))
    barrier = Barrier(32, timeout=30)

    def client(name: int) -> list[Promise]:
        barrier.wait()
        return [bus.handle(Allocate(f"client-{name}-order-{n}", "RED-CHAIR", name + 1)) for n in range(20)]

    with ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(client, range(32)))
    for name, promises in enumerate(answers):
        assert [x.orderid for x in promises] == [f"client-{name}-order-{n}" for n in range(20)]
        assert {(x.qty, x.batchref) for x in promises} == {(name + 1, "b1")}
    assert [event.position.seq for event in diary.store.log[0]] == list(range(1, 642))
    assert [event.version for event in diary.store.log[0]] == list(range(1, 642))
    assert diary.store.lock.acquire(blocking=False)


def test_the_bus_keeps_nothing_between_messages() -> None:
    class Weighty:
        """A result that can be watched."""

    diary = Diary()
    bus = make_bus(diary, Allocate=lambda cmd, uow: Weighty())
    watched = [weakref.ref(bus.handle(Allocate(f"o{n}", "RED-CHAIR", 1))) for n in range(3)]
    diary.begun.clear()
    gc.collect()
    assert [watch() for watch in watched] == [None, None, None]


def test_a_refusal_that_is_given_again_and_again_does_not_grow(bus: MessageBus) -> None:
    def depth_of_refusal() -> int:
        with pytest.raises(InvalidSku) as refusal:
            bus.ask(bus.envelope(Allocate("o1", "RED-CHAIR", 4), "id-1")).unwrap()
        return len(refusal.traceback)

    assert [depth_of_refusal() for _ in range(3)] == [2, 2, 2]


# Envelopes


def test_the_bus_mints_an_id_where_the_sender_brought_none(bus: MessageBus) -> None:
    envelope = bus.envelope(CHAIRS)
    assert (envelope.id, envelope.correlation_id, envelope.brought_id) == ("0" * 31 + "1", "0" * 31 + "1", False)
    assert envelope.time == SetClock().now()


def test_the_bus_keeps_the_id_and_context_that_the_sender_brought(bus: MessageBus) -> None:
    envelope = bus.envelope(CHAIRS, "id-1", source="queue", client="shop", correlation_id="c", causation_id="d")
    assert isinstance(envelope, CommandEnvelope)
    assert (envelope.key, envelope.brought_id, envelope.client) == (("queue", "id-1"), True, "shop")
    assert (envelope.correlation_id, envelope.causation_id) == ("c", "d")


# Reactions


class Names(Meter):
    def __init__(self) -> None:
        self.delivered_to: list[str] = []

    def delivered(self, subscription: str, outcomes: Sequence[Exception | None]) -> None:
        self.delivered_to += [subscription] * len(outcomes)


def test_what_users_define_is_counted_under_one_name_and_leaves_nothing_behind(diary: Diary) -> None:
    """Its names are their choice, and there is no end to them."""
    names = Names()
    reactions: dict[str, Deliver] = {"mail": lambda events, _: [None] * len(events)}
    bus = MessageBus(
        diary, COMMAND_HANDLERS, CountingIds(), SetClock(), reactions=reactions, telemetry=Telemetry(names)
    )
    bus.handle(CHAIRS)
    bus.react("mail", diary.store.log[0], ReadModels())
    for n in range(3):
        refusal = Rejected(f"no, says {n}")
        told = bus.through(f"random-{n}", lambda events, _, refusal=refusal: [refusal] * len(events))
        assert told(diary.store.log[0], ReadModels()) == [refusal]
    assert names.delivered_to == ["mail", *["user-defined"] * 3]
    with pytest.raises(KeyError):
        bus.react("random-0", diary.store.log[0], ReadModels())
