"""The peer as a program: AMQP 1.0 as the SDK of Azure Service Bus speaks it. `python -m ... PORT FOLDER`.

Links for messages, for `$cbs` (every token is good) and for `$management`. A receiver of sessions gets its answer when
a session is there for it, or when its time is up.
"""

from __future__ import annotations

import sys
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proton import Condition, Delivery, Event, Handler, Link, Message, Terminus, symbol, ulong
from proton.reactor import Container

from tests.servers.service_bus.admin import Admin
from tests.servers.service_bus.entities import Queue
from tests.servers.service_bus.management import Management
from tests.servers.service_bus.store import Store
from tests.servers.service_bus.wire import messages_in

TICK_SECONDS = 0.05
USUAL_WAIT_SECONDS = 60.0
LARGEST_BYTES = 262_144
CBS, MANAGEMENT = "$cbs", "/$management"
SESSION_FILTER = "com.microsoft:session-filter"
EPOCH_TICKS = 621_355_968_000_000_000  # of 100 nanoseconds, from the year 1 to 1970
LOCK_LOST = Condition(
    "com.microsoft:message-lock-lost",
    "The lock supplied is invalid. Either the lock expired, or the message has already been removed from the queue.",
)


@dataclass(eq=False)
class Outlet:
    """A receiver's link; `session` None: of no session, or not of one yet (then it waits until `patience`)."""

    link: Any
    address: str
    session: str | None = None
    wanted: str | None = None
    patience: float | None = None


