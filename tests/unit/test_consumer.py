"""From a broker to the bus: what is acknowledged when, what is parked, what comes again."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from threading import Event as Flag
from typing import Any

import pytest

from allocation.adapters.brokers.memory import MemoryReceiver
from allocation.bootstrap import Application, bootstrap, receivers_of
from allocation.config import Settings
from allocation.domain.commands import Allocate, CreateBatch
from allocation.entrypoints.consumer import MOST_DELIVERIES, Consumer, serve_all
from allocation.service_layer.answers import Answer
from allocation.service_layer.broker import Capabilities, Delivery, Receiver
from allocation.service_layer.envelope import CommandEnvelope
from allocation.service_layer.errors import SetupError, Unavailable
from allocation.service_layer.handlers import COMMAND_HANDLERS

CHAIR = "RED-CHAIR"
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class Queue(Receiver):
    """Hands over what it is given, and notes what becomes of it."""

    capabilities = Capabilities(acknowledged=True)

    def __init__(self, *bodies: object, attempts: int = 1) -> None:
        self.waiting = [delivery(body, f"d-{n}", attempts) for n, body in enumerate(bodies)]
        self.said: list[tuple[str, str]] = []
        self.unreachable = False

    def receive(self, most: int, wait_seconds: float) -> Sequence[Delivery]:
        if self.unreachable:
            raise Unavailable("the broker is away")
        taken, self.waiting = self.waiting[:most], self.waiting[most:]
        return taken

    def accept(self, deliveries: Sequence[Delivery]) -> None:
        self.said += [("accept", d.id) for d in deliveries]

    def release(self, deliveries: Sequence[Delivery], delay_seconds: float = 0.0) -> None:
        self.said += [("release", d.id) for d in deliveries]
        self.waiting = [*deliveries, *self.waiting]

    def reject(self, delivery: Delivery, reason: str) -> None:
        self.said.append(("reject", delivery.id))

    def close(self) -> None:
        self.said.append(("close", ""))


def delivery(body: object, name: str, attempts: int = 1, source: str = "queue") -> Delivery:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Delivery(data, source, name, {}, CHAIR, attempts)


def asks(kind: str, message_id: str = "m-1", **fields: object) -> dict[str, object]:
    """A command as a CloudEvent."""
    about = {"specversion": "1.0", "id": message_id, "source": "//erp", "type": f"allocation.{kind}"}
    return {**about, "schemaversion": 1, "data": fields}


@pytest.fixture
def application() -> Iterator[Application]:
    made = bootstrap(Settings(database_url="memory:", body_limit_bytes=2_000))
    made.bus.handle(CreateBatch("b1", CHAIR, 10))
    yield made
    made.close()


def serve(application: Application, queue: Receiver, rounds: int = 1) -> None:
    consumer = Consumer(application, queue, Flag())
    for _ in range(rounds):
        consumer.serve(0.0)


def quantity(application: Application) -> int:
    batch = application.views.batch("b1")
    assert batch is not None
    return batch.qty


# What is understood


def test_commands_come_in_as_cloud_events(application: Application) -> None:
    queue = Queue(
        asks("Allocate", "m-1", orderid="o1", sku=CHAIR, qty=4),
        asks("ChangeBatchQuantity", "m-2", ref="b1", qty=3),
        asks("CreateBatch", "m-3", ref="b2", sku=CHAIR, qty=4, eta="2031-05-01"),
    )
    serve(application, queue)
    [line] = application.views.order("o1")
    assert (line.status, line.batchref) == ("allocated", "b2")
    assert queue.said == [("accept", "d-0"), ("accept", "d-1"), ("accept", "d-2")]


def test_the_books_bare_message_comes_in_too(application: Application) -> None:
    serve(application, Queue({"batchref": "b1", "qty": 7}))
    assert quantity(application) == 7


def test_a_batch_of_deliveries_is_one_group(application: Application) -> None:
    groups: list[int] = []

    class Counting:
        envelope = application.bus.envelope

        def handle_many(self, envelopes: Sequence[CommandEnvelope]) -> list[Answer]:
            groups.append(len(envelopes))
            return application.bus.handle_many(envelopes)

    bodies = [asks("Allocate", f"m-{n}", orderid=f"o{n}", sku=CHAIR, qty=1) for n in range(5)]
    serve(replace(application, bus=Counting()), Queue(*bodies))  # type: ignore[arg-type]  # all that is asked of a bus here
    assert groups == [5]


def test_what_led_to_a_command_stands_on_its_events(application: Application) -> None:
    body = asks("ChangeBatchQuantity", ref="b1", qty=7) | {"correlationid": "cart-7", "traceparent": TRACE}
    serve(application, Queue(body))
    logged = application.views.events((), 10).events[-1]
    assert (logged.correlation_id, logged.traceparent, logged.causation_id) == ("cart-7", TRACE, "m-1")


@pytest.mark.parametrize("nonsense", ["a b", "x" * 300, "\x00", ""])
def test_nonsense_about_what_led_to_it_is_left_aside(application: Application, nonsense: str) -> None:
    body = asks("ChangeBatchQuantity", ref="b1", qty=7) | {"correlationid": nonsense, "traceparent": nonsense}
    serve(application, Queue(body))
    logged = application.views.events((), 10).events[-1]
    assert (len(logged.correlation_id), logged.traceparent) == (32, None)


# Once


def test_a_message_is_done_once_under_its_own_id(application: Application) -> None:
    bodies = [asks("ChangeBatchQuantity", m, ref="b1", qty=qty) for m, qty in (("m-1", 7), ("m-2", 8), ("m-1", 7))]
    serve(application, Queue(*bodies))
    assert quantity(application) == 8


def test_ids_of_different_senders_do_not_meet(application: Application) -> None:
    first = asks("ChangeBatchQuantity", ref="b1", qty=7)
    serve(application, Queue(first, {**first, "source": "//shop", "data": {"ref": "b1", "qty": 9}}))
    assert quantity(application) == 9


def test_without_an_id_the_brokers_own_stands_for_it(application: Application) -> None:
    queue = Queue({"batchref": "b1", "qty": 7}, {"batchref": "b1", "qty": 8})
    first = queue.waiting[0]
    serve(application, queue)
    queue.waiting = [first]
    serve(application, queue)
    assert quantity(application) == 8


def test_an_id_that_stands_for_another_command_is_parked(application: Application) -> None:
    serve(application, Queue(*(asks("ChangeBatchQuantity", "m-1", ref="b1", qty=qty) for qty in (7, 8))))
    assert quantity(application) == 7
    [letter] = application.dead_letters.newest()
    assert "m-1" in letter.reason


# Bad messages

BAD: list[tuple[Any, str]] = [
    (b"{not json", "JSON"),
    (b"", "JSON"),
    (b"\xff\xfe{\x00}\x00", "JSON"),
    (b"[" * 1_900, "not an object"),
    (b'{"specversion":"1.0","id":"m","source":"s","type":"allocation.Allocate","data":' + b"[" * 1_500, "JSON"),
    (b"null", "not an object"),
    (b'"text"', "not an object"),
    (b'{"batchref": "b1", "qty": NaN}', "JSON"),
    (b'{"batchref": "b1", "qty": 1e400}', "qty"),
    ({"batchref": "b1"}, "qty"),
    ({"batchref": "b1", "qty": True}, "qty"),
    ({"batchref": "b1", "qty": 1.5}, "qty"),
    ({"batchref": "b1", "qty": 2**63}, "qty"),
    ({"batchref": "b\x00", "qty": 1}, "batchref"),
    ({"batchref": "nowhere", "qty": 5}, "There is no batch nowhere"),
    ({"batchref": "b1", "qty": 5, "id": "\x00"}, "id"),
    (asks("Destroy", ref="b1"), "unknown message type 'Destroy'"),
    (asks("Allocated", orderid="o", sku=CHAIR, qty=1, batchref="b1"), "unknown message type"),
    ({**asks("ChangeBatchQuantity", ref="b1", qty=5), "type": "shop.ChangeBatchQuantity"}, "unknown message type"),
    ({**asks("ChangeBatchQuantity", ref="b1", qty=5), "schemaversion": 2}, "schema version '2'"),
    ({**asks("ChangeBatchQuantity", ref="b1", qty=5), "specversion": "0.3"}, "0.3"),
    ({**asks("ChangeBatchQuantity", ref="b1", qty=5), "id": ""}, "attribute id"),
    (asks("ChangeBatchQuantity", ref="b1"), "`qty`"),
    (asks("ChangeBatchQuantity", ref="b1", qty="5"), "qty"),
    (asks("ChangeBatchQuantity", ref="b1", qty=-5), "-5"),
    (asks("ChangeBatchQuantity", ref=None, qty=5), "ref"),
    (asks("ChangeBatchQuantity", ref="nowhere", qty=5), "There is no batch nowhere"),
    (asks("Allocate", orderid="o1", sku="NO-SUCH", qty=1), "NO-SUCH"),
    (asks("Allocate", orderid="o\x001", sku=CHAIR, qty=1), "'o\\x001'"),
    (asks("CreateBatch", ref="b2", sku=CHAIR, qty=1, eta="2031-02-30"), "eta"),
    (asks("Allocate", orderid="x" * 2_000, sku=CHAIR, qty=1), "bytes, more than 2000"),
]


@pytest.mark.parametrize(("bad", "reason"), BAD)
def test_a_bad_message_is_parked_with_its_reason_and_the_others_go_on(
    application: Application, bad: Any, reason: str
) -> None:
    queue = Queue(
        asks("ChangeBatchQuantity", "before", ref="b1", qty=7),
        bad,
        asks("ChangeBatchQuantity", "after", ref="b1", qty=8),
    )
    serve(application, queue)
    assert sorted(queue.said) == [("accept", "d-0"), ("accept", "d-2"), ("reject", "d-1")]
    [letter] = application.dead_letters.newest()
    assert letter.source == "queue"
    assert reason in letter.reason
    assert quantity(application) == 8


def test_a_handler_that_fails_parks_its_message_alone() -> None:
    def fail(_command: object, uow: object) -> None:
        raise ZeroDivisionError("no such number")

    application = bootstrap(Settings(database_url="memory:"), handlers={**COMMAND_HANDLERS, Allocate: fail})
    application.bus.handle(CreateBatch("b1", CHAIR, 10))
    queue = Queue(asks("Allocate", orderid="o1", sku=CHAIR, qty=4), {"batchref": "b1", "qty": 7})
    serve(application, queue)
    [letter] = application.dead_letters.newest()
    assert letter.reason == "ZeroDivisionError: no such number"
    assert quantity(application) == 7
    application.close()


# Trouble


class Away:
    """Stands before a part of an application, and is away for the first `times` calls of `method`."""

    def __init__(self, there: Any, method: str, times: int) -> None:
        self._there, self._method, self._times = there, method, times

    def __getattr__(self, name: str) -> Any:
        if name == self._method and self._times > 0:
            self._times -= 1
            raise Unavailable("the database is away")
        return getattr(self._there, name)


def test_while_the_database_is_away_nothing_is_settled_and_nothing_received(application: Application) -> None:
    queue = Queue(
        asks("ChangeBatchQuantity", "m-1", ref="b1", qty=7), asks("ChangeBatchQuantity", "m-2", ref="b1", qty=8)
    )
    bus, views = Away(application.bus, "handle_many", 1), Away(application.views, "ready", 2)
    shaken = replace(application, bus=bus, views=views)  # type: ignore[arg-type]  # what is behind them is
    serve(shaken, queue)
    assert queue.said == [("release", "d-0"), ("release", "d-1")]
    assert views._times == 0
    serve(shaken, queue)
    assert queue.said[2:] == [("accept", "d-0"), ("accept", "d-1")]
    assert [d.attempts for d in queue.waiting] == []
    assert quantity(application) == 8


def test_a_message_that_cannot_be_parked_now_is_not_lost(application: Application) -> None:
    queue = Queue(b"{", asks("ChangeBatchQuantity", ref="b1", qty=7))
    letters = Away(application.dead_letters, "keep", 1)
    shaken = replace(application, dead_letters=letters)  # type: ignore[arg-type]  # what is behind it is
    serve(shaken, queue)
    assert queue.said == [("release", "d-0"), ("release", "d-1")]
    serve(shaken, queue)
    assert sorted(queue.said[2:]) == [("accept", "d-1"), ("reject", "d-0")]
    assert len(application.dead_letters.newest()) == 1
    assert quantity(application) == 7


def test_a_broker_that_is_away_is_asked_again(application: Application) -> None:
    queue = Queue(asks("ChangeBatchQuantity", ref="b1", qty=7))
    queue.unreachable = True
    serve(application, queue, rounds=2)
    queue.unreachable = False
    serve(application, queue)
    assert queue.said == [("accept", "d-0")]


def test_what_comes_again_and_again_is_parked_unless_it_stands_behind_another(application: Application) -> None:
    queue = Queue(
        asks("ChangeBatchQuantity", "m-1", ref="b1", qty=7),
        asks("ChangeBatchQuantity", "m-2", ref="b1", qty=8),
        attempts=MOST_DELIVERIES + 1,
    )
    serve(application, queue)
    assert queue.said == [("reject", "d-0"), ("accept", "d-1")]
    [letter] = application.dead_letters.newest()
    assert f"{MOST_DELIVERIES + 1} times" in letter.reason
    assert quantity(application) == 8


def test_what_came_before_is_tried_alone_and_settled_before_the_next() -> None:
    told: list[str] = []
    application = bootstrap(Settings(database_url="memory:"))
    application.bus.handle(CreateBatch("b1", CHAIR, 10))

    class Telling:
        envelope = application.bus.envelope

        def handle_many(self, envelopes: Sequence[CommandEnvelope]) -> list[Answer]:
            told.append(f"handle {', '.join(e.id for e in envelopes)}")
            return application.bus.handle_many(envelopes)

    class Queued(Queue):
        def accept(self, deliveries: Sequence[Delivery]) -> None:
            told.append(f"accept {len(deliveries)}")

    queue = Queued()
    for n, attempts in enumerate((2, 3, 1, 1)):
        body = asks("ChangeBatchQuantity", f"m-{n}", ref="b1", qty=n + 1)
        queue.waiting.append(delivery(body, f"d-{n}", attempts))
    serve(replace(application, bus=Telling()), queue)  # type: ignore[arg-type]  # all that is asked of a bus here
    assert told == ["handle m-0", "accept 1", "handle m-1", "accept 1", "handle m-2, m-3", "accept 2"]
    application.close()


def test_a_fault_of_ours_ends_the_process_and_is_told(application: Application) -> None:
    class Broken(Queue):
        def receive(self, most: int, wait_seconds: float) -> Sequence[Delivery]:
            raise RuntimeError("a fault")

    stopping, sound = Flag(), Queue()
    with pytest.raises(RuntimeError, match="a fault"):
        serve_all(application, {"broken": Broken(), "sound": sound}, stopping)
    assert stopping.is_set()
    assert sound.said == [("close", "")]


def test_the_settings_name_what_to_receive_from() -> None:
    application = bootstrap(Settings(database_url="memory:", receive_from="memory:"))
    assert {name: type(r) for name, r in receivers_of(application).items()} == {"memory": MemoryReceiver}
    other = bootstrap(Settings(database_url="memory:", receive_from="carrier-pigeon://"))
    with pytest.raises(SetupError, match="carrier-pigeon"):
        receivers_of(other)
