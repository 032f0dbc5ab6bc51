"""The peer of Service Bus keeps to what is published about Azure, as far as the real SDK can see it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from azure.servicebus import (
    NEXT_AVAILABLE_SESSION,
    ServiceBusClient,
    ServiceBusMessage,
    ServiceBusReceivedMessage,
    ServiceBusReceiveMode,
    ServiceBusReceiver,
    ServiceBusSubQueue,
)
from azure.servicebus.exceptions import (
    MessageLockLostError,
    MessagingEntityNotFoundError,
    OperationTimeoutError,
    ServiceBusError,
    SessionCannotBeLockedError,
)

from tests.servers.service_bus import PrivateServiceBus
from tests.servers.service_bus.making import make

LONG_SECONDS, SHORT_SECONDS = 10.0, 0.3


class Place:
    """A queue of a test's own."""

    def __init__(self, server: PrivateServiceBus) -> None:
        self.server, self.name = server, f"q{uuid4().hex[:10]}"
        self.client = ServiceBusClient.from_connection_string(server.connection_string, retry_total=0)

    def make(self, **told: object) -> None:
        make(self.server.admin_port, self.name, "Queue", **told)

    def send(self, *messages: str | ServiceBusMessage) -> None:
        with self.client.get_queue_sender(self.name, socket_timeout=0.05) as sender:
            sender.send_messages([ServiceBusMessage(m) if isinstance(m, str) else m for m in messages])

    def receiver(self, **settings: object) -> ServiceBusReceiver:
        return self.client.get_queue_receiver(self.name, socket_timeout=0.05, **settings)  # type: ignore[arg-type]  # theirs

    def dead(self) -> list[tuple[str | None, str]]:
        with self.receiver(sub_queue=ServiceBusSubQueue.DEAD_LETTER) as receiver:
            return [(one.dead_letter_reason, str(one)) for one in receiver.receive_messages(10, SHORT_SECONDS)]


@pytest.fixture
def place(service_bus: PrivateServiceBus) -> Iterator[Place]:
    place = Place(service_bus)
    yield place
    place.client.close()


def one(receiver: ServiceBusReceiver) -> ServiceBusReceivedMessage:
    [message] = receiver.receive_messages(1, LONG_SECONDS)
    return message


def test_what_is_abandoned_comes_again_and_is_dead_lettered_at_last(place: Place) -> None:
    place.make(MaxDeliveryCount=2)
    place.send("m")
    with place.receiver() as receiver:
        first = one(receiver)
        assert (first.delivery_count or 0, first.sequence_number) == (0, 1)
        receiver.abandon_message(first)
        again = one(receiver)
        assert (again.delivery_count, again.sequence_number) == (1, 1)
        receiver.abandon_message(again)
        assert receiver.receive_messages(1, SHORT_SECONDS) == []
    assert place.dead() == [("MaxDeliveryCountExceeded", "m")]


def test_what_is_dead_lettered_keeps_its_reason(place: Place) -> None:
    place.make()
    place.send("m")
    with place.receiver() as receiver:
        receiver.dead_letter_message(one(receiver), reason="bad", error_description="very")
    assert place.dead() == [("bad", "m")]


def test_a_lock_runs_out_unless_it_is_renewed(place: Place) -> None:
    place.make(LockDuration="PT2S")
    place.send("m")
    with place.receiver() as receiver, place.receiver() as other:
        message = one(receiver)
        assert other.receive_messages(1, 1.2) == []
        receiver.renew_message_lock(message)
        assert other.receive_messages(1, 1.2) == []
        again = one(other)
        assert again.delivery_count == 1
        with pytest.raises(MessageLockLostError):
            receiver.complete_message(message)
        other.complete_message(again)


def test_a_duplicate_is_accepted_and_dropped(place: Place) -> None:
    place.make(RequiresDuplicateDetection="true")
    place.send(*(ServiceBusMessage("m", message_id="same") for _ in range(3)))
    with place.receiver(receive_mode=ServiceBusReceiveMode.RECEIVE_AND_DELETE) as receiver:
        assert len(receiver.receive_messages(10, SHORT_SECONDS)) == 1


def test_a_scheduled_message_comes_when_it_is_due_and_may_be_cancelled(place: Place) -> None:
    place.make()
    due = datetime.now(UTC) + timedelta(seconds=0.7)
    with place.client.get_queue_sender(place.name) as sender:
        sender.schedule_messages(ServiceBusMessage("later"), due)
        sender.cancel_scheduled_messages(sender.schedule_messages(ServiceBusMessage("never"), due))
    with place.receiver() as receiver:
        assert [str(message) for message in receiver.receive_messages(2, 2.0)] == ["later"]
        assert datetime.now(UTC) >= due


