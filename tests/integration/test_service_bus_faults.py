"""Service Bus when things go wrong: bad messages, locks that run out, a peer that is killed, an outage behind us."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from datetime import timedelta
from random import randint
from threading import Event as Flag
from typing import Any

import msgspec
import pytest
from azure.servicebus import ServiceBusMessage, _servicebus_session
from azure.servicebus.amqp import AmqpAnnotatedMessage, AmqpMessageProperties

from allocation.adapters.brokers import service_bus
from allocation.adapters.brokers.service_bus import sessions
from allocation.adapters.brokers.service_bus.receiver import ServiceBusReceiver
from allocation.bootstrap import Application
from allocation.domain.commands import Allocate, CreateBatch
from allocation.entrypoints.consumer import Consumer
from allocation.service_layer.broker import COMMANDS, FACTS, Delivery, Message, Receiver
from allocation.service_layer.errors import Unavailable
from tests.contracts.brokers import command, drain, event_in, gather, nothing_comes
from tests.fakes import NOON
from tests.integration.service_bus_tools import LONG_SECONDS, URL, Bus, Hole, Told, shop, wait_for
from tests.integration.serving import serving
from tests.servers.service_bus import PrivateServiceBus

CHAIR, TABLE = "RED-CHAIR", "SMALL-TABLE"


@pytest.fixture
def bus(service_bus: PrivateServiceBus) -> Iterator[Bus]:
    bus = Bus(service_bus)
    yield bus
    bus.close()


@pytest.fixture
def quick_bus(service_bus: PrivateServiceBus) -> Iterator[Bus]:
    """Its locks last two seconds, and its third delivery is the last."""
    bus = Bus(service_bus, lock="PT2S", deliveries=3)
    yield bus
    bus.close()


def changes(application: Application) -> dict[str, list[int]]:
    """The quantities that batches were changed to, by sku, in order."""
    found: dict[str, list[int]] = {}
    for one in application.views.events((), 100_000).events:
        if type(one.event).__name__ == "BatchQuantityChanged":
            found.setdefault(one.key, []).append(one.event.qty)  # type: ignore[union-attr]  # it has one
    return found


def change(number: int, sku: str = CHAIR) -> Message:
    data = {"ref": f"batch-{sku}", "qty": number}
    return Message(f"{sku}-{number}", "allocation.ChangeBatchQuantity", sku, NOON, data)


# Bad messages


def cloud(**changed: object) -> bytes:
    event = {"specversion": "1.0", "id": "m-1", "source": "/them", "type": "allocation.ChangeBatchQuantity"}
    return msgspec.json.encode(event | {"data": {"ref": f"batch-{CHAIR}", "qty": 1}} | changed)


BAD: list[tuple[bytes | AmqpAnnotatedMessage, str]] = [
    (b"{not json", "not JSON"),
    (b"", "not JSON"),
    (b"\xff\xfe", "not JSON"),
    (b"[" * 100_000, "not an object"),
    (b'{"batchref": "no-such-batch", "qty": 5}', "no-such-batch"),
    (b'{"batchref": "b"}', "qty"),
    (b'{"batchref": "b", "qty": "many"}', "qty"),
    (b'{"batchref": "b", "qty": -1}', "qty"),
    (cloud(type="allocation.Explode"), "Explode"),
    (cloud(type="theirs.Changed"), "unknown message type"),
    (cloud(schemaversion="2"), "schema version"),
    (cloud(specversion="9.9"), "CloudEvents"),
    (cloud(data={"ref": 7}), "ref"),
    (cloud(data=None), "not an object"),
    (AmqpAnnotatedMessage(value_body={"batchref": "b"}), "not JSON"),
    (AmqpAnnotatedMessage(value_body=None), "not JSON"),
    (AmqpAnnotatedMessage(sequence_body=[[1, 2], [3]]), "not JSON"),
]


def test_bad_messages_are_dead_lettered_with_their_reason_and_the_consumer_goes_on(bus: Bus, sqlite_url: str) -> None:
    with shop(sqlite_url, bus) as application:
        application.bus.handle(CreateBatch(f"batch-{CHAIR}", CHAIR, 10))
        with serving(application):
            for number, (body, _) in enumerate(BAD):
                bus.send(bad_message(body, f"bad-{number}"))
            bus.send(ServiceBusMessage(msgspec.json.encode({"batchref": f"batch-{CHAIR}", "qty": 3}), session_id=CHAIR))
            wait_for(lambda: changes(application) == {CHAIR: [3]})
            wait_for(lambda: application.dead_letters.count() == len(BAD))
        reasons = sorted(letter.reason for letter in application.dead_letters.newest())
    for _, expected in BAD:
        assert any(expected in reason for reason in reasons), expected
    assert sorted(bus.dead()) == reasons


def bad_message(body: bytes | AmqpAnnotatedMessage, session: str) -> ServiceBusMessage | AmqpAnnotatedMessage:
    if isinstance(body, bytes):
        return ServiceBusMessage(body, session_id=session)
    body.properties = AmqpMessageProperties(group_id=session)
    return body


def test_a_message_that_the_sdk_cannot_decode_holds_up_its_session_alone(
    bus: Bus, caplog: pytest.LogCaptureFixture
) -> None:
    deep: Any = "deeper than it reads"
    for _ in range(100):
        deep = [deep]
    bus.send(bad_message(AmqpAnnotatedMessage(value_body=deep), CHAIR))
    receiver = bus.receiver()
    assert nothing_comes(receiver)
    bus.publisher().publish(COMMANDS, [command(CHAIR, 1), command(TABLE, 1)])
    assert drain(receiver, 1) == [f"{TABLE}-1"]
    told = [record.getMessage() for record in caplog.records if "cannot decode" in record.getMessage()]
    assert told == [f"{bus.queue}: session {CHAIR} waits behind a message that the SDK cannot decode"], "once a turn"


# Locks


def test_sessions_that_are_lost_at_once_are_trouble(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when our clock is ahead of Service Bus's by more than a lock lasts."""
    now = _servicebus_session.utc_now
    monkeypatch.setattr(_servicebus_session, "utc_now", lambda: now() + timedelta(minutes=1))
    bus.publisher().publish(COMMANDS, [command(CHAIR, 1)])
    receiver = bus.receiver()
    with pytest.raises(Unavailable, match="does this clock differ from that of Service Bus"):
        receiver.receive(1, LONG_SECONDS)
    monkeypatch.undo()

    def it_comes() -> bool:
        with suppress(Unavailable):
            return bool(receiver.receive(1, 1.0))
        return False

    wait_for(it_comes)


