"""Handlers and what they are given; refusals and their sentences; what a group names."""

import pytest

from allocation.bootstrap import bootstrap
from allocation.config import Settings
from allocation.domain.commands import (
    Allocate,
    ChangeBatch,
    ChangeBatchEta,
    ChangeBatchQuantity,
    Command,
    CreateBatch,
    Deallocate,
)
from allocation.domain.errors import (
    BatchExists,
    InvalidQuantity,
    InvalidReference,
    InvalidSku,
    NotEnoughStock,
    OrderLineExists,
    Refused,
    StaleVersion,
    UnknownBatch,
    UnknownOrderLine,
)
from allocation.domain.events import Allocated
from allocation.domain.values import value
from allocation.service_layer import injection
from allocation.service_layer.envelope import EventEnvelope, LogPosition
from allocation.service_layer.errors import SetupError
from allocation.service_layer.handlers import COMMAND_HANDLERS, count_movements
from allocation.service_layer.injection import inject
from allocation.service_layer.needs import Needs, key_of, needs_of
from allocation.service_layer.unit_of_work import UnitOfWork
from tests.unit.test_serialization import COMMANDS

# Wiring


def test_every_command_has_a_handler() -> None:
    assert set(COMMAND_HANDLERS) == set(Command.__args__)


def test_every_refusal_has_a_sentence() -> None:
    samples = {
        InvalidSku("S"): "S",
        InvalidQuantity(0): "0",
        InvalidReference("a b"): "'a b'",
        UnknownBatch("b9"): "b9",
        UnknownOrderLine("o9", "S"): "o9",
        BatchExists("b1"): "b1",
        OrderLineExists("o1", "S", 3): "3",
        NotEnoughStock("S", 7): "7",
        StaleVersion("S", 1, 2): "2",
    }
    ours = {kind for kind in Refused.__subclasses__() if kind.__module__ == Refused.__module__}
    assert {type(x) for x in samples} == ours
    for refusal, fact in samples.items():
        assert fact in str(refusal)


def test_handlers_get_the_dependencies_they_name() -> None:
    def with_two(message: object, uow: object, mail: str, clock: str) -> tuple[object, object, str, str]:
        return (message, uow, mail, clock)

    def with_none(message: object, uow: object) -> tuple[object, object]:
        return (message, uow)

    handlers = inject({str: with_two, int: with_none}, {"clock": "noon", "mail": "box", "unused": "x"})
    assert handlers[str]("m", "u") == ("m", "u", "box", "noon")  # type: ignore[arg-type]  # any unit of work will do
    assert handlers[int](1, "u") == (1, "u")  # type: ignore[arg-type]  # any unit of work will do


def test_a_dependency_nobody_provides_is_missed_at_the_start() -> None:
    def needs_mail(message: object, uow: object, mail: str) -> None: ...

    with pytest.raises(SetupError, match=r"needs_mail names mail, .* the message and the unit of work"):
        inject({str: needs_mail}, {})


def test_a_command_handler_that_names_more_than_the_unit_of_work_stops_the_start() -> None:
    def late(cmd: Allocate, uow: UnitOfWork, clock: object) -> None: ...

    with pytest.raises(SetupError, match=r"late names clock, .* the message and the unit of work"):
        bootstrap(Settings(database_url="memory:"), handlers={**COMMAND_HANDLERS, Allocate: late})


def test_a_reaction_that_names_what_no_setting_provides_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    def tell_the_warehouse(logged: EventEnvelope, warehouse: object) -> None: ...

    monkeypatch.setitem(injection.EVENT_HANDLERS, Allocated, [tell_the_warehouse])
    with pytest.raises(SetupError, match=r"tell_the_warehouse names warehouse, .* cache, channel, .*, stock_mail"):
        bootstrap(Settings(database_url="memory:"))


def test_a_reaction_that_names_what_these_settings_leave_out_is_left_out() -> None:
    assert "publish_allocated_event" not in bootstrap(Settings(database_url="memory:")).worker.names()


def test_what_a_reaction_does_when_idle_has_to_be_there_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def confirm(position: LogPosition, warehouse: object) -> None: ...

    monkeypatch.setitem(injection.WHEN_IDLE, count_movements, confirm)
    with pytest.raises(SetupError, match="confirm names warehouse"):
        bootstrap(Settings(database_url="memory:"))


# What a group names


def test_a_group_names_what_has_to_be_locked_and_read() -> None:
    needs = needs_of(
        [
            CreateBatch("b1", "NEW-CHAIR", 1),
            Allocate("o1", "RED-CHAIR", 1),
            Allocate("o1", "RED-CHAIR", 1),
            ChangeBatchQuantity("b2", 1),
            ChangeBatchEta("b3", None),
            ChangeBatch("b4", 1, None),
        ]
    )
    assert needs == Needs(
        skus={"NEW-CHAIR", "RED-CHAIR"},
        new_skus={"NEW-CHAIR"},
        refs={"b1", "b2", "b3", "b4"},
        homeless={"b2", "b3", "b4"},
        lines={("o1", "RED-CHAIR")},
        freed={"NEW-CHAIR"},
    )


def test_a_line_that_leaves_may_free_stock_for_those_who_wait() -> None:
    needs = needs_of([Allocate("o1", "BLUE-CHAIR", 1), Deallocate("o2", "RED-CHAIR")])
    assert needs.freed == {"RED-CHAIR"}


@pytest.mark.parametrize("bad", ["\x1f", "", "a b", "\udc80", "x" * 256])
def test_what_is_no_id_names_nothing(bad: str) -> None:
    commands = [
        CreateBatch(bad, "RED-CHAIR", 1),
        CreateBatch("b1", bad, 1),
        Allocate(bad, "RED-CHAIR", 1),
        Deallocate("o1", bad),
        ChangeBatchEta(bad, None),
    ]
    assert needs_of(commands) == Needs()


def test_each_kind_of_command_names_what_is_to_be_locked() -> None:
    for command in COMMANDS:
        needs = needs_of([command])
        assert needs.skus or needs.homeless
        assert key_of(command) in needs.skus | needs.homeless


def test_a_kind_of_command_of_which_nobody_knows_what_it_names_fails_at_once() -> None:
    @value
    class Repaint:
        ref: str

    with pytest.raises(AssertionError, match="Repaint"):
        needs_of([Repaint("b1")])  # type: ignore[list-item]  # as the union of commands would have it
    with pytest.raises(AssertionError, match="Repaint"):
        bootstrap(Settings(database_url="memory:")).bus.handle(Repaint("b1"))  # type: ignore[arg-type]  # as above
