"""What every keeper of definitions must do: memory, SQLite and PostgreSQL alike."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Engine, event

from allocation.service_layer.definitions import Address, AlreadyDefined, Definition, NamedRule
from allocation.service_layer.errors import LeaseLost, UnknownSubscription
from allocation.service_layer.pull_locks import Asked
from allocation.service_layer.subscriptions import Settlement
from tests.contracts.concurrency import at_once
from tests.contracts.pulls import PARTITIONS, Pulled, pulled

PUSHED = Definition(
    "shop",
    "push",
    (
        NamedRule("a", "qty > 1", action="SET urgent = 1"),
        NamedRule("b", correlation=(("sku", "RED-CHAIR"), ("qty", 2), ("share", 0.5), ("sys.Subject", "Allocated"))),
    ),
    Address("https://shop.example.com/events", "whsec_AAAA", handshake=False),
    batch_size=7,
)


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def shop(request: pytest.FixtureRequest) -> Iterator[Pulled]:
    with pulled(request.param, request.getfixturevalue) as made:
        yield made


class Broken(BaseException):
    """What ends a program in the middle of something."""


@contextmanager
def breaking_at(words: str) -> Iterator[None]:
    """In here the program ends before the first statement with these words."""

    def end(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if words in statement:
            raise Broken

    event.listen(Engine, "before_cursor_execute", end)
    try:
        yield
    finally:
        event.remove(Engine, "before_cursor_execute", end)


def test_what_is_kept_comes_back_as_it_was(shop: Pulled) -> None:
    kept = shop.definitions
    assert kept.get("shop") is None
    assert kept.put(PUSHED, None, from_the_beginning=True)
    assert kept.put(Definition("all", "pull"), None, from_the_beginning=True)
    assert kept.get("shop") == PUSHED
    assert kept.all() == [Definition("all", "pull"), PUSHED]
    changed = replace(PUSHED, batch_size=8)
    assert not kept.put(changed, None, from_the_beginning=True)
    assert not kept.put(changed, changed, from_the_beginning=True)
    assert kept.get("shop") == PUSHED
    assert kept.put(changed, PUSHED, from_the_beginning=True)
    assert kept.get("shop") == changed
    assert kept.delete("shop")
    assert not kept.delete("shop")
    assert kept.all() == [Definition("all", "pull")]


def test_who_wants_a_new_one_and_comes_second_changes_nothing(shop: Pulled, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = shop.definitions
    shop.subscribers.define(Definition("all", "pull"), from_the_beginning=False, only_if_new=True)

    def before_the_other_one_was_there(_name: str) -> None:
        monkeypatch.undo()

    monkeypatch.setattr(kept, "get", before_the_other_one_was_there)
    other = Definition("all", "pull", (NamedRule("other"),))
    with pytest.raises(AlreadyDefined):
        shop.subscribers.define(other, from_the_beginning=False, only_if_new=True)
    assert kept.all() == [Definition("all", "pull")]


def test_one_is_stopped_only_as_long_as_it_is_the_same(shop: Pulled) -> None:
    kept = shop.definitions
    assert not kept.stop(PUSHED, "410")
    kept.put(PUSHED, None, from_the_beginning=True)
    assert not kept.stop(replace(PUSHED, batch_size=8), "410")
    assert kept.get("shop") == PUSHED
    assert kept.stop(PUSHED, "410")
    assert not kept.stop(PUSHED, "once more")
    assert kept.get("shop") == replace(PUSHED, stopped="410")
    assert not kept.put(PUSHED, PUSHED, from_the_beginning=True), "it was stopped meanwhile"
    assert kept.put(PUSHED, replace(PUSHED, stopped="410"), from_the_beginning=True)
    assert kept.get("shop") == PUSHED


@pytest.mark.parametrize(("value", "other"), [(10, 10.0), (1, True), (0.0, False)])
def test_values_of_two_kinds_are_two_definitions(shop: Pulled, value: float, other: float) -> None:
    kept = shop.definitions
    was, now = (Definition("all", "pull", (NamedRule(correlation=(("qty", x),)),)) for x in (value, other))
    assert was != now
    kept.put(now, None, from_the_beginning=True)
    assert not kept.stop(was, "410")
    shop.subscribers.define(was, from_the_beginning=False)
    found = kept.get("all")
    assert found is not None
    assert repr(found.rules) == repr(was.rules)


def test_whose_rule_has_another_kind_of_value_does_not_get_the_rule_of_the_other(shop: Pulled) -> None:
    shop.stock("RED-CHAIR")
    shop.define("never", NamedRule(correlation=(("qty", 10.0),)))
    shop.define("ten", NamedRule(correlation=(("qty", 10),)))
    shop.order("RED-CHAIR", 10)
    assert shop.pulling.receive("never", Asked()).held == []
    assert [held.key for held in shop.pulling.receive("ten", Asked()).held] == ["RED-CHAIR"]


def test_a_definition_shows_no_secret() -> None:
    assert "whsec_" not in repr(PUSHED)


def test_one_that_is_removed_at_the_moment_in_which_it_is_defined_leaves_no_place(
    shop: Pulled, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.define("all")
    shop.stock("RED-CHAIR")
    delete = shop.definitions.delete

    def meanwhile(name: str) -> bool:
        shop.define("all")
        return delete(name)

    with monkeypatch.context() as patched:
        patched.setattr(shop.definitions, "delete", meanwhile)
        shop.subscribers.remove("all")
    assert shop.definitions.get("all") is None
    assert shop.store.cursors() == []
    assert shop.subscribers.define(Definition("all", "pull"), from_the_beginning=True).is_new
    assert [cursor.seq for cursor in shop.store.cursors()] == [0] * PARTITIONS


def test_one_that_is_defined_at_the_moment_in_which_it_is_removed_begins_anew(
    shop: Pulled, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.stock("RED-CHAIR")
    shop.define("all")
    get = shop.definitions.get

    def meanwhile(name: str) -> Definition | None:
        monkeypatch.undo()
        found = get(name)
        shop.subscribers.remove(name)
        return found

    monkeypatch.setattr(shop.definitions, "get", meanwhile)
    assert shop.subscribers.define(Definition("all", "pull"), from_the_beginning=True).is_new
    assert shop.definitions.get("all") == Definition("all", "pull")
    assert [cursor.seq for cursor in shop.store.cursors()] == [0] * PARTITIONS


def test_of_two_who_define_one_name_at_once_one_makes_it(shop: Pulled, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else each would be told a secret, and one of them would not be the one that events are signed with."""
    wanted = replace(PUSHED, sink=Address("https://shop.example.com/events"))
    get, first = shop.definitions.get, []

    def meanwhile(name: str) -> Definition | None:
        monkeypatch.undo()
        found = get(name)
        first.append(shop.subscribers.define(wanted, from_the_beginning=False))
        return found

    monkeypatch.setattr(shop.definitions, "get", meanwhile)
    second = shop.subscribers.define(wanted, from_the_beginning=False)
    assert [(made.is_new, made.secret is not None) for made in (*first, second)] == [(True, True), (False, False)]