class Peer(Handler):
    def __init__(self, port: int, store: Store) -> None:
        super().__init__()
        self._port, self._store, self._management = port, store, Management(store)
        self._outlets: list[Outlet] = []
        self._replies: list[Any] = []

    # Connections and links

    def on_reactor_init(self, event: Event) -> None:
        event.container.listen(f"127.0.0.1:{self._port}")
        event.container.schedule(TICK_SECONDS, self)

    def on_connection_remote_open(self, event: Event) -> None:
        event.connection.open()

    def on_session_remote_open(self, event: Event) -> None:
        event.session.open()

    def on_link_remote_open(self, event: Event) -> None:
        link = event.link
        link.source.copy(link.remote_source)
        link.target.copy(link.remote_target)
        link.snd_settle_mode, link.rcv_settle_mode = link.remote_snd_settle_mode, link.remote_rcv_settle_mode
        link.max_message_size = ulong(LARGEST_BYTES)
        address = address_of(link)
        entity = address.removesuffix(MANAGEMENT)
        if address != CBS and not self._store.is_known(entity):
            refuse(link, "amqp:not-found", f"The messaging entity '{entity}' could not be found.")
        elif link.is_receiver:
            link.open()
            link.flow(1000)
        elif address == CBS or address != entity:
            self._replies.append(link)
            link.open()
        else:
            self._open_outlet(Outlet(link, address))

    def _open_outlet(self, outlet: Outlet) -> None:
        link, queue = outlet.link, self._store.queue(outlet.address)
        filters = filters_of(link)
        if queue is None:
            refuse(link, "amqp:not-allowed", "Messages of a topic are received from its subscriptions.")
        elif not queue.settings.sessions:
            link.open()
            self._outlets.append(outlet)
        elif SESSION_FILTER not in filters:
            told = (
                "It is not possible for an entity that requires sessions to create a non-sessionful message receiver."
            )
            refuse(link, "amqp:not-allowed", told)
        else:
            waits = (link.remote_properties or {}).get(symbol("com.microsoft:timeout"))
            outlet.wanted = filters[SESSION_FILTER]
            outlet.patience = self._store.clock() + (waits / 1000 if waits else USUAL_WAIT_SECONDS)
            self._outlets.append(outlet)
            self._pump()

    def _open_sessions(self, now: float) -> None:
        for outlet in [outlet for outlet in self._outlets if outlet.patience is not None]:
            queue = self._store.queue(outlet.address)
            assert queue is not None
            session = queue.lock_session(outlet.wanted, outlet, now)
            if session is not None:
                outlet.session, outlet.patience = session, None
                open_for_session(outlet.link, session, queue.lines[session].until)
            elif outlet.wanted is not None:
                self._outlets.remove(outlet)
                refuse(outlet.link, "com.microsoft:session-cannot-be-locked", "Another receiver has the session.")
            elif outlet.patience is not None and outlet.patience <= now:
                self._outlets.remove(outlet)
                refuse(outlet.link, "com.microsoft:timeout", "The operation did not complete within the given time.")

    def on_link_remote_close(self, event: Event) -> None:
        """A receiver that says goodbye gives its session back at once."""
        self._replies = [link for link in self._replies if link != event.link]
        for outlet in [outlet for outlet in self._outlets if outlet.link == event.link]:
            self._outlets.remove(outlet)
            if (queue := self._store.queue(outlet.address)) is not None:
                queue.let_go(outlet, self._store.clock())
        event.link.close()
        self._pump()

    def on_link_remote_detach(self, event: Event) -> None:
        self.on_link_remote_close(event)

    def on_connection_remote_close(self, event: Event) -> None:
        event.connection.close()

    def on_transport_closed(self, event: Event) -> None:
        """One that vanishes keeps its locks until they run out."""
        self._outlets = [outlet for outlet in self._outlets if outlet.link.connection != event.connection]
        self._replies = [link for link in self._replies if link.connection != event.connection]

    # What goes out

    def on_timer_task(self, event: Event) -> None:
        now = self._store.clock()
        for queue in self._store.every_queue():
            for holder in queue.tick(now):
                if holder in self._outlets:
                    assert isinstance(holder, Outlet)
                    self._outlets.remove(holder)
                    lost = Condition("com.microsoft:session-lock-lost", "The session lock has expired on the session.")
                    holder.link.condition = lost
                    holder.link.close()
        self._pump()
        event.container.schedule(TICK_SECONDS, self)

    def on_link_flow(self, event: Event) -> None:
        if event.link.is_sender:
            self._pump()

    def _pump(self) -> None:
        now = self._store.clock()
        self._open_sessions(now)
        for outlet in self._outlets:
            queue = self._store.queue(outlet.address)
            if queue is None or outlet.patience is not None:
                continue
            while outlet.link.credit > 0 and self._send_next(outlet, queue, now):
                pass
            if outlet.link.drain_mode and outlet.link.credit:
                outlet.link.drained()

    def _send_next(self, outlet: Outlet, queue: Queue, now: float) -> bool:
        line = queue.lines[outlet.session or ""]
        if outlet.link.remote_snd_settle_mode == Link.SND_SETTLED:
            entry = queue.delete(line)
            if entry is not None:
                entry.outgoing(None).send(outlet.link, uuid.uuid4().hex.encode())
            return entry is not None
        taken = queue.take(line, outlet, now)
        if taken is None:
            return False
        entry, token, until = taken
        entry.outgoing(until).send(outlet.link, token.bytes_le)
        return True

    # What comes in

    def on_delivery(self, event: Event) -> None:
        delivery = event.delivery
        if event.link.is_receiver:
            if delivery.readable and not delivery.partial:
                self._incoming(event)
        elif delivery.updated:
            self._settled(delivery, address_of(event.link))

    def _incoming(self, event: Event) -> None:
        delivery, link, address = event.delivery, event.link, address_of(event.link)
        encoded = link.recv(delivery.pending)
        link.advance()
        link.flow(1)
        messages, answer, refusal = messages_in(encoded), None, None
        if address == CBS:
            told = {"status-code": 202, "status-description": "Accepted"}
            answer = Message(properties=told, correlation_id=messages[0].id)
        elif address.endswith(MANAGEMENT):
            holder = self._holder(event, messages[0])
            answer = self._management.answer(address.removesuffix(MANAGEMENT), messages[0], holder)
        else:
            refusal = next(filter(None, (self._store.refusal(address, message) for message in messages)), None)
            for message in messages if refusal is None else ():
                self._store.enqueue(address, message)
        if refusal is not None:
            # Without further information the SDK stumbles, and waits for ever.
            delivery.local.condition = Condition("amqp:not-allowed", refusal, {symbol("entity"): address})
        delivery.update(Delivery.ACCEPTED if refusal is None else Delivery.REJECTED)
        delivery.settle()
        if answer is not None:
            ours = (link for link in self._replies if link.connection == event.connection)
            next(link for link in ours if address_of(link) == address).send(answer)
        self._pump()

    def _holder(self, event: Event, request: Message) -> Outlet | None:
        name = (request.properties or {}).get("associated-link-name")
        ours = [outlet for outlet in self._outlets if outlet.link.connection == event.connection]
        return next((outlet for outlet in ours if name is None or outlet.link.name == name), None)

    def _settled(self, delivery: Any, address: str) -> None:
        queue = self._store.queue(address)
        if queue is None:  # an answer of ours was taken note of
            delivery.settle()
            return
        token, now = uuid.UUID(bytes_le=delivery.tag.encode()), self._store.clock()
        if token not in queue.held:
            delivery.local.condition = LOCK_LOST
            delivery.update(Delivery.REJECTED)
            delivery.settle()
            return
        match delivery.remote_state:
            case Delivery.ACCEPTED:
                queue.complete(token)
            case Delivery.REJECTED:
                told = told_of(delivery.remote.condition)
                queue.dead_letter(token, told["DeadLetterReason"], told["DeadLetterErrorDescription"], now)
            case Delivery.MODIFIED if delivery.remote.undeliverable:
                queue.defer(token)
            case Delivery.RELEASED:
                queue.release(token)
            case _:
                queue.give_back(token, now, has_failed=True)
        delivery.update(delivery.remote_state)
        delivery.settle()
        self._pump()


def address_of(link: Any) -> str:
    address = (link.remote_source if link.is_sender else link.remote_target).address or ""
    return "/".join(address.split("/")[3:]) if "://" in address else address


def filters_of(link: Any) -> dict[str, Any]:
    data = link.remote_source.filter
    data.rewind()
    found = data.get_object() if data.next() is not None else {}
    return {str(name): value for name, value in (found or {}).items()}


def open_for_session(link: Any, session: str, until: float) -> None:
    data = link.source.filter
    data.clear()
    data.put_object({symbol(SESSION_FILTER): session})
    link.properties = {symbol("com.microsoft:locked-until-utc"): EPOCH_TICKS + int(until * 10_000_000)}
    link.open()


def refuse(link: Any, condition: str, description: str) -> None:
    """In AMQP a link is opened without an end, and closed with the reason."""
    link.source.type = link.target.type = Terminus.UNSPECIFIED
    link.open()
    link.condition = Condition(condition, description)
    link.close()


def told_of(condition: Any) -> dict[str, str]:
    info = {str(name): value for name, value in ((condition.info if condition else None) or {}).items()}
    return {name: str(info.get(name) or "") for name in ("DeadLetterReason", "DeadLetterErrorDescription")}


def main(port: int, admin_port: int, folder: Path) -> None:
    store = Store(folder / "journal", time.time)
    Admin(admin_port, store)
    Container(Peer(port, store)).run()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
