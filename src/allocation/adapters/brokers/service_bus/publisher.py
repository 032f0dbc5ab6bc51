"""Publishes to Service Bus. A batch is accepted as a whole, or not at all; batches are sent one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from threading import Lock, Thread

from azure.servicebus import ServiceBusMessage, ServiceBusMessageBatch, ServiceBusSender
from azure.servicebus.exceptions import MessageSizeExceededError

from allocation.adapters.brokers.service_bus.address import CAPABILITIES, Address, entity_of, is_queue
from allocation.adapters.brokers.service_bus.failures import FAILURES, log, translated
from allocation.adapters.brokers.service_bus.wire import outgoing
from allocation.service_layer.broker import Message, Publisher
from allocation.service_layer.errors import Rejected, Unavailable
from allocation.service_layer.rules.values import RuleFailed

MOST_IN_A_BATCH = 1_000
"""Service Bus accepts 4,500."""


class ServiceBusPublisher(Publisher):
    """Each topic has a sender of its own, which has its own connection: different threads may publish to different
    topics."""

    capabilities = CAPABILITIES

    def __init__(self, address: Address, namespace: str) -> None:
        self._address, self._namespace = address, namespace
        self._outlets: dict[str, Outlet] = {}
        self._making = Lock()

    def publish(self, topic: str, messages: Sequence[Message]) -> Sequence[Exception | None]:
        with self._making:
            outlet = self._outlets.setdefault(topic, Outlet(self._address, self._namespace, topic))
        return outlet.send(messages) if messages else []

    def close(self) -> None:
        for outlet in self._outlets.values():
            outlet.close()


class _Page:
    """Messages to be sent, what became of each, and the keys that are stopped."""

    def __init__(self, messages: Sequence[Message]) -> None:
        self.messages = messages
        self.outcomes: list[Exception | None] = [_NOT_YET] * len(messages)
        self._stopped: dict[str, Rejected] = {}

    def waiting(self) -> Iterator[tuple[int, ServiceBusMessage]]:
        """The messages in order, except those after a rejected one of the same key."""
        for number, message in enumerate(self.messages):
            if message.key in self._stopped:
                self.outcomes[number] = self._stopped[message.key]
                continue
            try:
                yield number, outgoing(message)
            except (RuleFailed, ValueError) as failed:
                self.rejected(number, Rejected(f"Service Bus does not accept it: {failed}"))

    def accepted(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            self.outcomes[number] = None

    def rejected(self, number: int, why: Rejected) -> None:
        self.outcomes[number] = self._stopped[self.messages[number].key] = why

    def is_stopped(self, number: int) -> bool:
        """Whether an earlier message of its key was rejected; if so, this message gets the same outcome."""
        why = self._stopped.get(self.messages[number].key)
        if why is not None:
            self.outcomes[number] = why
        return why is not None

    def give_up(self, why: Unavailable) -> None:
        self.outcomes = [why if outcome is _NOT_YET else outcome for outcome in self.outcomes]


_NOT_YET = Unavailable("Service Bus has not confirmed it in time")


class Outlet:
    """A topic, or the queue of commands, and its sender, which is given up after a failure."""

    def __init__(self, address: Address, namespace: str, topic: str) -> None:
        self._address, self._is_queue = address, is_queue(topic)
        self._entity = entity_of(namespace, topic)
        self._sender: ServiceBusSender | None = None
        self._opening: Future[ServiceBusSender] | None = None

    def send(self, messages: Sequence[Message]) -> list[Exception | None]:
        """What became of each message, in order. One that is not known to be accepted in time is `Unavailable`."""
        page = _Page(messages)
        try:
            sender = self._opened()
            for numbers, batch in self._batches(sender, page):
                self._deliver(sender, batch, numbers, page)
        except Unavailable as away:
            log.warning("%s", away)
            self.close()
            page.give_up(away)
        return page.outcomes

    def close(self) -> None:
        sender, self._sender = self._sender, None
        if sender is None:
            return
        try:
            sender.close()
        except FAILURES as failure:
            log.info("closing: %s", translated(failure, self._entity))

    def _opened(self) -> ServiceBusSender:
        """Raises `Unavailable`. The SDK may wait for several times our patience, and for an emulator that accepts the
        connection and then says nothing it waits without end. So it opens in a thread of its own; the next call waits
        for the same attempt."""
        if self._sender is None:
            self._opening = opening = self._opening or apart(self._open)
            try:
                self._sender = opening.result(self._address.patience_seconds)
            except FAILURES as failure:
                self._opening = None if opening.done() else opening
                raise Unavailable(str(translated(failure, self._entity))) from failure
            except Exception as broken:  # the SDK raises all kinds while its connection breaks
                self._opening = None
                raise _broken(broken, self._entity) from broken
            self._opening = None
        return self._sender

    def _open(self) -> ServiceBusSender:
        client = self._address.client(self._address.patience_seconds)
        make = client.get_queue_sender if self._is_queue else client.get_topic_sender
        return make(self._entity, socket_timeout=self._address.socket_seconds).__enter__()

    def _batches(self, sender: ServiceBusSender, page: _Page) -> Iterator[tuple[list[int], ServiceBusMessageBatch]]:
        """Batches of as many messages as fit, in order; a message that does not fit alone is rejected. Raises
        `Unavailable`."""
        numbers: list[int] = []
        batch = self._empty_batch(sender)
        for number, message in page.waiting():
            is_in = len(numbers) < MOST_IN_A_BATCH and _added(batch, message)
            if not is_in and numbers:
                yield numbers, batch
                numbers, batch = [], self._empty_batch(sender)
                if page.is_stopped(number):
                    continue
                is_in = _added(batch, message)
            if is_in:
                numbers.append(number)
            else:
                page.rejected(
                    number, Rejected(f"It is larger than the {batch.max_size_in_bytes:,} bytes that a message may have")
                )
        if numbers:
            yield numbers, batch

    def _empty_batch(self, sender: ServiceBusSender) -> ServiceBusMessageBatch:
        try:
            return sender.create_message_batch()
        except FAILURES as failure:
            raise Unavailable(str(translated(failure, self._entity))) from failure

    def _deliver(
        self, sender: ServiceBusSender, batch: ServiceBusMessageBatch, numbers: Sequence[int], page: _Page
    ) -> None:
        """Send a batch; if Service Bus rejects it, send each of its messages alone, to see which one it is. Raises
        `Unavailable`."""
        why = self._sent(sender, batch)
        if why is None:
            page.accepted(numbers)
        elif len(numbers) == 1:
            page.rejected(numbers[0], why)
        else:
            for number in numbers:
                if not page.is_stopped(number):
                    alone = self._empty_batch(sender)
                    alone.add_message(outgoing(page.messages[number]))
                    self._deliver(sender, alone, [number], page)

    def _sent(self, sender: ServiceBusSender, batch: ServiceBusMessageBatch) -> Rejected | None:
        try:
            sender.send_messages(batch, timeout=self._address.patience_seconds)
        except FAILURES as failure:
            why = translated(failure, self._entity)
            if isinstance(why, Rejected):
                return why
            raise why from failure
        except Exception as broken:  # as above
            raise _broken(broken, self._entity) from broken
        return None


def _broken(failure: Exception, entity: str) -> Unavailable:
    return Unavailable(f"the connection to {entity} of Service Bus broke ({type(failure).__name__}: {failure})")


def apart(step: Callable[[], ServiceBusSender]) -> Future[ServiceBusSender]:
    """The result of `step`, which runs in a thread that nobody has to wait for."""
    done: Future[ServiceBusSender] = Future()

    def run() -> None:
        try:
            done.set_result(step())
        except BaseException as failure:  # noqa: BLE001  # it is raised to the caller of `result`
            done.set_exception(failure)

    Thread(target=run, daemon=True).start()
    return done


def _added(batch: ServiceBusMessageBatch, message: ServiceBusMessage) -> bool:
    try:
        batch.add_message(message)
    except MessageSizeExceededError:
        return False
    return True
