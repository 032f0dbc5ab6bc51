"""Sessions of Service Bus: each is one sku's messages, in order, locked by one receiver at a time.

A `Seat` is a thread that takes one session after another: it waits for one that has messages, reads, waits until they
are settled, reads on, and lets the session go when it is empty or has had its time. Meanwhile the SDK's threads renew
its lock, whatever the handler does.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from threading import Condition, Lock, Thread
from time import monotonic
from typing import Protocol

from azure.servicebus import ServiceBusReceivedMessage, ServiceBusReceiver
from azure.servicebus.exceptions import OperationTimeoutError

from allocation.adapters.brokers.service_bus.failures import LOST, condition_of, log, translated
from allocation.service_layer.broker import Delivery
from allocation.service_layer.errors import Unavailable

READ_AHEAD = 100
"""How many messages of a session are read at once. The SDK requests so many in advance: otherwise it gives back what
arrives between two calls, and Service Bus puts that after what came later (Azure/azure-sdk-for-net#35846).
"""

NO_SESSION = "com.microsoft:timeout"
FIRST_SECONDS, NEXT_SECONDS, NO_SECONDS = 5.0, 0.2, 0.001
TURN_SECONDS = 30.0
LOOK_SECONDS = 0.5
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.05, 2.0


@dataclass(slots=True)
class Kept:
    """A delivery that is not settled; `due` None: the caller has it."""

    delivery: Delivery
    message: ServiceBusReceivedMessage
    due: float | None = 0.0


@dataclass(eq=False)
class Session:
    """A session that is locked for us. `kept`, by sequence number and in order, is guarded by the receiver's condition;
    `talking` lets one thread at a time talk to Service Bus through it."""

    receiver: ServiceBusReceiver
    since: float
    kept: dict[int, Kept] = field(default_factory=dict)
    is_over: bool = False
    talking: Lock = field(default_factory=Lock)

    def is_locked(self) -> bool:
        """Whether it is ours, as far as Service Bus last said."""
        until = self.receiver.session.locked_until_utc
        return not self.is_over and (until is None or until > datetime.now(UTC))

    def due(self, now: float) -> Iterator[Kept]:
        """What may be handed out, up to the first delivery that was released for later: a session is one key."""
        for kept in self.kept.values():
            if kept.due is None:
                continue
            if kept.due > now:
                return
            yield kept

    def is_in_hand(self) -> bool:
        return any(kept.due is None for kept in self.kept.values())


def clear(seats: Sequence[Seat], seconds: float) -> bool:
    """Let the seats end, whose hall is closing; what they have in hand goes back to Service Bus. False: some are stuck,
    and are left behind.

    Closing what is just being opened is an unexpected error to the SDK, which logs a traceback.
    """
    names = {seat.name for seat in seats}

    def is_news(record: logging.LogRecord) -> bool:
        return record.threadName not in names

    sdk_log = logging.getLogger("azure.servicebus._base_handler")
    sdk_log.addFilter(is_news)
    try:
        until = monotonic() + seconds
        hurrying = [Thread(target=seat.hurry, daemon=True) for seat in seats]
        for thread in hurrying:
            thread.start()
        for thread in (*hurrying, *seats):
            thread.join(max(0.0, until - monotonic()))
        return not any(seat.is_alive() for seat in seats)
    finally:
        sdk_log.removeFilter(is_news)


class Hall(Protocol):
    """What a seat needs from the receiver that it works for."""

    changed: Condition
    sessions: list[Session]
    is_closing: bool

    def next_session(self) -> ServiceBusReceiver:
        """A receiver for whichever session is free; not opened yet."""

    def delivery(self, session: Session, message: ServiceBusReceivedMessage) -> Delivery: ...

    def in_trouble(self, trouble: Unavailable | None) -> None:
        """Service Bus is unreachable; None: it has answered."""


class Seat(Thread):
    """Takes sessions until its hall closes; it survives whatever the SDK raises."""

    def __init__(self, hall: Hall, entity: str, number: int) -> None:
        super().__init__(name=f"{entity} {id(hall):x}-{number}", daemon=True)
        self._hall, self._entity = hall, entity
        self._failures = 0
        self.receiver: ServiceBusReceiver | None = None
        self._opening_since: float | None = None

    def is_stuck(self, seconds: float) -> bool:
        """Whether opening takes that long: without TLS (an emulator), the SDK waits for ever for a server that accepts
        connections and says nothing."""
        since = self._opening_since
        return since is not None and monotonic() - since > seconds

    def run(self) -> None:
        while not self._hall.is_closing:
            self._attempt(self._serve_one)

    def hurry(self) -> None:
        """Stop waiting for a session: the hall is closing."""
        if self.receiver is not None:
            self._let_go(self.receiver)

    def _attempt(self, step: Callable[[], None]) -> None:
        try:
            step()
        except OperationTimeoutError as late:
            if condition_of(late) == NO_SESSION:
                self._answered()
            else:
                self._failed(late)
        except LOST as lost:
            log.info("%s: a session was lost; its messages will be delivered again: %s", self._entity, lost)
            if self._failures:  # nothing was read since the last one was lost, or another failure
                words = "sessions are lost as soon as they are locked: does this clock differ from that of Service Bus?"
                self._hall.in_trouble(Unavailable(f"{self._entity}: {words} {lost}"))
            self._pause()
        except Exception as failure:  # noqa: BLE001  # the SDK raises all kinds while its connection breaks
            self._failed(failure)

    def _serve_one(self) -> None:
        self.receiver = self._hall.next_session()
        try:
            if not self._hall.is_closing:
                self._opening_since = monotonic()
                self.receiver.__enter__()
                self._opening_since = None
                self._serve(self.receiver)
        finally:
            self._opening_since = None
            self._let_go(self.receiver)

    def _serve(self, receiver: ServiceBusReceiver) -> None:
        session = Session(receiver, monotonic())
        with self._hall.changed:
            self._hall.sessions.append(session)
        try:
            if not self._read(session, FIRST_SECONDS):
                return self._hold_unread(session)
            while self._is_settled(session) and self._read(session, NEXT_SECONDS):
                pass
        finally:
            with self._hall.changed:
                session.is_over = True
                session.kept.clear()
                self._hall.sessions.remove(session)

    def _read(self, session: Session, wait_seconds: float) -> bool:
        """Read what is there, one by one, so that the first is handed out while the others arrive. False: nothing
        was there, or nothing that can be read."""
        count = 0
        while count < READ_AHEAD and not self._hall.is_closing:
            with session.talking:
                found = session.receiver.receive_messages(1, wait_seconds if count == 0 else NO_SECONDS)
            if count == 0:
                self._answered()
            if not found:
                break
            count += 1
            self._keep(session, found[0])
        return count > 0

    def _hold_unread(self, session: Session) -> None:
        """At a message that it cannot decode, the SDK stops reading before its time, and keeps silent about it. Nobody
        can settle such a message. Let go, its session would be locked again at once, without end: hold it for a turn,
        so that the other seats serve other sessions."""
        if self._hall.is_closing or monotonic() - session.since > FIRST_SECONDS / 2:
            return
        name = session.receiver.session.session_id
        log.warning("%s: session %s waits behind a message that the SDK cannot decode", self._entity, name)
        with self._hall.changed:
            self._hall.changed.wait_for(lambda: self._hall.is_closing, TURN_SECONDS)

    def _keep(self, session: Session, message: ServiceBusReceivedMessage) -> None:
        number = message.sequence_number
        assert number is not None
        with self._hall.changed:
            session.kept[number] = Kept(self._hall.delivery(session, message), message)
            self._hall.changed.notify_all()

    def _is_settled(self, session: Session) -> bool:
        """Wait until all of it is settled; False if the session is lost, or is to be let go: closing a session is not a
        failed delivery for Service Bus, but an expired lock is."""
        with self._hall.changed:
            while session.kept and session.is_locked() and not self._hall.is_closing:
                self._hall.changed.wait(LOOK_SECONDS)
                if self._turn_is_over(session) and not session.is_in_hand():
                    return False
            return session.is_locked() and not self._hall.is_closing and not self._turn_is_over(session)

    def _turn_is_over(self, session: Session) -> bool:
        return monotonic() - session.since > TURN_SECONDS

    def _let_go(self, receiver: ServiceBusReceiver) -> None:
        try:
            receiver.close()
        except Exception as failure:  # noqa: BLE001  # as above; a lock that is not given back expires
            log.info(
                "%s: a session could not be closed, and expires by itself: %s",
                self._entity,
                translated(failure, self._entity),
            )

    def _answered(self) -> None:
        self._failures = 0
        self._hall.in_trouble(None)

    def _failed(self, failure: Exception) -> None:
        if self._hall.is_closing:
            return
        trouble = translated(failure, self._entity)
        self._hall.in_trouble(Unavailable(str(trouble)))
        self._pause()

    def _pause(self) -> None:
        pause = min(FIRST_PAUSE_SECONDS * 2.0**self._failures, LONGEST_PAUSE_SECONDS)
        self._failures += 1
        with self._hall.changed:
            self._hall.changed.wait_for(lambda: self._hall.is_closing, pause)
