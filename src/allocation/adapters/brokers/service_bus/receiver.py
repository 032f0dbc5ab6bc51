"""Receives from Service Bus: commands from the queue `NAMESPACE.commands`, several sessions at a time.

Messages are given back to Service Bus only by letting a session go: what is released waits here, with its session
locked, and is handed out again in order (decision 48 says why neither abandoning it nor scheduling a copy would do).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Condition
from time import monotonic

from azure.servicebus import NEXT_AVAILABLE_SESSION, AutoLockRenewer, ServiceBusReceivedMessage
from azure.servicebus import ServiceBusReceiver as SdkReceiver

from allocation.adapters.brokers.service_bus.address import CAPABILITIES, Address, entity_of
from allocation.adapters.brokers.service_bus.failures import FAILURES, LOST, log, translated
from allocation.adapters.brokers.service_bus.sessions import READ_AHEAD, Seat, Session, clear
from allocation.adapters.brokers.service_bus.wire import incoming
from allocation.service_layer.broker import COMMANDS, Delivery, Receiver
from allocation.service_layer.errors import Unavailable

WAIT_FOR_A_SESSION_SECONDS = 30.0
LONGEST_HOLD_SECONDS = 300.0
"""How long a handler may hang before its messages go to another receiver."""
LONGEST_REASON = 4_096  # characters, of Service Bus


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """Where a delivery stands: the token of its `Delivery`."""

    session: Session
    number: int


Settle = Callable[[SdkReceiver, ServiceBusReceivedMessage], None]


class ServiceBusReceiver(Receiver):
    """The `hall` of its seats."""

    capabilities = CAPABILITIES

    def __init__(self, address: Address, namespace: str, owner: str) -> None:
        self._address, self._owner = address, owner
        self._entity = entity_of(namespace, COMMANDS)
        self._opening_seconds = WAIT_FOR_A_SESSION_SECONDS + address.patience_seconds
        self._client = address.client(self._opening_seconds)
        self._renewer: AutoLockRenewer | None = None
        self._seats: list[Seat] = []
        self._trouble: Unavailable | None = None
        self.changed, self.is_closing = Condition(), False
        self.sessions: list[Session] = []

    def receive(self, most: int, wait_seconds: float) -> Sequence[Delivery]:
        self._open()
        until, found = monotonic() + wait_seconds, []
        with self.changed:
            while not (found := self._due(most)) and self._trouble is None and (left := until - monotonic()) > 0:
                self.changed.wait(min(left, self._seconds_to_the_next()))
            if not found and self._trouble is not None:
                raise self._trouble
            if not found and all(seat.is_stuck(self._opening_seconds) for seat in self._seats):
                raise Unavailable(f"Service Bus accepts connections for {self._entity}, but does not answer")
        return found

    def accept(self, deliveries: Sequence[Delivery]) -> None:
        self._settle(deliveries, lambda receiver, message: receiver.complete_message(message))

    def release(self, deliveries: Sequence[Delivery], delay_seconds: float = 0.0) -> None:
        due = monotonic() + delay_seconds
        with self.changed:
            for place in map(_place, deliveries):
                if place.number in place.session.kept:
                    place.session.kept[place.number].due = due
            self.changed.notify_all()

    def reject(self, delivery: Delivery, reason: str) -> None:
        told = reason[:LONGEST_REASON]
        self._settle(
            [delivery],
            lambda receiver, message: receiver.dead_letter_message(message, reason=told, error_description=told),
        )

    def close(self) -> None:
        with self.changed:
            self.is_closing = True
            self.changed.notify_all()
        is_clear = not self._seats or clear(self._seats, self._address.patience_seconds)
        if self._renewer is not None:
            self._renewer.close()
        if is_clear:
            self._client.close()

    def _open(self) -> None:
        if not self._seats:
            self._renewer = AutoLockRenewer(LONGEST_HOLD_SECONDS, max_workers=self._address.sessions + 1)
            self._seats = [Seat(self, self._entity, number) for number in range(self._address.sessions)]
            for seat in self._seats:
                seat.start()

    # What is handed out

    def _due(self, most: int) -> list[Delivery]:
        found: list[Delivery] = []
        now = monotonic()
        for session in self.sessions:
            for kept in session.due(now) if session.is_locked() else ():
                if len(found) == most:
                    return found
                kept.due = None
                found.append(kept.delivery)
        return found

    def _seconds_to_the_next(self) -> float:
        later = [kept.due for session in self.sessions for kept in session.kept.values() if kept.due is not None]
        return max(min(later, default=float("inf")) - monotonic(), 0.001)

    # What is settled

    def _settle(self, deliveries: Sequence[Delivery], settle: Settle) -> None:
        """Settles sessions side by side. What cannot be settled comes again, and the inbox recognises it; if Service
        Bus is unreachable, the next `receive` says so."""
        by_session: dict[Session, list[int]] = defaultdict(list)
        for place in map(_place, deliveries):
            by_session[place.session].append(place.number)
        if len(by_session) < 2:
            for session, numbers in by_session.items():
                self._settle_in(session, numbers, settle)
        else:
            with ThreadPoolExecutor(len(by_session)) as threads:
                settling = [threads.submit(self._settle_in, *each, settle) for each in by_session.items()]
            for settled in settling:
                settled.result()

    def _settle_in(self, session: Session, numbers: Sequence[int], settle: Settle) -> None:
        with session.talking:
            for number in numbers:
                kept = session.kept.get(number)
                if kept is None:  # the session is over
                    continue
                try:
                    settle(session.receiver, kept.message)
                except FAILURES as failure:
                    return self._lost(session, failure)
                with self.changed:
                    session.kept.pop(number, None)
                    self.changed.notify_all()
        return None

    def _lost(self, session: Session, failure: Exception) -> None:
        trouble = translated(failure, self._entity)
        log.info("%s: not settled, so it will be delivered again: %s", self._entity, trouble)
        with self.changed:
            session.is_over = True
            self.changed.notify_all()
        if not isinstance(failure, LOST):
            self.in_trouble(Unavailable(str(trouble)))

    # What the seats ask for

    def next_session(self) -> SdkReceiver:
        return self._client.get_queue_receiver(
            self._entity,
            session_id=NEXT_AVAILABLE_SESSION,
            max_wait_time=WAIT_FOR_A_SESSION_SECONDS,
            prefetch_count=READ_AHEAD,
            auto_lock_renewer=self._renewer,
            client_identifier=self._owner,
            timeout=self._address.patience_seconds,  # for the answer to a settlement
            socket_timeout=self._address.socket_seconds,
            keep_alive=0,  # a seat reads all the time, and renewing keeps the others alive
        )

    def delivery(self, session: Session, message: ServiceBusReceivedMessage) -> Delivery:
        assert message.sequence_number is not None
        return incoming(message, f"servicebus {self._entity}", Place(session, message.sequence_number))

    def in_trouble(self, trouble: Unavailable | None) -> None:
        with self.changed:
            if trouble is not None and self._trouble is None:
                log.warning("%s", trouble)
            self._trouble = trouble
            self.changed.notify_all()


def _place(delivery: Delivery) -> Place:
    assert isinstance(delivery.token, Place)
    return delivery.token