def test_whatever_is_defined_and_removed_at_once_a_definition_has_its_cursors_and_none_are_left(shop: Pulled) -> None:
    """Counted, too: of all who are told that it is new, or gone, each is right."""
    made = gone = 0

    def change(number: int) -> int:
        try:
            if number % 2:
                shop.subscribers.remove("all")
                return -1
            return int(shop.subscribers.define(Definition("all", "pull", batch_size=number + 1), False).is_new)
        except UnknownSubscription:
            return 0

    for _ in range(20):
        told = at_once(6, change)
        made, gone = made + told.count(1), gone + told.count(-1)
        is_there = shop.definitions.get("all") is not None
        assert len(shop.store.cursors()) == PARTITIONS * is_there
        assert made - gone == is_there


@pytest.mark.parametrize("shop", ["sqlite", "postgres"], indirect=True)
def test_who_dies_in_the_middle_has_not_defined_it(shop: Pulled) -> None:
    with breaking_at("subscriptions"), pytest.raises(Broken):
        shop.define("all")
    assert shop.definitions.all() == []
    shop.define("all")
    assert len(shop.store.cursors()) == PARTITIONS


@pytest.mark.parametrize("shop", ["sqlite", "postgres"], indirect=True)
@pytest.mark.parametrize("table", ["definitions", "subscriptions", "lanes"])
def test_who_dies_in_the_middle_has_not_removed_it(shop: Pulled, table: str) -> None:
    shop.define("all")
    with breaking_at(f"DELETE FROM {table}"), pytest.raises(Broken):
        shop.subscribers.remove("all")
    assert shop.definitions.get("all") is not None
    assert len(shop.store.cursors()) == PARTITIONS


def test_cursors_that_an_earlier_version_left_behind_are_not_taken_over(shop: Pulled) -> None:
    shop.stock("RED-CHAIR")
    shop.store.join("all", from_the_beginning=False)
    shop.define("all", from_the_beginning=True)
    assert [cursor.seq for cursor in shop.store.cursors()] == [0] * PARTITIONS


def test_who_owned_one_that_was_removed_does_not_own_the_next_of_its_name(shop: Pulled) -> None:
    shop.define("all")
    before = shop.store.lease("all", 0, "worker-1", 15)
    assert before is not None
    shop.subscribers.remove("all")
    shop.clock.step(1.0)
    shop.define("all")
    assert shop.store.lease("all", 0, "worker-2", 15) is not None
    with pytest.raises(LeaseLost):
        shop.store.settle(before, Settlement(3), 15)
    assert [cursor.seq for cursor in shop.store.cursors()] == [0] * PARTITIONS
