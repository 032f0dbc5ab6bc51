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
"""Outcomes that stop an import, unless it skips. Being out of stock is an answer to a good row."""


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
    """How many rows of one file had which outcome."""

    file: str
    word: str
    counts: Counter[Outcome] = field(default_factory=Counter)

    @property
    def rows(self) -> int:
        return sum(self.counts.values())


@dataclass(frozen=True, slots=True)
class Stopped:
    """Why a run ended early; `row` is the row to correct, if a row was the cause."""

    reason: str
    row: RowNotTakenIn | None = None


class RowNotReached(Refused):
    """The row comes after the one that stopped the import."""


class _Here(local):
    """State of one thread, which has one group at a time."""

    first: Command | None = None
    stopped_at: Command | None = None


class StopAtFirstRefusal:
    """Wraps command handlers, and the function that sends groups to them: once a command is refused or fails, the rest
    of its group is not done, even if the bus handles the commands one by one.

    Being out of stock does not count. Each group stops by itself: groups in other threads and the next group are not
    affected. If a group is tried again, which shows in its first command coming again, it begins afresh; so does the
    command at which it stopped.
    """

    def __init__(self) -> None:
        self._here = _Here()

    def each(self, send: Send) -> Send:
        """A wrapped `send`: with each group that it sends, the wrapped handlers begin anew."""

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
                    raise RowNotReached
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

    `tell` is called with each row that was not imported, `advanced` (file, bytes read, total bytes, rows) after each
    group. With `on_error` "stop", `send` and the handlers that it leads to must be wrapped by `StopAtFirstRefusal`. The
    import stops at the first wrong row of the file, and has imported every row before it. After it, other transactions
    may have imported rows of other products from the same group, or found them wrong, too.
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
    """The place in the log of the last event that the import led to; with several partitions, in one of them."""

    @property
    def went_wrong(self) -> bool:
        """Whether a row was unreadable, or refused for another reason than being out of stock."""
        return any(tally.counts[outcome] for tally in self.tallies for outcome in WRONG)

    def run(self, files: Sequence[Rows]) -> Stopped | None:
        """Import the files, one after the other. Returns None if all were read to the end; what was imported stays."""
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
        """Returns the first row that was wrong."""
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
    """Raises `Unavailable` if that is the answer's error, because then no row can be imported."""
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
    return Outcome.NOT_REACHED if isinstance(error, RowNotReached) else Outcome.REFUSED


def _reason(error: Exception | None) -> str:
    if isinstance(error, InvalidSku):
        return f"{error}: no batch of it was ever imported or created"
    if isinstance(error, Refused):
        return str(error)
    return f"it could not be handled ({type(error).__name__}: {error})"
