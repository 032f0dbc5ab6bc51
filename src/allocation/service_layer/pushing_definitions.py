"""Runs the subscriptions that users have defined to be pushed, as they come and go."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from threading import Event as Flag
from threading import Thread
from typing import get_args

from allocation.domain.events import Event
from allocation.service_layer.broker import Message
from allocation.service_layer.definitions import Definition, DefinitionError, Definitions, RuleBook
from allocation.service_layer.envelope import EventEnvelope
from allocation.service_layer.errors import Gone, RejectedForGood, Unavailable
from allocation.service_layer.facts import fact_of
from allocation.service_layer.pushing import LEASE_SECONDS, Push, Sink
from allocation.service_layer.read_models import ReadModels
from allocation.service_layer.rules.copies import copies_of
from allocation.service_layer.rules.rule import Rule
from allocation.service_layer.rules.values import RuleFailed
from allocation.service_layer.subscriptions import USUAL_PAGE, Backoff, Deliver, Outcomes, Subscription
from allocation.service_layer.worker import Worker

LOOK_AGAIN_SECONDS = 1.0
EVERY_EVENT: frozenset[type[Event]] = frozenset(get_args(Event))

_log = logging.getLogger(__name__)


def sink_of(definition: Definition) -> Sink:
    """Where and how a definition is pushed."""
    if definition.sink is None:
        raise TypeError(f"{definition.name} is not pushed")
    address = definition.sink
    return Sink(address.url, address.secret, most=definition.batch_size, asks_consent=address.handshake)


def deliver_by(push: Push, definition: Definition, rules: Sequence[Rule], definitions: Definitions) -> Deliver:
    """Pushes the copies that the rules make. An event is done when all its copies are; if one is not, all come again.

    Nothing moves once the definition is another: it may have lost its address, or its name may be in use again. One
    whose address says that it is gone is stopped.
    """
    sink = sink_of(definition)

    def deliver(events: Sequence[EventEnvelope], _read_models: ReadModels) -> Outcomes:
        if definitions.get(definition.name) != definition:
            return [Unavailable("it was defined anew, stopped or removed")] * len(events)
        refused, copies = _copied(rules, events)
        messages = [message for found in copies.values() for message in found]
        try:
            told = iter(push.push(sink, messages) if messages else ())
        except Gone as gone:
            _log.warning("%s is stopped: %s", definition.name, gone)
            definitions.stop(definition, str(gone) or "the address is gone")
            return [Unavailable(f"it is stopped: {gone}")] * len(events)
        outcomes: dict[str, Exception | None] = {**refused}
        for event_id, found in copies.items():
            outcomes[event_id] = next((x for x in [next(told) for _ in found] if x is not None), None)
        return list(_behind_failures(events, outcomes))

    return deliver


def _copied(
    rules: Sequence[Rule], events: Sequence[EventEnvelope]
) -> tuple[dict[str, Exception], dict[str, list[Message]]]:
    """What is pushed, by event id; and which events no rule can be worked out for. Behind these, nothing of the key."""
    refused: dict[str, Exception] = {}
    copies: dict[str, list[Message]] = {}
    keys: set[str] = set()
    for logged in events:
        if logged.key in keys:
            continue
        try:
            copies[logged.id] = copies_of(rules, fact_of(logged))
        except RuleFailed as failure:
            keys.add(logged.key)
            refused[logged.id] = RejectedForGood(str(failure))
    return refused, copies


def _behind_failures(
    events: Sequence[EventEnvelope], outcomes: Mapping[str, Exception | None]
) -> Iterator[Exception | None]:
    """The outcome of each event. Behind a failure of its key comes the same: it was not tried."""
    failed: dict[str, Exception] = {}
    for logged in events:
        failure = failed.get(logged.key) or outcomes.get(logged.id)
        if failure is not None:
            failed[logged.key] = failure
        yield failure


class Pushers:
    """Has the worker deliver for what is defined now: looks when it starts, when it is woken, and every second.

    `push` gives what pushes, when there is something to push; `through` wraps a delivery, under the subscription's
    name. `start` returns at once; stop it before the worker.
    """

    def __init__(
        self,
        worker: Worker,
        definitions: Definitions,
        rules: RuleBook,
        push: Callable[[], Push],
        backoff: Backoff,
        through: Callable[[str, Deliver], Deliver],
    ) -> None:
        self._worker, self._definitions, self._rules, self._push = worker, definitions, rules, push
        self._backoff, self._through = backoff, through
        self._made: dict[str, tuple[Definition, Subscription]] = {}
        self._flag, self._stopping = Flag(), Flag()
        self._thread = Thread(target=self._run, name="definitions", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        """A definition changed. Costs next to nothing, and may be called from any thread."""
        self._flag.set()

    def stop(self) -> None:
        self._stopping.set()
        self._flag.set()
        if self._thread.is_alive():
            self._thread.join()

    def look(self) -> None:
        """Have the worker deliver for what is defined now. Raises `Unavailable`."""
        defined = {d.name: d for d in self._definitions.all() if d.delivery == "push" and d.stopped is None}
        for name, (known, _) in list(self._made.items()):
            if defined.get(name) != known:
                self._push().forget(sink_of(known))
                del self._made[name]
        for name, definition in defined.items():
            if name not in self._made and (made := self._subscription(definition)) is not None:
                self._made[name] = definition, made
        self._worker.deliver_also([made for _, made in self._made.values()])

    def _subscription(self, definition: Definition) -> Subscription | None:
        try:
            rules = self._rules.rules(definition)
        except DefinitionError as bad:  # kept by another version of this program
            _log.error("%s cannot be delivered: %s", definition.name, bad)
            return None
        return Subscription(
            definition.name,
            EVERY_EVENT,
            self._through(definition.name, deliver_by(self._push(), definition, rules, self._definitions)),
            page=max(USUAL_PAGE, definition.batch_size),
            backoff=self._backoff,
            lease_seconds=LEASE_SECONDS,
        )

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._flag.clear()
            try:
                self.look()
            except Unavailable as away:
                _log.warning("whether definitions have changed is not known: %s", away)
            except Exception:  # noqa: BLE001  # said aloud; without this thread nobody would hear of new definitions
                _log.exception("the definitions cannot be looked at")
            self._flag.wait(LOOK_AGAIN_SECONDS)
