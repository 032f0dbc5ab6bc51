"""What every keeper of definitions must do: memory, SQLite and PostgreSQL alike."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from allocation.service_layer.definitions import Address, Definition, NamedRule
from allocation.service_layer.locking import Asked
from tests.contracts.pulls import Pulled, pulled

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


def test_what_is_kept_comes_back_as_it_was(shop: Pulled) -> None:
    kept = shop.definitions
    assert kept.get("shop") is None
    kept.put(PUSHED)
    kept.put(Definition("all", "pull"))
    assert kept.get("shop") == PUSHED
    assert kept.all() == [Definition("all", "pull"), PUSHED]
    changed = replace(PUSHED, batch_size=8)
    kept.put(changed)
    assert kept.get("shop") == changed
    assert kept.delete("shop")
    assert not kept.delete("shop")
    assert kept.all() == [Definition("all", "pull")]


def test_one_is_stopped_only_as_long_as_it_is_the_same(shop: Pulled) -> None:
    kept = shop.definitions
    assert not kept.stop(PUSHED, "410")
    kept.put(PUSHED)
    assert not kept.stop(replace(PUSHED, batch_size=8), "410")
    assert kept.get("shop") == PUSHED
    assert kept.stop(PUSHED, "410")
    assert not kept.stop(PUSHED, "once more")
    assert kept.get("shop") == replace(PUSHED, stopped="410")
    kept.put(PUSHED)
    assert kept.get("shop") == PUSHED


@pytest.mark.parametrize(("value", "other"), [(10, 10.0), (1, True), (0.0, False)])
def test_values_of_two_kinds_are_two_definitions(shop: Pulled, value: float, other: float) -> None:
    kept = shop.definitions
    was, now = (Definition("all", "pull", (NamedRule(correlation=(("qty", x),)),)) for x in (value, other))
    assert was != now
    kept.put(now)
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
