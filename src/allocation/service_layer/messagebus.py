"""Message in, answer out: every command is handled inside a unit of work that the bus owns, every event by the
reactions to it.

The bus is one object for the whole process and keeps nothing between messages; threads share it freely.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from time import perf_counter
from typing import Any

from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from allocation.domain.commands import Command
from allocation.domain.errors import Refused
from allocation.service_layer.answers import Answer
from allocation.service_layer.envelope import Clock, CommandEnvelope, EventEnvelope, Ids, partition_of
from allocation.service_layer.errors import Conflict, ConnectionLost, Unavailable
from allocation.service_layer.group_commit import GroupCommit
from allocation.service_layer.needs import key_of
from allocation.service_layer.observing import Span, Telemetry, correlated_with
from allocation.service_layer.read_models import ReadModels
from allocation.service_layer.subscriptions import Deliver, Outcomes
from allocation.service_layer.unit_of_work import Handled, UnitOfWork

Handler = Callable[[Any, UnitOfWork], Any]

USER_DEFINED = "user-defined"
"""Takes the place of the names of users' subscriptions wherever each name would be kept for good."""


class MessageBus:
    """Dispatches commands to their handlers, and events to their reactions.

    `handlers` have all their dependencies bound except the unit of work; so have `reactions`, which are keyed by name.
    `partitions` is the number of log partitions; callers of one partition share transactions. A transaction that
    conflicts with others is tried `attempts` times. `committed` is called after each commit that added to the log, as a
    hint to the readers of the log. Every group and every page is reported to `telemetry`.
    """

    def __init__(
        self,
        unit_of_work: Callable[[], UnitOfWork],
        handlers: Mapping[type, Handler],
        ids: Ids,
        clock: Clock,
        partitions: int = 1,
        attempts: int = 10,
        group_limit: int = 500,
        committed: Callable[[], None] = lambda: None,
        reactions: Mapping[str, Deliver] | None = None,
        telemetry: Telemetry | None = None,
    ) -> None:
        self._unit_of_work = unit_of_work
        self._committed = committed
        self._handlers = handlers
        self._reactions = dict(reactions or {})
        telemetry = telemetry or Telemetry()
        self._meter, self._tracer = telemetry.meter, telemetry.tracer
        self._ids = ids
        self._clock = clock
        self._partitions = partitions
        self._retrying = Retrying(
            retry=retry_if_exception_type((Conflict, ConnectionLost)),
            stop=stop_after_attempt(attempts),
            wait=wait_random_exponential(multiplier=0.01, max=0.5),
            before_sleep=self._told_of_retry,
            reraise=True,
        )
        self._doors = [
            GroupCommit[CommandEnvelope, Answer](self.handle_many, group_limit=group_limit) for _ in range(partitions)
        ]

    def envelope(self, command: Command, message_id: str | None = None, **context: Any) -> CommandEnvelope:
        """Wrap a command. `message_id` is the sender's own id, if it has one; `context` holds further fields of the
        envelope (`source`, `client`, `correlation_id`, ...)."""
        context.setdefault("correlation_id", minted := self._ids.new())
        return CommandEnvelope(
            command, message_id or minted, self._clock.now(), brought_id=message_id is not None, **context
        )

    def handle(self, command: Command) -> Any:
        """Handle one command and return its result. Raises `Refused`, `Unavailable`."""
        return self.ask(self.envelope(command)).unwrap()

    def ask(self, envelope: CommandEnvelope) -> Answer:
        """Handle one command, in one transaction with those that other threads bring at the same time."""
        return self._doors[partition_of(key_of(envelope.command), self._partitions)].ask(envelope)

    def handle_many(self, envelopes: Sequence[CommandEnvelope]) -> list[Answer]:
        """Handle a group in one transaction, in order. Returns one answer each, which may be a refusal or a failure.

        If one fails in a way that could have left a trace, the group is rolled back and its commands handled one by
        one. Raises `Unavailable` if nothing could be done for any of them.
        """
        begin = perf_counter()
        try:
            with correlated_with(envelopes):
                answers = self._retrying(self._transaction, envelopes)
        except Unavailable as failure:
            self._meter.group_failed(envelopes, failure)
            raise
        except Exception as failure:  # noqa: BLE001  # goes to the caller whose command failed, and to no other
            if len(envelopes) == 1:
                self._meter.group_failed(envelopes, failure)
                return [Answer(error=failure)]
            return self._one_by_one(envelopes)
        self._meter.group(envelopes, answers, perf_counter() - begin)
        return answers

    def _told_of_retry(self, state: RetryCallState) -> None:
        failure = state.outcome.exception() if state.outcome is not None else None
        if failure is not None:
            self._meter.tried_again(failure)

    def through(self, name: str, deliver: Deliver) -> Deliver:
        """Wraps the delivery of a subscription that a user defined, so that it goes through the bus, which keeps
        nothing of it. Users may choose any number of names: all are counted under `USER_DEFINED`."""
        return partial(self._hand_over, name, USER_DEFINED, deliver)

    def react(self, name: str, events: Sequence[EventEnvelope], read_models: ReadModels) -> Outcomes:
        """Hand logged events to the reaction of that name, in order (see `subscriptions.Deliver`)."""
        return self._hand_over(name, name, self._reactions[name], events, read_models)

    def _hand_over(
        self,
        name: str,
        counted_as: str,
        deliver: Deliver,
        events: Sequence[EventEnvelope],
        read_models: ReadModels,
    ) -> Outcomes:
        with correlated_with(events):
            if self._tracer.is_on:
                outcomes = self._hand_over_traced(name, deliver, events, read_models)
            else:
                outcomes = deliver(events, read_models)
        self._meter.delivered(counted_as, outcomes)
        return outcomes

    def _hand_over_traced(
        self, name: str, deliver: Deliver, events: Sequence[EventEnvelope], read_models: ReadModels
    ) -> Outcomes:
        """Hands each event over in a span below the one that led to it; receivers get this new span as their parent. An
        event that belongs to no trace does not begin one: an import would begin a million."""
        with ExitStack() as stack:
            spans: list[Span | None] = []
            traced = list(events)
            for place, logged in enumerate(events):
                span = stack.enter_context(self._delivery_span(name, logged)) if logged.traceparent else None
                spans.append(span)
                if span is not None:
                    traced[place] = logged._replace(traceparent=span.traceparent)
            outcomes = deliver(traced, read_models)
            for span, outcome in zip(spans, outcomes, strict=True):
                if span is not None and outcome is not None:
                    span.failed(outcome)
        return outcomes

    def _delivery_span(self, name: str, logged: EventEnvelope) -> AbstractContextManager[Span]:
        about = {"messaging.destination.name": name, "messaging.message.id": logged.id}
        about["allocation.correlation_id"] = logged.correlation_id
        return self._tracer.span("producer", f"deliver {name}", logged.traceparent, about)

    def _one_by_one(self, envelopes: Sequence[CommandEnvelope]) -> list[Answer]:
        """Stops at the first command for which nothing could be done now: when it is sent again, later commands on the
        same product must not have been done before it."""
        answers: list[Answer] = []
        for envelope in envelopes:
            try:
                answers += self.handle_many([envelope])
            except Unavailable as failure:
                answers.append(Answer(error=failure))
                left = Unavailable(f"Not done, because a command before it could not be done: {failure}")
                return answers + [Answer(error=left)] * (len(envelopes) - len(answers))
        return answers

    def _transaction(self, envelopes: Sequence[CommandEnvelope]) -> list[Answer]:
        with self._unit_of_work() as uow:
            known = uow.begin(envelopes)
            handled: list[Handled] = []
            fresh: list[Handled] = []
            for envelope in envelopes:
                done = known.get(envelope.key) if envelope.brought_id else None
                if done is None:
                    done = self._decide(envelope, uow)
                    fresh.append(done)
                    if envelope.brought_id:
                        known[envelope.key] = done
                handled.append(done)
            if kept := [done for done in fresh if done.is_kept]:
                uow.commit(kept)
                self._committed()
        return [done.answer_to(envelope) for envelope, done in zip(envelopes, handled, strict=True)]

    def _decide(self, envelope: CommandEnvelope, uow: UnitOfWork) -> Handled:
        """Let the handler decide. What it raises is raised from here only if it may have left a trace."""
        try:
            result = self._handlers[type(envelope.command)](envelope.command, uow)
        except Refused as refusal:
            if uow.collect_new_events():
                raise
            # An answer that is kept must not keep alive the frames it was raised in.
            return Handled(envelope, error=refusal.with_traceback(None))
        events = uow.collect_new_events()
        return Handled(envelope, result, events=events, changed=bool(events))
