"""What is written is read as it was; what cannot be read is refused with the reason."""

import json
from datetime import date
from typing import get_args

import pytest

from allocation.adapters.serialization import (
    BadMessage,
    UnknownMessage,
    decode_command,
    decode_event,
    decode_outcome,
    encode,
    encode_all,
    outcome_of,
)
from allocation.domain import commands, errors, events
from allocation.domain.errors import MAX_QUANTITY, Available, Refused
from allocation.service_layer.answers import BatchState, Promise, Result

DAY = date(2031, 3, 1)
PRINTABLE = "".join(chr(n) for n in range(0x21, 0x7F) if chr(n) != "/")

EVENTS = [
    events.BatchCreated(PRINTABLE, "RED-CHAIR", MAX_QUANTITY, DAY),
    events.BatchCreated("b1", "RED-CHAIR", 1, None),
    events.BatchQuantityChanged("b1", "RED-CHAIR", 0),
    events.BatchEtaChanged("b1", "RED-CHAIR", None),
    events.BatchEtaChanged("b1", "RED-CHAIR", DAY),
    events.Allocated("o1", "RED-CHAIR", 1, "b1"),
    events.Deallocated("o1", "RED-CHAIR", 1, "b1"),
    events.Backordered("o1", "RED-CHAIR", 1),
    events.Cancelled("o1", "RED-CHAIR", 1),
    events.OutOfStock("RED-CHAIR"),
]
COMMANDS = [
    commands.CreateBatch("b1", "RED-CHAIR", 1, DAY),
    commands.ChangeBatchQuantity("b1", 0, if_version=7),
    commands.ChangeBatchEta("b1", None),
    commands.ChangeBatch("b1", 5, DAY, if_version=None),
    commands.Allocate(PRINTABLE, "RED-CHAIR", -1, commands.IfShort.REFUSE),
    commands.Deallocate("o1", "RED-CHAIR"),
]
RESULTS: list[Result] = [
    None,
    Promise("o1", "RED-CHAIR", 1, "allocated", "b1", DAY),
    Promise("o1", "RED-CHAIR", 1, "waiting", None, None),
    BatchState("b1", "RED-CHAIR", 5, 4, None, 3),
]
REFUSALS = [
    errors.InvalidSku("RED-CHAIR"),
    errors.InvalidQuantity(-1000),
    errors.InvalidQuantity(-1, least=0),
    errors.InvalidReference("a\x00b\né"),
    errors.UnknownBatch("b1"),
    errors.UnknownOrderLine("o1", "RED-CHAIR"),
    errors.BatchExists("b1"),
    errors.OrderLineExists("o1", "RED-CHAIR", 3),
    errors.NotEnoughStock("RED-CHAIR", 9, (Available(None, 5, 3), Available(DAY, 2, 2))),
    errors.NotEnoughStock("RED-CHAIR", 9),
    errors.StaleVersion("RED-CHAIR", 1, 2),
]


def test_no_kind_of_message_is_forgotten_here() -> None:
    assert {type(x) for x in EVENTS} == set(get_args(events.Event))
    assert {type(x) for x in COMMANDS} == set(get_args(commands.Command))
    ours = {kind for kind in Refused.__subclasses__() if kind.__module__ == Refused.__module__}
    assert {type(x) for x in REFUSALS} == ours


@pytest.mark.parametrize("event", EVENTS, ids=repr)
def test_events_come_back(event: events.Event) -> None:
    assert decode_event(type(event).__name__, encode(event)) == event


@pytest.mark.parametrize("command", COMMANDS, ids=repr)
def test_commands_come_back(command: commands.Command) -> None:
    assert decode_command(type(command).__name__, encode(command)) == command


@pytest.mark.parametrize("result", RESULTS, ids=repr)
def test_results_come_back(result: Result) -> None:
    assert decode_outcome(encode_all([outcome_of(result, None)])[0]) == (result, None)


@pytest.mark.parametrize("refusal", REFUSALS, ids=repr)
def test_refusals_come_back(refusal: Refused) -> None:
    assert decode_outcome(encode_all([outcome_of(None, refusal)])[0]) == (None, refusal)


def test_what_is_kept_for_good_looks_like_this() -> None:
    """Databases out there hold these texts: a test that has to be changed here needs a new schema version."""
    assert json.loads(encode(EVENTS[0])) == {
        "ref": PRINTABLE,
        "sku": "RED-CHAIR",
        "qty": MAX_QUANTITY,
        "eta": "2031-03-01",
    }
    allocated = '{"orderid":"o1","sku":"RED-CHAIR","qty":1,"batchref":"b1"}'
    assert decode_event("Allocated", allocated) == events.Allocated("o1", "RED-CHAIR", 1, "b1")
    waiting = '{"orderid":"o1","sku":"RED-CHAIR","qty":1,"if_short":"wait"}'
    assert decode_command("Allocate", waiting) == commands.Allocate("o1", "RED-CHAIR", 1)
    refused = '{"refused":"StaleVersion","fields":{"sku":"RED-CHAIR","expected":1,"actual":2}}'
    assert decode_outcome(refused) == (None, errors.StaleVersion("RED-CHAIR", 1, 2))


@pytest.mark.parametrize("decode", [decode_command, decode_event])
def test_a_kind_of_message_nobody_knows_is_refused(decode: type) -> None:
    with pytest.raises(UnknownMessage, match="Repaint"):
        decode("Repaint", "{}")


BAD_MESSAGES = {
    "nothing": ("", "malformed|truncated"),
    "truncated": ('{"ref": "b1", "qty":', "truncated"),
    "no JSON": ("b1,5", "malformed"),
    "trailing junk": ('{"ref": "b1", "qty": 5} x', "trailing characters"),
    "invalid UTF-8": (b'{"ref": "\xff", "qty": 5}', "utf-8"),
    "null": ("null", "Expected `object`"),
    "a list": ("[]", "Expected `object`"),
    "a missing field": ('{"qty": 5}', "required field `ref`"),
    "another missing field": ('{"ref": "b1"}', "required field `qty`"),
    "text for a number": ('{"ref": "b1", "qty": "5"}', r"Expected `int`, got `str` - at `\$.qty`"),
    "a fraction": ('{"ref": "b1", "qty": 1.5}', r"Expected `int`, got `float` - at `\$.qty`"),
    "true for a number": ('{"ref": "b1", "qty": true}', r"Expected `int`, got `bool` - at `\$.qty`"),
    "NaN": ('{"ref": "b1", "qty": NaN}', "malformed"),
    "a number for text": ('{"ref": 7, "qty": 5}', r"Expected `str`, got `int` - at `\$.ref`"),
    "a deep nest": ('{"x": ' + "[" * 100_000, "recursion|malformed|truncated"),
    "null for text": ('{"ref": null, "qty": 5}', r"Expected `str`, got `null` - at `\$.ref`"),
}


@pytest.mark.parametrize("what", BAD_MESSAGES)
def test_a_bad_message_is_refused_with_the_reason(what: str) -> None:
    data, reason = BAD_MESSAGES[what]
    with pytest.raises(BadMessage, match=f"ChangeBatchQuantity cannot be read: .*({reason})"):
        decode_command("ChangeBatchQuantity", data)


@pytest.mark.parametrize("eta", ["2026-02-30", "2031-03-01T12:00:00", "tomorrow", 20310301, ["2031-03-01"]])
def test_what_is_no_day_is_refused_with_the_reason(eta: object) -> None:
    with pytest.raises(BadMessage, match="eta"):
        decode_command("ChangeBatchEta", json.dumps({"ref": "b1", "eta": eta}))
