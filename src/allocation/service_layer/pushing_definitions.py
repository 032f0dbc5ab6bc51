"""Runs the push subscriptions that users have defined, as these come and go."""

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
MOST_HALFWAY = 1_000
"""Far more than there are partitions, of which each has one for its cursor and one for its lanes."""
EVERY_EVENT: frozenset[type[Event]] = frozenset(get_args(Event))

_log = logging.getLogger(__name__)


def sink_of(definition: Definition) -> Sink:
    """Where and how a definition is pushed."""
    if definition.sink is None:
        raise TypeError(f"{definition.name} is not pushed")
    address = definition.sink
    return Sink(address.url, address.secret, most=definition.batch_size, asks_consent=address.handshake)


def deliver_by(push: Push, definition: Definition, rules: Sequence[Rule], definitions: Definitions) -> Deliver:
    """Pushes the copies that the rules make. An event is done when all its copies are; if one is refused, all come
    again. If a call ends in the middle of an event, the next one sends the rest of its copies.

    Nothing moves once the definition has changed: it may have lost its address, or its name may be in use again. If the
    address reports that it is gone, the definition is stopped.
    """
    sink, halfway = sink_of(definition), _Halfway()

    def deliver(events: Sequence[EventEnvelope], _read_models: ReadModels) -> Outcomes:
        if definitions.get(definition.name) != definition:
            return [Unavailable("it was redefined, stopped or removed")] * len(events)
        refused, copies = _copied(rules, events)
        halfway.leave_out(events, copies)
        messages = [message for found in copies.values() for message in found]
        try:
            told = iter(push.push(sink, messages) if messages else ())
        except Gone as gone:
            _log.warning("%s is stopped: %s", definition.name, gone)
            definitions.stop(definition, str(gone) or "the address is gone")
            return [Unavailable(f"it is stopped: {gone}")] * len(events)
        outcomes: dict[str, Exception | None] = {**refused}
        for logged in events:
            if (found := copies.get(logged.id)) is not None:
                became = {message.id: next(told) for message in found}
                outcomes[logged.id] = next((x for x in became.values() if x is not None), None)
                halfway.note(logged, became, outcomes[logged.id])
        return list(_behind_failures(events, outcomes))

    return deliver


class _Halfway:
    """Which copies of an event were acknowledged when a call ended in the middle of it. Otherwise an event with more
    copies than a call has time for would start again each time, and never be done. Partitions and lanes take turns, so
    there may be several such events. Kept in memory only: another worker sends all copies, under the same ids."""

    def __init__(self) -> None:
        self._events: dict[str, tuple[EventEnvelope, set[str]]] = {}

    def leave_out(self, events: Sequence[EventEnvelope], copies: dict[str, list[Message]]) -> None:
        """Leave out the copies of the first event that were acknowledged: a call begins where the last one ended. After
        a rewind everything is sent again."""
        first, keys = events[0], {logged.key for logged in events}
        for event_id, (logged, _) in list(self._events.items()):
            here, there = first.position, logged.position
            # A call for one other key is a lane's: it may be further back, and takes turns with this event.
            if here.partition == there.partition and here.seq < there.seq and (logged.key in keys or len(keys) > 1):
                del self._events[event_id]
        if first.id in self._events and first.id in copies:
            _, acknowledged = self._events[first.id]
            copies[first.id] = [message for message in copies[first.id] if message.id not in acknowledged]

    def note(self, logged: EventEnvelope, became: Mapping[str, Exception | None], failure: Exception | None) -> None:
        """What became of the copies of an event that were to be sent now, and so of the event."""
        _, acknowledged = self._events.pop(logged.id, (logged, set()))
        acknowledged |= {message_id for message_id, outcome in became.items() if outcome is None}
        if isinstance(failure, Unavailable) and acknowledged:
            while len(self._events) >= MOST_HALFWAY:
                del self._events[next(iter(self._events))]
            self._events[logged.id] = logged, acknowledged


def _copied(
    rules: Sequence[Rule], events: Sequence[EventEnvelope]
) -> tuple[dict[str, Exception], dict[str, list[Message]]]:
    """The events for which a rule failed, and the copies to push of the others, both by event id. After a failure,
    nothing later of that key is pushed."""
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
    """The outcome of each event. After a failure, later events of that key get the same failure: they were not
    tried."""
    failed: dict[str, Exception] = {}
    for logged in events:
        failure = failed.get(logged.key) or outcomes.get(logged.id)
        if failure is not None:
            failed[logged.key] = failure
        yield failure


class Pushers:
    """Has the worker deliver for what is defined now: it checks at the start, when woken, and every second.

    `push` returns what pushes, once there is something to push; `through` wraps a delivery, under the subscription's
    name. `start` returns at once; stop this before the worker.
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
        except DefinitionError as bad:  # stored by another version of this program
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
                _log.warning("it could not be checked whether definitions have changed: %s", away)
            except Exception:  # noqa: BLE001  # logged; without this thread, new definitions would not be noticed
                _log.exception("the definitions could not be checked")
            self._flag.wait(LOOK_AGAIN_SECONDS)
