"""The bus when a message comes again, and when a transaction is lost: done once, or told."""

from __future__ import annotations

import pytest

from allocation.domain.commands import Allocate, CreateBatch, Deallocate, IfShort
from allocation.domain.errors import NotEnoughStock
from allocation.service_layer.answers import Promise
from allocation.service_layer.errors import (
    Conflict,
    ConnectionLost,
    IdReused,
    OutcomeUnknown,
    Overloaded,
    ServiceError,
    Unavailable,
)
from allocation.service_layer.handlers import allocate
from allocation.service_layer.messagebus import MessageBus
from allocation.service_layer.unit_of_work import UnitOfWork
from tests.fakes import Diary
from tests.unit.buses import CHAIRS, group, logged, make_bus, placed

# Ids that senders bring


def test_the_same_message_again_gets_the_same_answer_and_is_not_done_again(bus: MessageBus, diary: Diary) -> None:
    bus.handle(CHAIRS)
    first = bus.ask(bus.envelope(Allocate("o1", "RED-CHAIR", 4), "id-1"))
    bus.handle(Deallocate("o1", "RED-CHAIR"))
    again = bus.ask(bus.envelope(Allocate("o1", "RED-CHAIR", 4), "id-1"))
    assert (again.result, again.position, again.changed) == (first.result, first.position, True)
    assert (first.repeated, again.repeated) == (False, True)
    assert placed(diary, "o1") is None


def test_a_refusal_stays_a_refusal_under_its_id(bus: MessageBus) -> None:
    bus.handle(CHAIRS)
    wanted = Allocate("o1", "RED-CHAIR", 11, IfShort.REFUSE)
    first = bus.ask(bus.envelope(wanted, "id-1"))
    bus.handle(CreateBatch("b2", "RED-CHAIR", 50))
    again = bus.ask(bus.envelope(wanted, "id-1"))
    assert again.error == first.error == NotEnoughStock("RED-CHAIR", 11, first.error.available)  # type: ignore[union-attr]  # it is one
    assert again.repeated
    assert bus.ask(bus.envelope(wanted, "id-2")).error is None


def test_an_id_stands_for_one_request_only(bus: MessageBus) -> None:
    bus.ask(bus.envelope(CHAIRS, "id-1"))
    other = bus.ask(bus.envelope(CreateBatch("b2", "RED-CHAIR", 10), "id-1"))
    with pytest.raises(IdReused, match="The id id-1 was already used"):
        other.unwrap()


def test_the_same_id_from_another_source_is_another_id(bus: MessageBus) -> None:
    bus.ask(bus.envelope(CHAIRS, "id-1", source="import"))
    other = bus.ask(bus.envelope(CreateBatch("b2", "RED-CHAIR", 10), "id-1", source="queue"))
    assert other.changed


def test_duplicates_inside_a_group_are_done_once(bus: MessageBus, diary: Diary) -> None:
    bus.handle(CHAIRS)
    wanted, other = Allocate("o1", "RED-CHAIR", 4), Allocate("o2", "RED-CHAIR", 4)
    first, twin, misuse, third = bus.handle_many(
        [bus.envelope(wanted, "a"), bus.envelope(wanted, "a"), bus.envelope(other, "a"), bus.envelope(other, "b")]
    )
    assert (twin.result, twin.position, twin.repeated) == (first.result, first.position, True)
    assert isinstance(misuse.error, IdReused)
    assert third.changed
    assert len(logged(diary)) == 3


def test_one_and_the_same_envelope_twice_in_a_group_is_done_once(bus: MessageBus, diary: Diary) -> None:
    envelope = bus.envelope(CHAIRS, "a")
    first, second = bus.handle_many([envelope, envelope])
    assert first.result == second.result
    assert len(logged(diary)) == 1


def test_a_duplicate_of_a_refusal_inside_a_group_is_refused_alike(bus: MessageBus) -> None:
    bus.handle(CHAIRS)
    wanted = Allocate("o1", "RED-CHAIR", 11, IfShort.REFUSE)
    first, second = bus.handle_many([bus.envelope(wanted, "a"), bus.envelope(wanted, "a")])
    assert first.error == second.error
    assert second.repeated


def test_messages_without_ids_of_their_own_are_all_new(bus: MessageBus, diary: Diary) -> None:
    first, second = group(bus, CHAIRS, CHAIRS)
    assert (first.changed, second.changed, second.repeated) == (True, False, False)
    assert len(diary.store.inbox) == 1


# Retries


@pytest.mark.parametrize("where", ["begin_fails", "commit_fails"])
@pytest.mark.parametrize("lost", [Conflict("someone was faster"), ConnectionLost("gone")])
def test_a_lost_transaction_is_tried_again_whole(lost: Exception, where: str, bus: MessageBus, diary: Diary) -> None:
    getattr(diary, where).extend([lost, lost])
    answers = group(bus, CHAIRS, Allocate("o1", "RED-CHAIR", 4))
    assert [answer.error for answer in answers] == [None, None]
    assert [len(begun) for begun in diary.begun] == [2, 2, 2]
    assert [event.version for event in diary.store.log[0]] == [1, 2]


def test_retries_end_and_everybody_is_told(diary: Diary) -> None:
    bus = make_bus(diary, attempts=4)
    diary.commit_fails.extend([Conflict("someone was faster")] * 100)
    with pytest.raises(Conflict):
        group(bus, CHAIRS, Allocate("o1", "RED-CHAIR", 4))
    assert len(diary.begun) == 4
    assert logged(diary) == []


@pytest.mark.parametrize("failure", [OutcomeUnknown("?"), Overloaded("busy"), Unavailable("gone")])
def test_what_another_try_would_not_mend_is_told_at_once(failure: Exception, bus: MessageBus, diary: Diary) -> None:
    diary.commit_fails.append(failure)
    with pytest.raises(type(failure)):
        bus.handle(CHAIRS)
    assert len(diary.begun) == 1


def test_a_store_that_goes_away_while_a_group_is_redone_fails_only_those_still_open(diary: Diary) -> None:
    failures = [Unavailable("gone"), ValueError("not as one")]

    def handler(cmd: Allocate, uow: UnitOfWork) -> Promise:
        if cmd.orderid == "o2" and failures:
            raise failures.pop()
        return allocate(cmd, uow)

    bus = make_bus(diary, attempts=1, Allocate=handler)
    bus.handle(CHAIRS)
    first, second, third = group(bus, *(Allocate(f"o{n}", "RED-CHAIR", 3) for n in (1, 2, 3)))
    assert first.changed
    assert isinstance(second.error, Unavailable)
    assert isinstance(third.error, Unavailable), "it would overtake the second"


def test_every_way_of_not_answering_now_is_unavailable_and_of_the_service() -> None:
    for kind in (Conflict, ConnectionLost, OutcomeUnknown, Overloaded):
        assert issubclass(kind, Unavailable)
    assert issubclass(Unavailable, ServiceError)
    assert issubclass(IdReused, ServiceError)
    assert not issubclass(IdReused, Unavailable)
