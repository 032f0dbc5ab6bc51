"""The contract of the inbox: an id gets its answer for good, and is refused for anything else."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allocation.domain.commands import (
    Allocate,
    ChangeBatch,
    ChangeBatchEta,
    ChangeBatchQuantity,
    Command,
    CreateBatch,
    Deallocate,
    IfShort,
)
from allocation.domain.errors import MAX_QUANTITY, InvalidReference
from allocation.service_layer.errors import IdReused
from tests.contracts.harness import Opened, SharedStore, Store
from tests.thoroughness import examples

SPRING, SUMMER = date(2031, 3, 21), date(2031, 6, 21)
SHOP: list[Command] = [
    CreateBatch("b1", "RED-CHAIR", 10, SPRING),
    CreateBatch("b2", "RED-CHAIR", 3),
    CreateBatch("b3", "BLUE-CHAIR", 5),
    Allocate("o1", "RED-CHAIR", 2),
]

DONE: dict[str, Command] = {
    "a batch": CreateBatch("b9", "RED-CHAIR", MAX_QUANTITY, SUMMER),
    "a batch that is there": CreateBatch("b2", "RED-CHAIR", 3),
    "allocated on hand": Allocate("o9", "RED-CHAIR", 1),
    "allocated with a date": Allocate("o9", "RED-CHAIR", 10),
    "a line that is there": Allocate("o1", "RED-CHAIR", 2),
    "waiting": Allocate("o9", "RED-CHAIR", 11),
    "let go": Deallocate("o1", "RED-CHAIR"),
    "another quantity": ChangeBatchQuantity("b1", 5),
    "another date": ChangeBatchEta("b1", SUMMER),
    "arrived": ChangeBatchEta("b1", None, if_version=3),
    "both": ChangeBatch("b1", 5, SUMMER, if_version=3),
}

REFUSED: dict[str, Command] = {
    "InvalidSku": Allocate("o9", "GREEN-CHAIR", 1),
    "InvalidQuantity": Allocate("o9", "RED-CHAIR", -1000),
    "InvalidReference": Allocate("o 9", "RED-CHAIR", 1),
    "UnknownBatch": ChangeBatchQuantity("b9", 1),
    "UnknownOrderLine": Deallocate("o9", "RED-CHAIR"),
    "BatchExists": CreateBatch("b1", "BLUE-CHAIR", 10, SPRING),
    "OrderLineExists": Allocate("o1", "RED-CHAIR", 3),
    "NotEnoughStock": Allocate("o9", "RED-CHAIR", 11, IfShort.REFUSE),
    "StaleVersion": ChangeBatch("b1", 5, SUMMER, if_version=1),
}

AFTERWARDS: list[Command] = [
    CreateBatch("b10", "RED-CHAIR", 500),
    CreateBatch("b11", "GREEN-CHAIR", 500),
    ChangeBatch("b2", 0, SUMMER),
    Allocate("o8", "RED-CHAIR", 400),
]

NO_IDS = ["", " ", "\x00", "\x1e", "\x1f", "\n", "é", "x" * 256]


class InboxContract:
    @pytest.mark.parametrize("what", DONE)
    def test_an_answer_is_given_again_whatever_happened_since(self, store: Store, what: str) -> None:
        opened = store.open()
        opened.group(*SHOP)
        first = opened.ask(DONE[what], "id-1")
        assert first.error is None
        opened.group(*AFTERWARDS)
        length = len(opened.log())
        again = store.open().ask(DONE[what], "id-1")
        assert (again.result, again.error, again.changed, again.position) == (
            first.result,
            None,
            first.changed,
            first.position,
        )
        assert (first.repeated, again.repeated) == (False, True)
        assert len(opened.log()) == length

    @pytest.mark.parametrize("kind", REFUSED)
    def test_a_refusal_is_given_again_whatever_happened_since(self, store: Store, kind: str) -> None:
        opened = store.open()
        opened.group(*SHOP)
        first = opened.ask(REFUSED[kind], "id-1")
        assert type(first.error).__name__ == kind
        opened.group(*AFTERWARDS)
        length = len(opened.log())
        again = store.open().ask(REFUSED[kind], "id-1")
        assert again.error == first.error
        assert (again.result, again.changed, again.position, again.repeated) == (None, False, None, True)
        assert len(opened.log()) == length

    @pytest.mark.parametrize("kept", [*DONE.values(), *REFUSED.values()], ids=[*DONE, *REFUSED])
    def test_another_command_under_the_id_is_refused(self, opened: Opened, kept: Command) -> None:
        opened.group(*SHOP)
        opened.ask(kept, "id-1")
        length = len(opened.log())
        other = opened.ask(CreateBatch("b7", "RED-CHAIR", 7), "id-1")
        assert isinstance(other.error, IdReused)
        assert (other.result, other.changed) == (None, False)
        assert len(opened.log()) == length

    def test_almost_the_same_command_is_another(self, opened: Opened) -> None:
        opened.group(*SHOP)
        opened.ask(Allocate("o9", "RED-CHAIR", 1, IfShort.REFUSE), "id-1")
        assert isinstance(opened.ask(Allocate("o9", "RED-CHAIR", 1, IfShort.WAIT), "id-1").error, IdReused)
        assert opened.ask(Allocate("o9", "RED-CHAIR", 1, IfShort.REFUSE), "id-1").repeated

    def test_the_same_id_from_another_source_is_another_id(self, opened: Opened) -> None:
        assert opened.ask(CreateBatch("b1", "RED-CHAIR", 10), "id-1", source="import").changed
        assert opened.ask(CreateBatch("b2", "RED-CHAIR", 10), "id-1", source="queue").changed
        assert opened.ask(CreateBatch("b1", "RED-CHAIR", 10), "id-1", source="import").repeated

    def test_a_group_gets_old_answers_and_new_ones_side_by_side(self, opened: Opened) -> None:
        opened.group(*SHOP)
        bus, old = opened.bus, Allocate("o9", "RED-CHAIR", 1)
        first = opened.ask(old, "id-1")
        again, new, twin, misuse = bus.handle_many(
            [
                bus.envelope(old, "id-1"),
                bus.envelope(Allocate("o10", "RED-CHAIR", 1), "id-2"),
                bus.envelope(Allocate("o10", "RED-CHAIR", 1), "id-2"),
                bus.envelope(Allocate("o10", "RED-CHAIR", 1), "id-1"),
            ]
        )
        assert (again.position, again.repeated) == (first.position, True)
        assert (new.changed, new.repeated, twin.position, twin.repeated) == (True, False, new.position, True)
        assert isinstance(misuse.error, IdReused)

    def test_the_inbox_answers_for_what_it_is_asked_and_nothing_else(self, opened: Opened) -> None:
        opened.group(*SHOP)
        for n in range(3):
            opened.ask(Allocate(f"o{n}", "RED-CHAIR", 2), f"id-{n}", client="shop", correlation_id=f"c-{n}")
        asked = [opened.bus.envelope(Allocate("any", "RED-CHAIR", 1), f"id-{n}") for n in (1, 2, 7)]
        minted = opened.bus.envelope(Allocate("any", "RED-CHAIR", 1))
        with opened.unit_of_work() as uow:
            known = uow.begin([*asked, minted])
        assert set(known) == {("local", "id-1"), ("local", "id-2")}
        kept = known["local", "id-2"].envelope
        assert (kept.command, kept.id, kept.client) == (Allocate("o2", "RED-CHAIR", 2), "id-2", "shop")
        assert (kept.correlation_id, kept.brought_id) == ("c-2", True)
        assert kept.time == opened.clock.now()

    @examples(25)
    @given(data=st.data())
    def test_an_id_may_be_any_text_that_can_be_seen(self, shared: SharedStore, data: st.DataObject) -> None:
        """Ids of messages are their senders': blanks, quotes and all the world's letters come through."""
        opened = shared.open()
        text = st.text(st.characters(codec="utf-8", exclude_categories=("C",)), min_size=1, max_size=100)
        message_id, source = data.draw(text), data.draw(text)
        command = CreateBatch("b1", "RED-CHAIR", 10)
        opened.ask(command, message_id, source=source, client=source, correlation_id=message_id)
        again = opened.ask(command, message_id, source=source)
        assert (again.repeated, again.error) == (True, None)

    @pytest.mark.parametrize(
        "bad",
        ["", " ", "\x00", "\x1e", "\x1f", "\n", "é", "\ud800", "x" * 256, "".join(map(str, range(3000)))],
        ids=lambda bad: ascii(bad[:5]),
    )
    def test_what_is_no_id_is_refused_and_harms_nobody_in_its_group(self, opened: Opened, bad: str) -> None:
        good = CreateBatch("b1", "RED-CHAIR", 10)
        commands: list[Command] = [
            CreateBatch(bad, "RED-CHAIR", 1),
            CreateBatch("b2", bad, 1),
            good,
            Allocate(bad, "RED-CHAIR", 1),
            Allocate("o1", bad, 1),
            Deallocate(bad, bad),
            ChangeBatchQuantity(bad, 1),
            ChangeBatchEta(bad, None),
            ChangeBatch(bad, 1, None),
        ]
        answers = opened.group(*commands)
        assert [answer.error for answer in answers] == [
            None if command is good else InvalidReference(bad) for command in commands
        ]
        assert len(opened.log()) == 1

    @pytest.mark.parametrize(
        "bad", ["", " ", "\x00", "\x1e", "\x1f", "\n", "é", "x" * 10_000], ids=lambda bad: ascii(bad[:5])
    )
    def test_the_refusal_of_what_is_no_id_is_kept_too(self, opened: Opened, bad: str) -> None:
        command = CreateBatch("b1", bad, 1)
        first, again = opened.ask(command, "id-1"), opened.ask(command, "id-1")
        assert first.error == again.error == InvalidReference(bad)
        assert again.repeated
