"""What is promised to other programs is written down, is what is sent, and cannot be broken unnoticed."""

import json
from copy import deepcopy
from dataclasses import MISSING, fields, make_dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, get_type_hints

import msgspec
import pytest
from click.testing import CliRunner
from jsonschema import Draft202012Validator

from allocation.adapters.cloudevents import cloud_event
from allocation.adapters.schemas import Schemas
from allocation.adapters.serialization import COMMANDS, EVENTS
from allocation.domain.commands import Allocate
from allocation.domain.errors import Available
from allocation.domain.events import Allocated, OutOfStock
from allocation.entrypoints.contracts import __main__ as program
from allocation.entrypoints.contracts.asyncapi import asyncapi_document
from allocation.entrypoints.contracts.compatibility import breaking_changes
from allocation.service_layer.envelope import EventEnvelope, LogPosition, message_of
from allocation.service_layer.facts import fact_of, level_message
from allocation.service_layer.read_models import StockLevel
from tests.unit.test_serialization import COMMANDS as EVERY_COMMAND
from tests.unit.test_serialization import EVENTS as EVERY_EVENT

ROOT = Path(__file__).parents[2]
DOCUMENT = asyncapi_document()
NOON = datetime(2031, 3, 1, 12, tzinfo=UTC)


def test_the_committed_document_is_the_present_one() -> None:
    """Red after a change of a message? `make contracts` writes it, unless that breaks a promise."""
    assert json.loads((ROOT / program.DOCUMENT).read_text()) == DOCUMENT


