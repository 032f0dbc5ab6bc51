"""What every keeper of definitions must do: memory, SQLite and PostgreSQL alike."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from allocation.service_layer.definitions import Address, Definition, NamedRule
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


def test_a_definition_shows_no_secret() -> None:
    assert "whsec_" not in repr(PUSHED)
