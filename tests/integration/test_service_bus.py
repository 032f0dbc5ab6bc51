"""Azure Service Bus where it hurts, with the real SDK: over a peer of our own, which says nothing about Azure."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace

import pytest
from azure.servicebus import ServiceBusMessage

from allocation.adapters.cloudevents import STRUCTURED, structured
from allocation.domain.commands import Allocate, CreateBatch
from allocation.service_layer.broker import COMMANDS, FACTS, Message
from allocation.service_layer.errors import Rejected
from tests.contracts.brokers import command, drain, event_in, gather
from tests.fakes import NOON
from tests.integration.service_bus_tools import Bus, shop
from tests.integration.serving import serving
from tests.servers.service_bus import PrivateServiceBus

CHAIR, TABLE = "RED-CHAIR", "SMALL-TABLE"


@pytest.fixture
def bus(service_bus: PrivateServiceBus) -> Iterator[Bus]:
    bus = Bus(service_bus)
    yield bus
    bus.close()


# On the wire


def test_a_fact_is_a_cloud_event_with_the_properties_that_filters_see(bus: Bus) -> None:
    extensions: dict[str, str | int] = {"productversion": 7, "partition": 0, "sequence": "9", "correlationid": "c-1"}
    message = Message("m-1", "allocation.Allocated", CHAIR, NOON, {"qty": 2, "eta": None}, 7, extensions)
    assert list(bus.publisher().publish(FACTS, [message])) == [None]
    [told] = bus.told(FACTS, 1)
    assert (told.key, told.id, told.subject, told.body) == (CHAIR, "m-1", "Allocated", {"qty": 2, "eta": None})
    assert told.properties == {
        "cloudEvents:specversion": "1.0",
        "cloudEvents:id": "m-1",
        "cloudEvents:source": "/allocation",
        "cloudEvents:type": "allocation.Allocated",
        "cloudEvents:subject": CHAIR,
        "cloudEvents:time": "2031-03-01T12:00:00Z",
        "cloudEvents:productversion": "7",
        "cloudEvents:partition": "0",
        "cloudEvents:sequence": "9",
        "cloudEvents:correlationid": "c-1",
        "qty": 2,
        "id": "m-1",
        "time": "2031-03-01T12:00:00+00:00",
        "version": 7,
        "type": "Allocated",
        "partition": 0,
        "sequence": 9,
        "position": "0-9",
        "correlation_id": "c-1",
    }


def test_an_event_that_is_published_again_within_the_window_is_told_once(bus: Bus) -> None:
    first, second = bus.publisher(), bus.publisher()
    assert list(first.publish(FACTS, [command(CHAIR, 1), command(CHAIR, 2)])) == [None, None]
    assert list(second.publish(FACTS, [command(CHAIR, 1), command(CHAIR, 2), command(CHAIR, 3)])) == [None] * 3
    assert [told.id for told in bus.told(FACTS, 3)] == [f"{CHAIR}-{n}" for n in (1, 2, 3)]


def test_of_a_batch_that_service_bus_will_not_have_only_the_one_to_blame_is_rejected(bus: Bus) -> None:
    nobody = replace(command("", 1), id="nobody")  # a session needs a name
    said = [command(CHAIR, 1), nobody, command(CHAIR, 2), command("", 2), command(TABLE, 1)]
    outcomes = bus.publisher().publish(COMMANDS, said)
    assert [type(outcome) for outcome in outcomes] == [type(None), Rejected, type(None), Rejected, type(None)]
    assert sorted(drain(bus.receiver(), 3)) == [f"{CHAIR}-1", f"{CHAIR}-2", f"{TABLE}-1"]


def test_of_a_batch_only_the_ones_with_a_name_too_long_for_service_bus_are_rejected(bus: Bus) -> None:
    long = "L" * 129
    said = [command(CHAIR, 1), command(long, 1), replace(command(TABLE, 1), id=long), command(CHAIR, 2)]
    outcomes = bus.publisher().publish(COMMANDS, said)
    assert [type(outcome) for outcome in outcomes] == [type(None), Rejected, Rejected, type(None)]
    assert [str(outcome).rpartition(": ")[2] for outcome in outcomes[1:3]] == [
        "session_id cannot be longer than 128 characters.",
        "message_id cannot be longer than 128 characters.",
    ]
    assert drain(bus.receiver(), 2) == [f"{CHAIR}-1", f"{CHAIR}-2"]


def test_what_others_send_is_received_in_whatever_form(bus: Bus) -> None:
    properties = {"cloudEvents_specversion": "1.0", "cloudEvents_ID": "m-2", "cloudEvents:odd": True, "plain": "x"}
    bus.send(
        ServiceBusMessage(structured(command(CHAIR, 1)), session_id="a", content_type=STRUCTURED),
        ServiceBusMessage(b"{}", session_id="b", application_properties=properties, content_type="application/json"),
        ServiceBusMessage(b"", session_id="c"),
    )
    found = {delivery.key: delivery for delivery in gather(bus.receiver(), 3)}
    assert event_in(found["a"]).id == f"{CHAIR}-1"
    told = {"content-type": "application/json", "ce-specversion": "1.0", "ce-id": "m-2", "ce-odd": "true"}
    assert found["b"].headers == told
    assert (found["c"].body, found["c"].headers) == (b"", {})


def test_the_key_of_the_connection_string_is_never_logged(bus: Bus, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        bus.publisher().publish(COMMANDS, [command(CHAIR, 1)])
        gather(bus.receiver(), 1)
    assert "SAS_KEY_VALUE" not in caplog.text


# The book's flow


def test_a_quantity_change_comes_in_by_the_queue_and_the_reallocation_goes_out_by_the_topic(
    bus: Bus, sqlite_url: str
) -> None:
    with shop(sqlite_url, bus) as application:
        for ref, qty, eta in (("sooner", 20, None), ("later", 50, NOON.date())):
            application.bus.handle(CreateBatch(ref, CHAIR, qty, eta))
        application.bus.handle(Allocate("o1", CHAIR, 15))
        with serving(application):
            bus.send(ServiceBusMessage(b'{"batchref": "sooner", "qty": 5}', session_id=CHAIR))
            facts = bus.told(FACTS, 6)
    told = [(fact.subject, fact.body.get("batchref")) for fact in facts[2:]]
    assert told == [
        ("Allocated", "sooner"),
        ("Deallocated", "sooner"),
        ("BatchQuantityChanged", None),
        ("Allocated", "later"),
    ]
    assert [fact.version for fact in facts] == [1, 2, 3, 4, 5, 6]
    assert bus.told("stock_level", 1)[-1].version == 6
