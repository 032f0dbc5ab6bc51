"""The one suite for every broker: it asserts what a broker declares of itself, and nothing that it does not.

A broker passes it by a subclass that names its `capabilities` and gives a `rig`.
"""

from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from time import monotonic

import pytest

from allocation.service_layer.broker import COMMANDS, FACTS, Delivery, Message, Receiver
from allocation.service_layer.errors import Rejected, Unavailable
from tests.contracts.brokers import (
    LONG_SECONDS,
    SHORT_SECONDS,
    Declares,
    Rig,
    command,
    drain,
    event_in,
    gather,
    ids,
    needs,
    nothing_comes,
)
from tests.fakes import NOON

CHAIR, TABLE, LAMP = "RED-CHAIR", "SMALL-TABLE", "TALL-LAMP"


class BrokerContract(Declares):
    # What every broker does

    def test_it_declares_what_is_asserted_here(self, rig: Rig) -> None:
        assert rig.publisher().capabilities == self.capabilities
        assert rig.receiver().capabilities == self.capabilities

    def test_what_is_published_is_received_as_a_cloud_event(self, rig: Rig) -> None:
        receiver = rig.receiver()
        message = Message(
            "m-1",
            "allocation.Allocate",
            "SKU-\\",
            NOON,
            {"orderid": "o1", "sku": "SKU-\\", "qty": 2},
            extensions={"schemaversion": 1, "correlationid": "c-1", "sequence": "00000000000000000007"},
        )
        assert rig.publisher().publish(COMMANDS, [message]) == [None]
        [delivery] = gather(receiver, 1)
        event = event_in(delivery)
        assert (event.id, event.source, event.type) == ("m-1", "/allocation", "allocation.Allocate")
        assert event.data == b'{"orderid":"o1","sku":"SKU-\\\\","qty":2}'
        assert event.attributes["subject"] == "SKU-\\"
        assert datetime.fromisoformat(event.attributes["time"]) == NOON
        assert event.attributes["schemaversion"] == "1"
        assert event.attributes["correlationid"] == "c-1"
        assert event.attributes["sequence"] == "00000000000000000007"

    def test_a_delivery_names_its_queue_and_its_key(self, rig: Rig) -> None:
        receiver = rig.receiver()
        rig.publisher().publish(COMMANDS, [command(CHAIR, 1), command(CHAIR, 2)])
        first, second = gather(receiver, 2)
        assert first.source == second.source
        assert rig.namespace in first.source
        assert first.source.isascii()
        assert first.id.isascii()
        assert first.id != second.id or first.id == ""
        assert first.attempts == 1
        assert first.key in (CHAIR, None)

    def test_each_message_has_its_outcome(self, rig: Rig) -> None:
        publisher = rig.publisher()
        assert list(publisher.publish(COMMANDS, [])) == []
        assert list(publisher.publish(COMMANDS, [command(CHAIR, n) for n in range(5)])) == [None] * 5

    def test_what_the_broker_will_not_have_stops_its_key_and_no_other(self, rig: Rig) -> None:
        receiver, bad = rig.receiver(), rig.rejected()
        before, other = command(CHAIR, 1), command(TABLE, 1)
        if bad is None:  # this broker takes everything
            assert list(rig.publisher().publish(COMMANDS, [before, other])) == [None, None]
            assert sorted(drain(receiver, 2)) == [before.id, other.id]
            return
        behind = command(bad.key, 1)
        outcomes = rig.publisher().publish(COMMANDS, [before, bad, behind, other])
        assert isinstance(outcomes[1], Rejected)
        assert isinstance(outcomes[2], Rejected)
        assert (outcomes[0], outcomes[3]) == (None, None)
        assert sorted(drain(receiver, 2)) == [before.id, other.id]
        assert nothing_comes(receiver)

    def test_no_more_than_asked_for_are_handed_over(self, rig: Rig) -> None:
        receiver = rig.receiver()
        rig.publisher().publish(COMMANDS, [command(CHAIR, n) for n in range(5)])
        first = receiver.receive(3, LONG_SECONDS)
        assert 1 <= len(first) <= 3
        receiver.accept(first)
        assert len(drain(receiver, 5 - len(first))) == 5 - len(first)

    def test_waiting_for_nothing_ends_in_time(self, rig: Rig) -> None:
        receiver, started = rig.receiver(), monotonic()
        assert list(receiver.receive(10, SHORT_SECONDS)) == []
        assert SHORT_SECONDS * 0.9 <= monotonic() - started < LONG_SECONDS / 2

    def test_who_waits_is_woken(self, rig: Rig) -> None:
        receiver, publisher = rig.receiver(), rig.publisher()
        with ThreadPoolExecutor(1) as threads:
            waiting = threads.submit(gather, receiver, 1)
            publisher.publish(COMMANDS, [command(CHAIR, 1)])
            started = monotonic()
            assert len(waiting.result()) == 1
        assert monotonic() - started < LONG_SECONDS / 2

    def test_topics_and_namespaces_do_not_hear_each_other(self, rig: Rig) -> None:
        receiver, stranger = rig.receiver(), rig.receiver(namespace=f"{rig.namespace}x")
        rig.publisher().publish(FACTS, [command(CHAIR, 1, version=1)])
        rig.publisher().publish(COMMANDS, [command(CHAIR, 2)])
        assert drain(receiver, 1) == [f"{CHAIR}-2"]
        assert nothing_comes(receiver)
        assert nothing_comes(stranger)

    # Servers that go away

    @needs("a_server")
    def test_a_server_that_is_away_takes_nothing_and_is_found_again(self, rig: Rig) -> None:
        publisher, receiver = rig.publisher(), rig.receiver()
        publisher.publish(COMMANDS, [command(CHAIR, 1)])
        assert drain(receiver, 1) == [f"{CHAIR}-1"]
        rig.stop()
        outcomes = publisher.publish(COMMANDS, [command(CHAIR, 2), command(TABLE, 2)])
        assert [type(outcome) for outcome in outcomes] == [Unavailable, Unavailable]
        with pytest.raises(Unavailable):
            receiver.receive(1, SHORT_SECONDS)
        rig.start()
        rig.listening(receiver)
        deadline = monotonic() + LONG_SECONDS
        while any(publisher.publish(COMMANDS, [command(CHAIR, 3)])) and monotonic() < deadline:
            pass
        found: list[str] = []
        while f"{CHAIR}-3" not in found and monotonic() < deadline:
            deliveries = patiently(receiver)
            receiver.accept(deliveries)
            found += ids(deliveries)
        assert f"{CHAIR}-3" in found

    @needs("durable", "a_server")
    def test_what_was_accepted_outlives_a_crash(self, rig: Rig) -> None:
        publisher, receiver = rig.publisher(), rig.receiver()
        assert list(publisher.publish(COMMANDS, [command(CHAIR, n) for n in range(3)])) == [None] * 3
        receiver.accept(gather(receiver, 1))
        rig.stop()
        rig.start()
        deadline, found = monotonic() + LONG_SECONDS, []
        while len(found) < 2 and monotonic() < deadline:
            deliveries = patiently(receiver)
            found += ids(deliveries)
            receiver.accept(deliveries)
        assert found[-2:] == [f"{CHAIR}-1", f"{CHAIR}-2"]

    # Order

    @needs("ordered_by_key")
    def test_messages_of_a_key_arrive_in_order(self, rig: Rig) -> None:
        receiver, publisher = rig.receiver(), rig.publisher()
        sent = [command(key, n) for n in range(10) for key in (CHAIR, TABLE, LAMP)]
        for at in range(0, len(sent), 4):
            publisher.publish(COMMANDS, sent[at : at + 4])
        arrived = drain(receiver, len(sent))
        for key in (CHAIR, TABLE, LAMP):
            assert [i for i in arrived if i.startswith(key)] == [f"{key}-{n}" for n in range(10)]

    @needs("ordered_by_key", "acknowledged")
    def test_several_receivers_share_the_keys_and_keep_their_order(self, rig: Rig) -> None:
        receivers = [rig.receiver(f"receiver-{n}") for n in range(2)]
        publisher, keys, count = rig.publisher(), [f"SKU-{n}" for n in range(8)], 12
        publisher.publish(COMMANDS, [command(key, n) for n in range(count) for key in keys])
        heard: dict[str, list[tuple[float, str]]] = defaultdict(list)
        deadline = monotonic() + LONG_SECONDS
        while sum(map(len, heard.values())) < count * len(keys) and monotonic() < deadline:
            for receiver in receivers:
                deliveries = receiver.receive(5, 0.05)
                for delivery in deliveries:
                    heard[event_in(delivery).attributes["subject"]].append((monotonic(), event_in(delivery).id))
                receiver.accept(deliveries)
        assert {key: [i for _, i in told] for key, told in heard.items()} == {
            key: [f"{key}-{n}" for n in range(count)] for key in keys
        }

    @needs("ordered_by_key", "acknowledged")
    def test_what_is_released_comes_again_before_what_is_behind_it(self, rig: Rig) -> None:
        receiver = rig.receiver()
        rig.publisher().publish(COMMANDS, [command(CHAIR, n) for n in range(6)])
        first = gather(receiver, 4)
        receiver.accept(first[:2])
        receiver.release(first[2:])
        again = gather(receiver, 4)
        assert ids(again) == [f"{CHAIR}-{n}" for n in (2, 3, 4, 5)]
        assert all(delivery.attempts >= 1 for delivery in again)

    @needs("acknowledged")
    def test_however_often_it_is_released_it_was_never_tried(self, rig: Rig) -> None:
        """While the database takes no writes all is released, round after round: nothing is given up for that."""
        receiver = rig.receiver()
        rig.publisher().publish(COMMANDS, [command(CHAIR, 1)])
        for _ in range(3):
            [delivery] = gather(receiver, 1)
            assert delivery.attempts == 1
            receiver.release([delivery])

    # Acknowledgement

    @needs("acknowledged")
    def test_what_was_not_accepted_goes_to_another_receiver(self, rig: Rig) -> None:
        first = rig.receiver("receiver-1")
        rig.publisher().publish(COMMANDS, [command(CHAIR, n) for n in range(3)])
        before = gather(first, 3)
        first.accept(before[:1])
        first.close()
        second = rig.receiver("receiver-2")
        after = gather(second, 2)
        assert ids(after) == [f"{CHAIR}-1", f"{CHAIR}-2"]
        assert [d.id for d in after] == [d.id for d in before[1:]]
        assert [d.source for d in after] == [d.source for d in before[1:]]

    @needs("acknowledged", "a_server")
    def test_what_a_dead_receiver_had_in_hand_is_not_lost(self, rig: Rig) -> None:
        first = rig.receiver("receiver-1")
        rig.publisher().publish(COMMANDS, [command(CHAIR, n) for n in range(3)])
        gather(first, 3)
        rig.lose(first)
        second = rig.receiver("receiver-2")
        assert ids(gather(second, 3, rig.abandoned_after_seconds)) == [f"{CHAIR}-{n}" for n in range(3)]

    @needs("acknowledged")
    def test_what_is_accepted_or_rejected_never_comes_again(self, rig: Rig) -> None:
        first = rig.receiver("receiver-1")
        rig.publisher().publish(COMMANDS, [command(CHAIR, 1), command(TABLE, 2), command(LAMP, 3)])
        deliveries = gather(first, 3)
        first.accept(deliveries[:2])
        first.reject(deliveries[2], "cannot be read")
        assert nothing_comes(first)
        first.close()
        assert nothing_comes(rig.receiver("receiver-2"))

    @needs("acknowledged")
    def test_what_is_in_hand_is_not_handed_over_twice(self, rig: Rig) -> None:
        receiver = rig.receiver()
        rig.publisher().publish(COMMANDS, [command(CHAIR, 1), command(TABLE, 2)])
        in_hand = gather(receiver, 2)
        assert nothing_comes(receiver)
        receiver.accept(in_hand)

    # Extras

    @needs("replayable")
    def test_what_was_published_before_anybody_came_is_there(self, rig: Rig) -> None:
        rig.publisher().publish(COMMANDS, [command(CHAIR, n) for n in range(3)])
        assert drain(rig.receiver(), 3) == [f"{CHAIR}-{n}" for n in range(3)]

    @needs("scheduled")
    def test_what_is_released_for_later_comes_later_and_holds_no_other_key(self, rig: Rig) -> None:
        receiver, publisher = rig.receiver(), rig.publisher()
        publisher.publish(COMMANDS, [command(CHAIR, 1), command(CHAIR, 2)])
        in_hand, started = gather(receiver, 2), monotonic()
        receiver.release(in_hand, delay_seconds=1.0)
        publisher.publish(COMMANDS, [command(TABLE, 1)])
        assert drain(receiver, 1) == [f"{TABLE}-1"]
        assert monotonic() - started < 1.0
        assert drain(receiver, 2) == [f"{CHAIR}-1", f"{CHAIR}-2"]
        assert monotonic() - started >= 1.0

    @needs("filtered")
    def test_what_nobody_wants_is_left_out_by_the_broker(self, rig: Rig) -> None:
        heard = rig.subscriber("number >= 2 AND sys.SessionId LIKE 'RED-%'")
        rig.publisher().publish(FACTS, [command(key, n) for n in range(4) for key in (CHAIR, TABLE)])
        assert heard(2) == [f"{CHAIR}-2", f"{CHAIR}-3"]

    @needs("deduplicated")
    def test_a_version_that_a_key_has_passed_is_not_delivered_again(self, rig: Rig) -> None:
        receiver, publisher, zombie = rig.receiver(), rig.publisher(), rig.publisher()
        said = [command(key, n, version=n) for n in (1, 2, 3) for key in (CHAIR, TABLE)]
        assert list(publisher.publish(COMMANDS, said)) == [None] * 6
        assert list(zombie.publish(COMMANDS, said[:4])) == [None] * 4
        publisher.publish(COMMANDS, [command(CHAIR, 4, version=4), command(TABLE, 4, version=4)])
        arrived = drain(receiver, 8)
        for key in (CHAIR, TABLE):
            assert [i for i in arrived if i.startswith(key)] == [f"{key}-{n}" for n in (1, 2, 3, 4)]
        assert nothing_comes(receiver)

    @needs("deduplicated")
    def test_without_a_version_nothing_is_taken_for_a_duplicate(self, rig: Rig) -> None:
        receiver, publisher = rig.receiver(), rig.publisher()
        publisher.publish(COMMANDS, [command(CHAIR, 1, version=7)])
        publisher.publish(COMMANDS, [command(CHAIR, 2), command(CHAIR, 2)])
        assert drain(receiver, 3) == [f"{CHAIR}-1", f"{CHAIR}-2", f"{CHAIR}-2"]


def patiently(receiver: Receiver) -> list[Delivery]:
    """Receive from one whose server has just come back: its first calls may fail."""
    try:
        return list(receiver.receive(5, SHORT_SECONDS))
    except Unavailable:
        return []
