"""What was written under earlier versions is read as today's.

There is one version of every event so far; `version-1.jsonl` is a log of it, frozen as databases hold it. That older
versions can be read is shown on versions invented here: `invented-versions.jsonl` tells the same story, its Allocated
and Deallocated written under three of them.
"""

import json
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import get_args

import pytest

from allocation.adapters import serialization
from allocation.adapters.schemas import BadMessage, Fields, Schemas, UnknownMessage
from allocation.adapters.serialization import COMMANDS, EVENTS
from allocation.domain import events
from allocation.domain.model import OrderLine, Product

LOGS = Path(__file__).parents[1] / "fixtures" / "logs"
OURS = sorted(LOGS.glob("version-*.jsonl"))


def renamed(**names: str) -> Callable[[Fields], Fields]:
    return lambda fields: {names.get(name, name): value for name, value in fields.items()}


FIRST_TO_SECOND, SECOND_TO_THIRD = renamed(order="orderid", pieces="qty", batch="ref"), renamed(ref="batchref")
STEPS = [FIRST_TO_SECOND, SECOND_TO_THIRD]
INVENTED = Schemas(get_args(events.Event), {"Allocated": STEPS, "Deallocated": STEPS})


def logged(file: Path) -> Iterator[tuple[str, int, str]]:
    """(type, schema version, data) of each event of a fixture log."""
    for line in file.read_text().splitlines():
        row = json.loads(line)
        yield row["type"], row["schema_version"], row["data"]


def replayed(file: Path, schemas: Schemas) -> Product:
    product = Product("RED-CHAIR")
    for name, version, data in logged(file):
        product.apply(schemas.decode(name, data, version))
    return product


def assert_is_the_shop_of_the_fixtures(product: Product) -> None:
    assert product.version_number == 16
    assert [(b.reference, b.purchased_quantity, b.allocated_quantity, b.eta) for b in product.batches] == [
        ("b1", 10, 9, None),
        ("b2", 4, 0, date(2031, 6, 1)),
    ]
    assert [(x.orderid, x.qty, x.batchref, x.since) for x in product.lines.values()] == [
        ("o2", 5, "b1", 4),
        ("o3", 4, "b1", 5),
        ("o4", 6, None, 15),
    ]
    product.create_batch("b3", 6)
    assert product.lines["o4"] == OrderLine("o4", "RED-CHAIR", 6)
    assert product.lines["o4"].batchref == "b3"


@pytest.mark.parametrize("file", OURS, ids=lambda file: file.stem)
def test_a_log_of_every_version_there_was_replays(file: Path) -> None:
    assert_is_the_shop_of_the_fixtures(replayed(file, EVENTS))


def test_no_version_of_an_event_is_without_a_log_of_it() -> None:
    """Red after a new version? Keep the old logs as they are, and add one that holds the new version."""
    there = {(name, version) for file in OURS for name, version, _ in logged(file)}
    assert there == {(n, v) for n, t in EVENTS.types.items() for v in range(1, EVENTS.version_of(t) + 1)}


def test_events_of_older_versions_are_read_as_todays_through_one_step_or_several() -> None:
    file = LOGS / "invented-versions.jsonl"
    assert {version for _, version, _ in logged(file)} == {1, 2, 3}
    assert_is_the_shop_of_the_fixtures(replayed(file, INVENTED))


def test_a_version_that_has_no_upcaster_is_today_s() -> None:
    assert {EVENTS.version_of(kind) for kind in EVENTS.types.values()} == {1}
    assert INVENTED.version_of(events.Allocated) == 3
    assert INVENTED.version_of(events.Backordered) == 1


@pytest.mark.parametrize("version", [-1, 0, 4])
def test_a_version_that_nobody_knows_is_refused_and_not_guessed_at(version: int) -> None:
    with pytest.raises(UnknownMessage, match=f"version {version} is not supported: this program knows up to 3"):
        INVENTED.decode("Allocated", '{"orderid":"o1","sku":"RED-CHAIR","qty":6,"batchref":"b1"}', version)


def test_an_older_event_that_lacks_what_it_must_have_is_refused_with_the_reason() -> None:
    with pytest.raises(BadMessage, match="required field `batchref`"):
        INVENTED.decode("Allocated", '{"order":"o1","sku":"RED-CHAIR","pieces":6}', 1)
    picky = Schemas([events.OutOfStock], {"OutOfStock": [lambda fields: {"sku": fields["article"]}]})
    with pytest.raises(BadMessage, match="OutOfStock of schema version 1 cannot be read: KeyError"):
        picky.decode("OutOfStock", "{}", 1)
    with pytest.raises(BadMessage, match="cannot be read"):
        picky.decode("OutOfStock", "[]", 1)


def test_fields_that_nobody_knows_are_left_aside() -> None:
    data = '{"orderid":"o1","sku":"RED-CHAIR","qty":6,"batchref":"b1","colour":"red","nested":{"a":[1]}}'
    assert EVENTS.decode("Allocated", data, 1) == events.Allocated("o1", "RED-CHAIR", 6, "b1")
    older = '{"order":"o1","sku":"RED-CHAIR","pieces":6,"batch":"b1","colour":"red"}'
    assert INVENTED.decode("Allocated", older, 1) == events.Allocated("o1", "RED-CHAIR", 6, "b1")


def test_an_upcaster_of_a_message_that_is_not_there_is_noticed() -> None:
    with pytest.raises(ValueError, match="Alocated"):
        Schemas([events.Allocated], {"Alocated": STEPS})


def test_commands_have_one_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """The inbox keeps them without one."""
    assert {COMMANDS.version_of(kind) for kind in COMMANDS.types.values()} == {1}
    monkeypatch.setattr(serialization, "EVENTS", INVENTED)
    assert serialization.event_version(events.Allocated("o1", "RED-CHAIR", 6, "b1")) == 3
