"""One run of an import: groups of commands through the bus, and a count of what became of each row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import wraps
from threading import local
from typing import Any, Literal

from allocation.domain.commands import Command
from allocation.domain.errors import InvalidSku, NotEnoughStock, Refused
from allocation.entrypoints.importing.rows import Group, Rows, UnreadableFile
from allocation.service_layer.answers import Answer, Promise
from allocation.service_layer.envelope import Clock, CommandEnvelope, Ids, LogPosition
from allocation.service_layer.errors import Unavailable
from allocation.service_layer.fork_join import Send
from allocation.service_layer.unit_of_work import UnitOfWork


class Outcome(StrEnum):
    """What became of a row."""

    TAKEN_IN = "taken in"
    ALLOCATED = "allocated"
    WAITING = "waiting"
    THERE_ALREADY = "there already"
    OUT_OF_STOCK = "out of stock"
    REFUSED = "refused"
    UNREADABLE = "unreadable"
    NOT_REACHED = "not reached"


NOT_TAKEN_IN = (Outcome.OUT_OF_STOCK, Outcome.REFUSED, Outcome.UNREADABLE)
WRONG = (Outcome.REFUSED, Outcome.UNREADABLE)
"""That stop an import, unless it skips. Being out of stock is an answer to a good row."""


@dataclass(frozen=True, slots=True)
class RowNotTakenIn:
    """A row that changed nothing, and why."""

    file: str
    number: int
    row: str
    outcome: Outcome
    reason: str


@dataclass(slots=True)
class Tally:
    """One file: how many of its rows had which outcome."""

    file: str
    word: str
    counts: Counter[Outcome] = field(default_factory=Counter)

    @property
    def rows(self) -> int:
        return sum(self.counts.values())


@dataclass(frozen=True, slots=True)
class Stopped:
    """Why a run ended early; `row` is the one to mend, if it was a row."""

    reason: str
    row: RowNotTakenIn | None = None


class NotReached(Refused):
    """The row stands behind the one that stopped the import."""


class _Here(local):
    """Of one thread, which has one group at a time."""

    first: Command | None = None
    stopped_at: Command | None = None


class StopAtFirstRefusal:
    """Wraps command handlers, and what sends groups to them: once one has refused or failed, the rest of that group is
    left undone, also where the bus handles it one by one.

    Being out of stock does not count. Each group stops by itself, those at work in other threads as well as the next.
    A group that is tried again, which begins with its first command, begins afresh; so does the command it stopped at.
    """

    def __init__(self) -> None:
        self._here = _Here()

    def each(self, send: Send) -> Send:
        """`send`, with whose groups the wrapped handlers begin anew."""

        @wraps(send)
        def send_anew(envelopes: Sequence[CommandEnvelope]) -> list[Answer]:
            self._here.first, self._here.stopped_at = envelopes[0].command, None
            return send(envelopes)

        return send_anew

    def wrap(self, handlers: Mapping[type, Callable[..., Any]]) -> dict[type, Callable[..., Any]]:
        return {command: self._wrapped(handler) for command, handler in handlers.items()}

    def _wrapped(self, handler: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(handler)
        def handle(command: Command, uow: UnitOfWork, **dependencies: Any) -> Any:
            here = self._here
            if here.stopped_at is not None:
                if command is not here.stopped_at and command is not here.first:
                    raise NotReached
                here.stopped_at = None
            try:
                return handler(command, uow, **dependencies)
            except NotEnoughStock:
                raise
            except Exception:
                here.stopped_at = command
                raise

        return handle


@dataclass(slots=True)
class Import:
    """`send` handles a group in one transaction (`MessageBus.handle_many`), or in several at once (`ForkJoin`).

    `tell` hears of each row that was not taken in, `advanced` (file, bytes read, of how many, rows) after each group.
    With `on_error` "stop", `send` and the handlers behind it must be wrapped by `StopAtFirstRefusal`. It stops at the
    first wrong row of the file, and every row before that was taken in; behind it, of the same group and in another
    transaction, so were some of other products, or were found wrong too.
    """

    send: Send
    ids: Ids
    clock: Clock
    client: str
    group: int
    on_error: Literal["stop", "skip"]
    tell: Callable[[RowNotTakenIn], None]
    advanced: Callable[[str, int, int | None, int], None]
    tallies: list[Tally] = field(default_factory=list)
    position: LogPosition | None = None
    """Of the last event in the log that the import led to; with several log partitions, of one of them."""

    @property
    def went_wrong(self) -> bool:
        """Whether a row was unreadable or refused (but for being out of stock)."""
        return any(tally.counts[outcome] for tally in self.tallies for outcome in WRONG)

    def run(self, files: Sequence[Rows]) -> Stopped | None:
        """Take in the files, one after the other. Answers None if it came to their ends; what was taken in stays."""
        correlation_id = self.ids.new()
        try:
            for rows in files:
                self.tallies.append(tally := Tally(rows.name, rows.word))
                for group in rows.groups(self.group):
                    wrong = self._take_in(group, rows, tally, correlation_id)
                    self.advanced(rows.name, rows.position_bytes, rows.size_bytes, tally.rows)
                    if wrong and self.on_error == "stop":
                        return Stopped(f"{wrong.file}, {rows.word} {wrong.number}: {wrong.reason}", wrong)
        except (UnreadableFile, Unavailable) as failure:
            return Stopped(str(failure))
        except KeyboardInterrupt:
            return Stopped("interrupted")
        return None

    def _take_in(self, group: Group, rows: Rows, tally: Tally, correlation_id: str) -> RowNotTakenIn | None:
        """Answers the first row that was wrong."""
        bad = group.bad
        if bad and self.on_error == "stop":
            group, bad = group.before(bad[0].number), bad[:1]
        left_out = self._handle(group, rows, tally, correlation_id)
        if not (self.on_error == "stop" and any(x.outcome in WRONG for x in left_out)):
            tally.counts[Outcome.UNREADABLE] += len(bad)
            left_out += [RowNotTakenIn(rows.name, x.number, x.text, Outcome.UNREADABLE, x.reason) for x in bad]
        left_out.sort(key=lambda x: x.number)
        for row in left_out:
            self.tell(row)
        return next((row for row in left_out if row.outcome in WRONG), None)

    def _handle(self, group: Group, rows: Rows, tally: Tally, correlation_id: str) -> list[RowNotTakenIn]:
        if not group.commands:
            return []
        now, client, ids = self.clock.now(), self.client, self.ids.several(len(group.commands))
        answers = self.send(
            [
                CommandEnvelope(command, message_id, now, correlation_id, "import", client)
                for command, message_id in zip(group.commands, ids, strict=True)
            ]
        )
        outcomes = list(map(outcome_of, answers))
        counts = Counter(outcomes)
        del counts[Outcome.NOT_REACHED]
        tally.counts += counts
        self.position = max((a.position for a in answers if a.position is not None), default=self.position)
        if counts.keys().isdisjoint(NOT_TAKEN_IN):
            return []
        return [
            RowNotTakenIn(rows.name, number, rows.shape.text_of(command), outcome, _reason(answer.error))
            for number, command, outcome, answer in zip(group.numbers, group.commands, outcomes, answers, strict=True)
            if outcome in NOT_TAKEN_IN
        ]


def outcome_of(answer: Answer) -> Outcome:
    """Raises `Unavailable` if that is what the answer says: no row can be taken in then."""
    error = answer.error
    if error is None:
        if not answer.changed:
            return Outcome.THERE_ALREADY
        result = answer.result
        if type(result) is not Promise:
            return Outcome.TAKEN_IN
        return Outcome.WAITING if result.batchref is None else Outcome.ALLOCATED
    if isinstance(error, Unavailable):
        raise error
    if isinstance(error, NotEnoughStock):
        return Outcome.OUT_OF_STOCK
    return Outcome.NOT_REACHED if isinstance(error, NotReached) else Outcome.REFUSED


def _reason(error: Exception | None) -> str:
    if isinstance(error, InvalidSku):
        return f"{error}: no batch of it was ever taken in"
    if isinstance(error, Refused):
        return str(error)
    return f"it could not be handled ({type(error).__name__}: {error})"