def test_every_reference_leads_somewhere_and_every_schema_is_one() -> None:
    def walk(part: Any) -> None:
        if isinstance(part, dict):
            if "$ref" in part:
                there = DOCUMENT
                for name in part["$ref"].removeprefix("#/").split("/"):
                    there = there[name]
            for inner in part.values():
                walk(inner)
        elif isinstance(part, list):
            for inner in part:
                walk(inner)

    walk(DOCUMENT)
    for schema in DOCUMENT["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
    assert {"asyncapi", "info", "channels", "operations", "components"} <= DOCUMENT.keys()
    assert {o["channel"]["$ref"] for o in DOCUMENT["operations"].values()} == {
        f"#/channels/{name}" for name in DOCUMENT["channels"]
    }


def payload(message: str) -> Draft202012Validator:
    """Judges what is sent as a message."""
    return Draft202012Validator({**DOCUMENT["components"]["messages"][message]["payload"], **DOCUMENT})


def enveloped(event: Any) -> EventEnvelope:
    return EventEnvelope(event, "e1", NOON, LogPosition(0, 7), 3, "c1", "c0")


def sent(content: object) -> Any:
    """As it comes out of the wire."""
    return json.loads(msgspec.json.encode(content))


@pytest.mark.parametrize("event", EVERY_EVENT, ids=repr)
def test_what_is_sent_of_an_event_is_as_promised(event: Any) -> None:
    told = sent(cloud_event(fact_of(enveloped(event))))
    judge = payload(type(event).__name__)
    judge.validate(told)
    assert not judge.is_valid({**told, "data": {}})
    assert not judge.is_valid({**told, "type": "allocation.Vanished"})


def test_what_is_sent_of_stock_levels_and_on_the_books_channel_is_as_promised() -> None:
    level = StockLevel("RED-CHAIR", 3, LogPosition(0, 7), (Available(None, 5, 3),))
    payload("StockLevel").validate(sent(cloud_event(level_message(level, enveloped(OutOfStock("RED-CHAIR"))))))
    payload("LineAllocated").validate(sent(message_of(enveloped(Allocated("o1", "RED-CHAIR", 1, "b1")))))


@pytest.mark.parametrize("command", EVERY_COMMAND, ids=repr)
def test_a_command_as_promised_is_one_that_is_taken_in(command: Any) -> None:
    name = type(command).__name__
    asked = {"specversion": "1.0", "id": "1", "source": "/shop", "type": f"allocation.{name}", "data": sent(command)}
    payload(name).validate(asked)
    assert COMMANDS.decode(name, json.dumps(asked["data"]), 1) == command


# --- the check bites ----------------------------------------------------------------------------------------------


def document(messages: Schemas, like: type, changed: type | None, upcast: bool = False) -> Any:
    """The document if a message were like this; None: if there were no such message."""
    kinds = [changed if name == like.__name__ else kind for name, kind in messages.types.items()]
    upcasters = {like.__name__: [lambda fields: fields]} if upcast else {}
    made = Schemas([kind for kind in kinds if kind is not None], upcasters)
    return asyncapi_document(events=made) if messages is EVENTS else asyncapi_document(commands=made)


def shape_of(message: type) -> list[Any]:
    """Its fields, as `make_dataclass` takes them: one that is added to the class is in here by itself."""
    types = get_type_hints(message)
    return [(f.name, types[f.name], *(() if f.default is MISSING else (f.default,))) for f in fields(message)]


OUT, IN = shape_of(Allocated), shape_of(Allocate)

BREAKING: dict[str, tuple[Schemas, type, list[Any] | None, str]] = {
    "an event that is gone": (EVENTS, Allocated, None, "Allocated is gone"),
    "a field of an event that is gone": (EVENTS, Allocated, OUT[:3], "Allocated: the field batchref is gone"),
    "a field of another name": (EVENTS, Allocated, [*OUT[:3], ("ref", str)], "the field ref is now required"),
    "a field of another type": (EVENTS, Allocated, [*OUT[:2], ("qty", str), OUT[3]], "the field qty was"),
    "a field that may be null now": (EVENTS, Allocated, [*OUT[:3], ("batchref", str | None)], "the field batchref was"),
    "a field that may be absent now": (EVENTS, Allocated, [*OUT[:3], ("batchref", str, "")], "is now optional"),
    "a new field that must be there": (EVENTS, Allocated, [("colour", str), *OUT], "colour is now required"),
    "a command that is gone": (COMMANDS, Allocate, None, "Allocate is gone"),
    "a command that asks for more": (COMMANDS, Allocate, [*IN[:3], ("colour", str), IN[3]], "a new name"),
    "a command that takes less": (COMMANDS, Allocate, IN[:3], "Allocate: the field if_short is gone"),
}


@pytest.mark.parametrize("what", BREAKING)
def test_a_breaking_change_is_seen_and_named(what: str) -> None:
    messages, like, shape, named = BREAKING[what]
    present = document(messages, like, None if shape is None else make_dataclass(like.__name__, shape))
    assert any(named in sentence for sentence in breaking_changes(DOCUMENT, present))


@pytest.mark.parametrize("what", [what for what, case in BREAKING.items() if case[2] is not None])
def test_a_new_version_lets_an_event_change_and_never_a_command(what: str) -> None:
    messages, like, shape, _ = BREAKING[what]
    present = document(messages, like, make_dataclass(like.__name__, shape or []), upcast=True)
    assert (breaking_changes(DOCUMENT, present) == []) == (messages is EVENTS)
    assert breaking_changes(present, DOCUMENT) != []


@pytest.mark.parametrize(
    ("messages", "like", "shape"),
    [(EVENTS, Allocated, [*OUT, ("colour", str, "")]), (COMMANDS, Allocate, [*IN, ("colour", str | None, None)])],
)
def test_a_field_more_that_may_be_absent_breaks_nothing(messages: Schemas, like: type, shape: list[Any]) -> None:
    assert breaking_changes(DOCUMENT, document(messages, like, make_dataclass(like.__name__, shape))) == []


def test_the_words_for_people_may_change() -> None:
    present = deepcopy(DOCUMENT)
    for schema in present["components"]["schemas"].values():
        schema["description"] = "in other words"
    assert breaking_changes(DOCUMENT, present) == []


def test_a_channel_that_is_gone_or_carries_less_is_seen() -> None:
    present = deepcopy(DOCUMENT)
    del present["channels"]["stock_level"]
    del present["channels"]["facts"]["messages"]["OutOfStock"]
    assert breaking_changes(DOCUMENT, present) == [
        "OutOfStock is gone from the channel facts",
        "the channel stock_level is gone",
    ]


def test_the_program_keeps_updates_and_refuses(tmp_path: Path) -> None:
    """What `make check` and `make contracts` run."""
    file, run = tmp_path / "asyncapi.json", partial(CliRunner().invoke, program.main)
    assert run([str(file)]).exit_code == 1
    assert run(["--write", str(file)]).exit_code == 0
    assert run([str(file)]).output == f"{file} is up to date: {len(DOCUMENT['components']['messages'])} messages.\n"
    stale = deepcopy(DOCUMENT)
    del stale["components"]["schemas"]["Allocate"]["properties"]["if_short"]
    file.write_text(program.as_text(stale))
    assert "is out of date: `make contracts` updates it" in run([str(file)]).output
    assert run(["--write", str(file)]).exit_code == 0
    promised = deepcopy(DOCUMENT)
    promised["components"]["schemas"]["Allocated"]["properties"]["colour"] = {"type": "string"}
    file.write_text(program.as_text(promised))
    for arguments in ([str(file)], ["--write", str(file)]):
        ran = run(arguments)
        assert ran.exit_code == 1
        assert "Allocated: the field colour is gone" in ran.output
    assert json.loads(file.read_text()) == promised