def test_a_lock_is_renewed_for_as_long_as_a_message_is_in_hand(quick_bus: Bus) -> None:
    quick_bus.publisher().publish(COMMANDS, [command(CHAIR, 1), command(CHAIR, 2)])
    holder, other = quick_bus.receiver("holder"), quick_bus.receiver("other")
    in_hand = gather(holder, 2)
    assert list(other.receive(10, 3.0)) == [], "it waited for longer than a lock lasts"
    holder.accept(in_hand)
    assert nothing_comes(holder), "it lost the lock, and took it again"


def test_a_lock_that_runs_out_in_the_middle_has_its_effect_once(quick_bus: Bus, sqlite_url: str) -> None:
    with shop(sqlite_url, quick_bus) as application:
        application.bus.handle(CreateBatch(f"batch-{CHAIR}", CHAIR, 10))
        body = msgspec.json.encode({"batchref": f"batch-{CHAIR}", "qty": 3})
        quick_bus.send(ServiceBusMessage(body, session_id=CHAIR))
        quick_bus.publisher().publish(COMMANDS, [change(4)])
        slow, heir = quick_bus.receiver("slow"), quick_bus.receiver("heir")
        in_hand = gather(slow, 2)
        hang(slow)
        taken = Watched(heir)
        while len(taken.received) < 2:
            Consumer(application, taken, Flag()).serve(1.0)
        assert [delivery.attempts for delivery in taken.received] == [2, 2]
        Consumer(application, Given(slow, in_hand), Flag()).serve(0.1)  # it comes back to life
        assert changes(application) == {CHAIR: [3, 4]}
        assert application.dead_letters.newest() == []
        assert nothing_comes(heir)


def hang(receiver: Receiver) -> None:
    """Nobody renews its locks any more."""
    assert isinstance(receiver, ServiceBusReceiver)
    assert receiver._renewer is not None
    receiver._renewer.close()