def test_what_is_deferred_is_had_by_its_number_and_what_waits_may_be_looked_at(place: Place) -> None:
    place.make()
    place.send("a", "b")
    with place.receiver() as receiver:
        assert [str(message) for message in receiver.peek_messages(5)] == ["a", "b"]
        first = one(receiver)
        receiver.defer_message(first)
        assert str(one(receiver)) == "b"
        assert first.sequence_number is not None
        [again] = receiver.receive_deferred_messages(first.sequence_number)
        receiver.complete_message(again)


def test_what_is_too_old_is_dead_lettered_where_that_was_asked_for(place: Place) -> None:
    place.make(DeadLetteringOnMessageExpiration="true")
    place.send(ServiceBusMessage("old", time_to_live=timedelta(seconds=1)))
    with place.receiver(sub_queue=ServiceBusSubQueue.DEAD_LETTER) as dead:
        message = one(dead)
    assert (message.dead_letter_reason, str(message)) == ("TTLExpiredException", "old")


def test_a_session_has_one_holder_keeps_its_state_and_counts_no_failure_when_it_is_closed(place: Place) -> None:
    place.make(RequiresSession="true")
    place.send(*(ServiceBusMessage(f"{key}{n}", session_id=key) for n in (1, 2) for key in "ab"))
    with place.receiver(session_id=NEXT_AVAILABLE_SESSION) as first, place.receiver(session_id="b") as second:
        assert first.session.session_id == "a"
        assert [str(message) for message in second.receive_messages(5, SHORT_SECONDS)] == ["b1", "b2"]
        with pytest.raises(SessionCannotBeLockedError):
            place.receiver(session_id="a").receive_messages(1, LONG_SECONDS)
        with pytest.raises(OperationTimeoutError):
            place.receiver(session_id=NEXT_AVAILABLE_SESSION, max_wait_time=0.5).receive_messages(1, LONG_SECONDS)
        first.session.set_state("half way")
        first.complete_message(one(first))
        one(first)
    with place.receiver(session_id="a") as again:
        assert again.session.get_state() == b"half way"
        message = one(again)
        assert (str(message), message.delivery_count or 0) == ("a2", 0)


def test_what_does_not_fit_an_entity_is_refused(place: Place) -> None:
    with pytest.raises(MessagingEntityNotFoundError):
        place.send("nowhere")
    place.make(RequiresSession="true")
    with pytest.raises(ServiceBusError, match="SessionId"):
        place.send("without a session")
    with pytest.raises(ServiceBusError, match="requires sessions"):
        place.receiver().receive_messages(1, LONG_SECONDS)


def test_what_was_accepted_outlives_a_crash_and_what_was_done_stays_done(place: Place) -> None:
    place.make(RequiresDuplicateDetection="true")
    place.send(*(ServiceBusMessage(name, message_id=name) for name in ("done", "failed", "waiting")))
    with place.receiver() as receiver:
        receiver.complete_message(one(receiver))
        receiver.abandon_message(one(receiver))
    place.server.kill()
    place.server.start()
    place.send(ServiceBusMessage("again", message_id="done"))
    with place.receiver() as receiver:
        found = [(str(message), message.delivery_count or 0) for message in receiver.receive_messages(5, 1.0)]
    assert found == [("failed", 1), ("waiting", 0)]


def test_a_topic_knows_after_a_crash_what_it_had_let_in(place: Place) -> None:
    port, topic = place.server.admin_port, f"{place.name}-topic"
    make(port, topic, "Topic", RequiresDuplicateDetection="true")
    make(port, f"{topic}/subscriptions/all", "Subscription")
    with place.client.get_topic_sender(topic, socket_timeout=0.05) as sender:
        sender.send_messages(ServiceBusMessage("first", message_id="same"))
    place.server.kill()
    place.server.start()
    with place.client.get_topic_sender(topic, socket_timeout=0.05) as sender:
        sender.send_messages(
            [ServiceBusMessage("again", message_id="same"), ServiceBusMessage("new", message_id="new")]
        )
    with place.client.get_subscription_receiver(topic, "all", socket_timeout=0.05) as receiver:
        assert [str(message) for message in receiver.receive_messages(5, 1.0)] == ["first", "new"]
