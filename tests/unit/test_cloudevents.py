"""Messages on the wire, read by the SDK of CloudEvents; and what it writes, read by us."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import msgspec
import pytest
from cloudevents.core.bindings.kafka import KafkaMessage, from_binary, to_binary
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from allocation.adapters.cloudevents import binary, read, structured
from allocation.adapters.serialization import BadMessage
from allocation.domain.commands import Allocate
from allocation.domain.events import Allocated
from allocation.entrypoints.http.events import cloud_event as in_the_feed
from allocation.service_layer.broker import Message
from allocation.service_layer.envelope import EventEnvelope, LogPosition
from allocation.service_layer.facts import fact_of

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
LOGGED = EventEnvelope(
    Allocated("o-1", "RED-CHAIR", 3, "b-1"),
    "e-1",
    datetime(2031, 3, 1, 12, 30, 0, 250_000, UTC),
    LogPosition(2, 17),
    5,
    "c-1",
    "m-1",
    TRACE,
)
ATTRIBUTES = {
    "specversion": "1.0",
    "id": "e-1",
    "source": "/allocation",
    "type": "allocation.Allocated",
    "subject": "RED-CHAIR",
    "time": LOGGED.time,
    "datacontenttype": "application/json",
    "schemaversion": 1,
    "partition": 2,
    "sequence": "00000000000000000017",
    "productversion": 5,
    "correlationid": "c-1",
    "causationid": "m-1",
    "traceparent": TRACE,
}
DATA = {"orderid": "o-1", "sku": "RED-CHAIR", "qty": 3, "batchref": "b-1"}


def test_the_sdk_reads_our_structured_events() -> None:
    event = JSONFormat().read(None, structured(fact_of(LOGGED)))
    assert (event.get_attributes(), event.get_data()) == (ATTRIBUTES, DATA)


def test_the_sdk_reads_our_binary_events() -> None:
    headers, body = binary(fact_of(LOGGED))
    message = KafkaMessage({name: value.encode() for name, value in headers.items()}, b"RED-CHAIR", body)
    event = from_binary(message, JSONFormat())
    as_text = {name: str(value) if isinstance(value, int) else value for name, value in ATTRIBUTES.items()}
    assert event.get_data() == DATA
    assert {name: event.get_attributes()[name] for name in as_text} == as_text


@pytest.mark.parametrize("mode", ["structured", "binary"])
def test_we_read_what_the_sdk_writes(mode: str) -> None:
    attributes = {"id": "x-7", "source": "//erp", "type": "allocation.Allocate", "subject": "S", "schemaversion": 1}
    event = CloudEvent(attributes, {"orderid": "o", "sku": "S", "qty": 1})
    if mode == "structured":
        found = read(JSONFormat().write(event))
    else:
        sent = to_binary(event, JSONFormat(), key_mapper=lambda _: None)
        assert sent.value is not None
        found = read(sent.value, {name.replace("ce_", "ce-"): value.decode() for name, value in sent.headers.items()})
    assert found is not None
    assert (found.id, found.source, found.type) == ("x-7", "//erp", "allocation.Allocate")
    assert json.loads(found.data) == {"orderid": "o", "sku": "S", "qty": 1}
    assert {name: found.attributes[name] for name in ("subject", "schemaversion")} == {
        "subject": "S",
        "schemaversion": "1",
    }


def test_the_feed_has_the_shape_that_brokers_carry() -> None:
    assert msgspec.json.encode(in_the_feed(LOGGED)) == structured(fact_of(LOGGED))


def test_a_command_is_written_without_what_only_events_have() -> None:
    message = Message("m-1", "allocation.Allocate", "S", LOGGED.time, Allocate("o", "S", 1))
    assert json.loads(structured(message)).keys() == {
        "specversion",
        "id",
        "source",
        "type",
        "subject",
        "time",
        "datacontenttype",
        "data",
    }


def test_what_is_no_cloud_event_is_left_to_others() -> None:
    assert read(b'{"batchref": "b1", "qty": 5}') is None


def test_data_may_come_in_base64() -> None:
    found = read(b'{"specversion":"1.0","id":"1","source":"s","type":"t","data_base64":"eyJhIjoxfQ=="}')
    assert found is not None
    assert found.data == b'{"a":1}'


def test_an_attribute_that_is_null_is_as_if_it_were_absent() -> None:
    """CloudEvents JSON, 2.2; and docs/asyncapi.json allows it."""
    named = b'{"specversion": "1.0", "id": "1", "source": "s", "type": "t", "correlationid": null, "data_base64" : null'
    found = read(named + b', "data": {"a": 1}}')
    assert found is not None
    assert (found.attributes.keys(), found.data) == ({"specversion", "id", "source", "type"}, b'{"a": 1}')


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 100_000, "not an object"),
        (b'{"specversion": ' + b"[" * 100_000, "not JSON"),
        (b"[]", "not an object"),
        (b"7", "not an object"),
        (b'{"specversion": "0.3", "id": "1", "source": "s", "type": "t"}', "0.3"),
        (b'{"specversion": "1.0", "source": "s", "type": "t"}', "attribute id"),
        (b'{"specversion": "1.0", "id": "", "source": "s", "type": "t"}', "attribute id"),
        (b'{"specversion": "1.0", "id": "a\\u0000", "source": "s", "type": "t"}', "attribute id"),
        (b'{"specversion": "1.0", "id": "\\ud800", "source": "s", "type": "t"}', "not JSON"),
        (b'{"specversion": "1.0", "id": "1", "source": "a b", "type": "t"}', "attribute source"),
        (b'{"specversion": "1.0", "id": "1", "source": {}, "type": "t"}', "'source' is neither"),
        (b'{"specversion": "1.0", "id": null, "source": "s", "type": "t"}', "attribute id"),
        (b'{"specversion": "1.0", "id": "1", "source": "s", "type": "t", "data_base64": "%"}', "data_base64"),
    ],
)
def test_a_wrong_one_is_told_why(body: bytes, why: str) -> None:
    with pytest.raises(BadMessage, match=why):
        read(body)


@pytest.mark.parametrize("odd", [b"1e400", b'"\xff"', b"1" * 5_000], ids=["too large", "no text", "too long"])
def test_an_attribute_that_cannot_be_decoded_is_told(odd: bytes) -> None:
    """JSON that nobody asks for is skipped, not read; such an attribute is found out last."""
    body = b'{"specversion": "1.0", "id": "1", "source": "s", "type": "t", "x": ' + odd + b"}"
    with pytest.raises(BadMessage, match="the attribute 'x' cannot be read"):
        read(body, {})
