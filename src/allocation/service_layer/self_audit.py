"""The self-audit: an endless walk over the books, a few products at a time, alongside all other work.

One process at a time walks; where it stands and what it found is stored, so that the next process continues there, and
any process can report it.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from threading import Event as Flag
from threading import Thread

from allocation.service_layer.comparing import Difference
from allocation.service_layer.envelope import Clock
from allocation.service_layer.errors import Unavailable
from allocation.service_layer.verify import ForgedPlace, Place, Step, Steps, Walk

SMALL_STEPS = Steps(products=20, events=2_000, rows=1_000)
MOST_KEPT = 100
REST_SECONDS = 60.0
LEASE_SECONDS = 30.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Round:
    """One walk over everything: when it began, how far it has come, and what it found. `differences` is their number,
    `first` holds the first of them. `ended_at` None: it is under way."""

    began_at: datetime
    ended_at: datetime | None = None
    events: int = 0
    products: int = 0
    commands: int = 0
    differences: int = 0
    first: Sequence[Difference] = ()

    def with_step(self, step: Step) -> Round:
        """The same round, one step further."""
        return replace(
            self,
            events=self.events + (step.looked_at if step.part == "products" else 0),
            products=self.products + step.products,
            commands=self.commands + (step.looked_at if step.part == "commands" else 0),
            differences=self.differences + len(step.differences),
            first=(*self.first, *step.differences)[:MOST_KEPT],
        )


@dataclass(frozen=True, slots=True)
class Audit:
    """Where the self-audit stands: the round under way and its place, and the last round that was completed."""

    place: str = ""
    current: Round | None = None
    last: Round | None = None
    owner: str = field(default="", compare=False)


class AuditStore(ABC):
    """Keeps one `Audit` for all processes. Raises `Unavailable` when it cannot be reached."""

    @abstractmethod
    def read(self) -> Audit:
        """What was written last; a round that cannot be read (another version wrote it) is left out. Callers may not
        assume that they may write: `take` decides."""

    @abstractmethod
    def take(self, owner: str, seconds: float) -> Audit | None:
        """Take the right to go on, for `seconds`. Returns where to go on; None: another owner has the right."""

    @abstractmethod
    def write(self, audit: Audit, owner: str) -> bool:
        """Store it. False, having written nothing, if another owner took over meanwhile."""


class SelfAudit:
    """Walks in a thread of its own, `pause_seconds` between two small steps, and `rest_seconds` between two rounds.

    `start` returns at once; with a pause of 0 it does nothing. `stop` waits for the step under way.
    """

    def __init__(
        self,
        walk: Walk,
        store: AuditStore,
        clock: Clock,
        owner: str,
        pause_seconds: float,
        rest_seconds: float = REST_SECONDS,
    ) -> None:
        self._walk, self._store, self._clock, self._owner = walk, store, clock, owner
        self._pause_seconds, self._rest_seconds = pause_seconds, rest_seconds
        self._stopping = Flag()
        self._thread: Thread | None = None

    def start(self) -> None:
        if self._pause_seconds > 0 and self._thread is None:
            self._thread = Thread(target=self._run, name="self-audit", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()

    def step(self) -> float:
        """One step, if no other process is at it. Returns how many seconds to wait until the next."""
        audit = self._store.take(self._owner, LEASE_SECONDS + self._pause_seconds)
        if audit is None:
            return self._rest_seconds
        now = self._clock.now()
        if audit.current is None and audit.last is not None and audit.last.ended_at is not None:
            rested_seconds = (now - audit.last.ended_at).total_seconds()
            if 0 <= rested_seconds < self._rest_seconds:
                return self._rest_seconds - rested_seconds
        place, under_way = _under_way(audit)
        step = self._walk.step(place)
        current = (under_way or Round(now)).with_step(step)
        for difference in step.differences:
            _log.error("self-audit: %s", difference)
        if step.goes_on is not None:
            self._store.write(Audit(str(step.goes_on), current, audit.last), self._owner)
            return self._pause_seconds
        self._store.write(Audit("", None, replace(current, ended_at=self._clock.now())), self._owner)
        return self._rest_seconds

    def _run(self) -> None:
        pause_seconds = self._pause_seconds
        while not self._stopping.wait(pause_seconds):
            try:
                pause_seconds = self.step()
            except Unavailable as away:
                _log.warning("self-audit: %s", away)
                pause_seconds = self._rest_seconds
            except Exception:  # noqa: BLE001  # logged; if the audit ended here, its last good round would stand
                _log.exception("self-audit: it cannot continue here, and tries again later")
                pause_seconds = self._rest_seconds


def _under_way(audit: Audit) -> tuple[Place, Round | None]:
    """Where to go on, and in which round; None: a new round begins, also if the stored place is not valid (another
    version wrote it)."""
    if audit.current is not None:
        try:
            return Place.parse(audit.place), audit.current
        except ForgedPlace:
            pass
    return Place(), None
