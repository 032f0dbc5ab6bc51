"""Who has to know every event passes none over: mypy tells at the `match`, and what is unknown raises."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from allocation.adapters.sql.projector import project
from allocation.domain.events import Event
from allocation.service_layer.cache import product_thing, touched_by
from allocation.service_layer.read_models import movements_of
from tests.unit.test_serialization import EVENTS

WHO_KNOWS: dict[str, Callable[[Any], object]] = {
    "cache": lambda event: list(touched_by(event)),
    "movements": movements_of,
    "projector": lambda event: project([(event, 1)]),
}


@dataclass
class Repainted:
    sku: str = "RED-CHAIR"


@pytest.mark.parametrize("who", WHO_KNOWS)
def test_an_event_that_is_unknown_is_not_passed_over(who: str) -> None:
    with pytest.raises(AssertionError, match="Repainted"):
        WHO_KNOWS[who](Repainted())


@pytest.mark.parametrize("event", EVENTS, ids=repr)
def test_every_event_is_known_and_touches_its_product(event: Event) -> None:
    for knows in WHO_KNOWS.values():
        knows(event)
    assert product_thing(event.sku) in touched_by(event)