class Watched(Receiver):
    """Passes everything on, and notes what was received."""

    def __init__(self, receiver: Receiver) -> None:
        self.capabilities, self._receiver, self.received = receiver.capabilities, receiver, list[Delivery]()

    def receive(self, most: int, wait_seconds: float) -> Sequence[Delivery]:
        found = self._receiver.receive(most, wait_seconds)
        self.received += found
        return found

    def accept(self, deliveries: Sequence[Delivery]) -> None:
        self._receiver.accept(deliveries)

    def release(self, deliveries: Sequence[Delivery], delay_seconds: float = 0.0) -> None:
        self._receiver.release(deliveries, delay_seconds)

    def reject(self, delivery: Delivery, reason: str) -> None:
        self._receiver.reject(delivery, reason)

    def close(self) -> None:
        self._receiver.close()


class Given(Watched):
    """Hands over what was received before."""

    def __init__(self, receiver: Receiver, deliveries: Sequence[Delivery]) -> None:
        super().__init__(receiver)
        self._given = deliveries

    def receive(self, most: int, wait_seconds: float) -> Sequence[Delivery]:
        return self._given


# What is released


def test_an_outage_behind_us_uses_up_no_deliveries(quick_bus: Bus) -> None:
    receiver = quick_bus.receiver()
    quick_bus.publisher().publish(COMMANDS, [command(CHAIR, 1), command(CHAIR, 2)])
    for _ in range(10):
        receiver.release(gather(receiver, 2))
    in_hand = gather(receiver, 2)
    assert [(event_in(delivery).id, delivery.attempts) for delivery in in_hand] == [
        (f"{CHAIR}-1", 1),
        (f"{CHAIR}-2", 1),
    ]
    receiver.release(in_hand)
    receiver.close()
    other = quick_bus.receiver("other")
    assert [delivery.attempts for delivery in gather(other, 2)] == [1, 1], "closing a session is no failure"
    assert quick_bus.dead() == []


def test_a_session_that_has_to_wait_lets_others_have_their_turn(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "TURN_SECONDS", 0.3)
    url = "servicebus://?sessions=1&socket_seconds=0.05"
    receiver = service_bus.receiver(url, bus.namespace, "one", bus.connection)
    bus.opened.append(receiver)
    bus.publisher().publish(COMMANDS, [command(CHAIR, 1)])
    receiver.release(gather(receiver, 1), delay_seconds=60.0)
    bus.publisher().publish(COMMANDS, [command(TABLE, 1)])
    [other] = gather(receiver, 1)
    assert event_in(other).id == f"{TABLE}-1"
    receiver.accept([other])
    [again] = gather(receiver, 1)
    assert (event_in(again).id, again.attempts) == (f"{CHAIR}-1", 1), "the delay is forgotten, no delivery is used up"


# Order


def test_what_comes_while_a_message_is_in_hand_keeps_its_order(bus: Bus) -> None:
    receiver, publisher = bus.receiver(), bus.publisher()
    publisher.publish(COMMANDS, [command(CHAIR, 1)])
    in_hand = gather(receiver, 1)
    assert nothing_comes(receiver)  # by now nobody listens to the session
    for number in (2, 3, 4):
        publisher.publish(COMMANDS, [command(CHAIR, number)])
    receiver.accept(in_hand)
    assert drain(receiver, 3) == [f"{CHAIR}-{number}" for number in (2, 3, 4)]


def test_a_sku_keeps_its_order_while_more_of_it_comes(bus: Bus) -> None:
    receiver, publisher, count = bus.receiver(), bus.publisher(), 120

    def go_on() -> None:
        for number in range(count):
            assert list(publisher.publish(COMMANDS, [command(CHAIR, number)])) == [None]

    with ThreadPoolExecutor(1) as threads:
        sending = threads.submit(go_on)
        assert drain(receiver, count) == [f"{CHAIR}-{number}" for number in range(count)]
        sending.result()


# A peer that is away


def test_a_peer_that_is_killed_under_load_loses_nothing_and_doubles_nothing(bus: Bus, sqlite_url: str) -> None:
    skus, count = ("SKU-1", "SKU-2", "SKU-3"), 20
    with shop(sqlite_url, bus) as application:
        for sku in skus:
            application.bus.handle(CreateBatch(f"batch-{sku}", sku, 1_000))
        publisher = bus.publisher()
        wanted = [change(number, sku) for number in range(count) for sku in skus]
        assert not any(publisher.publish(COMMANDS, wanted[:30]))
        with serving(application):
            wait_for(lambda: len(changes(application)) > 0)
            bus.server.kill()
            application.bus.handle(Allocate("o-1", skus[0], 1))
            assert all(isinstance(one, Unavailable) for one in publisher.publish(COMMANDS, wanted[30:]))
            bus.server.start()
            deadline = time.monotonic() + 20
            while any(publisher.publish(COMMANDS, wanted[30:])):
                assert time.monotonic() < deadline
            wait_for(lambda: changes(application) == {sku: list(range(count)) for sku in skus})
            facts: dict[str, Told] = {}  # what went out just before the kill comes again, under the same id
            while len(facts) < len(skus) * (count + 1) + 1:
                more = bus.told(FACTS, 1)
                assert more
                for fact in more:
                    facts.setdefault(fact.id, fact)
        assert application.dead_letters.newest() == []
        in_the_log: dict[str, list[int]] = {}
        for one in application.views.events((), 100_000).events:
            in_the_log.setdefault(one.key, []).append(one.version)
    told: dict[str, list[int]] = {}
    for fact in facts.values():
        told.setdefault(fact.key, []).append(fact.version)
    assert told == in_the_log


def test_one_that_takes_connections_and_says_nothing_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[ServiceBusReceiver.__module__], "WAIT_FOR_A_SESSION_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        connection = (
            f"Endpoint=sb://127.0.0.1:{silent.getsockname()[1]};SharedAccessKeyName=a;SharedAccessKey=b;"
            "UseDevelopmentEmulator=true;"
        )
        url = "servicebus://?sessions=1&patience_seconds=0.5&socket_seconds=0.05"
        publisher = service_bus.publisher(url, "n", connection)
        receiver = service_bus.receiver(url, "n", "o", connection)
        with closing(publisher), closing(receiver):
            [outcome] = publisher.publish(FACTS, [command(CHAIR, 1)])
            assert isinstance(outcome, Unavailable)
            with pytest.raises(Unavailable):
                receiver.receive(1, 1.0)


def test_a_settlement_that_is_not_answered_does_not_hold_up_the_others_for_long(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules[ServiceBusReceiver.__module__], "WAIT_FOR_A_SESSION_SECONDS", 0.2)
    bus.publisher().publish(COMMANDS, [command(CHAIR, 1)])
    with closing(Hole(bus.server)) as hole:
        receiver = service_bus.receiver(URL, bus.namespace, "one", hole.connection_string)
        with closing(receiver):
            in_hand = gather(receiver, 1)
            hole.swallow()
            begin = time.monotonic()
            receiver.accept(in_hand)
            assert time.monotonic() - begin < 20, "it waited for the minute that the SDK grants"


def test_one_that_says_nothing_to_a_connection_gets_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """As behind a load balancer that lost its servers: those that are back see no connection but a new one."""
    monkeypatch.setattr(sys.modules[ServiceBusReceiver.__module__], "WAIT_FOR_A_SESSION_SECONDS", 0.2)
    url = "servicebus://?sessions=1&patience_seconds=0.2"
    with socket.create_server((f"127.56.71.{randint(2, 254)}", 5671)) as silent:  # the port of TLS is fixed
        connection = f"Endpoint=sb://{silent.getsockname()[0]}/;SharedAccessKeyName=a;SharedAccessKey=b"
        silent.setblocking(False)
        publisher = service_bus.publisher(url, "n", connection)
        receiver = service_bus.receiver(url, "n", "o", connection)
        with closing(publisher):
            tried_again(silent, lambda: publisher.publish(FACTS, [command(CHAIR, 1)]))
        with closing(receiver):
            tried_again(silent, lambda: receiver.receive(1, 0.1))


def tried_again(silent: socket.socket, attempt: Callable[[], object]) -> None:
    """Returns once a second connection is there; none is ever closed from this side before."""
    accepted = []

    def both_are_there() -> bool:
        with suppress(Unavailable):
            attempt()
        with suppress(BlockingIOError):
            accepted.append(silent.accept()[0])
        return len(accepted) == 2

    wait_for(both_are_there)
    for one in accepted:
        one.close()


def test_entities_that_are_not_there_are_told_so(bus: Bus) -> None:
    publisher = service_bus.publisher(URL, "nowhere", bus.connection)
    bus.opened.append(publisher)
    [outcome] = publisher.publish(FACTS, [command(CHAIR, 1)])
    assert isinstance(outcome, Unavailable)
    assert str(outcome) == "Service Bus has no nowhere.facts: `allocation topology provision` creates it"
