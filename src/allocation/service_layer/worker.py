"""Runs the subscriptions, a thread each, so that a slow or unreachable destination holds up no other.

Workers poll, and rely on nothing else: at once while there is work, then less and less often. `wake` only shortens the
wait.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from datetime import timedelta
from threading import Event as Flag
from threading import Thread

from allocation.service_layer.delivering import Destination, Line
from allocation.service_layer.envelope import Clock
from allocation.service_layer.errors import LeaseLost, Unavailable
from allocation.service_layer.sharing import FairShare
from allocation.service_layer.subscriptions import Backoff, Lease, Subscription, SubscriptionStore

SHORTEST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.005, 0.5

_log = logging.getLogger(__name__)


class Bell:
    """Rung after each commit that added to the log: a hint to the readers of the log. Callers may not assume that
    anybody hears it; ringing costs next to nothing and raises nothing."""

    def __init__(self) -> None:
        self._listeners: list[Callable[[], None]] = []

    def heard_by(self, listener: Callable[[], None]) -> None:
        self._listeners.append(listener)

    def ring(self) -> None:
        for listener in self._listeners:
            listener()


class WakeUp(ABC):
    """The bell across processes. Only a hint: callers may not assume that it is heard, or heard only once."""

    @abstractmethod
    def ring(self) -> None:
        """Announce that the log grew. Returns at once, raises nothing, and may be called from any thread."""

    @abstractmethod
    def listen(self, heard: Callable[[], None]) -> None:
        """Call `heard`, in a thread of its own, whenever another process rings, until `close`."""

    @abstractmethod
    def close(self) -> None:
        """Stop ringing and listening."""


class Worker:
    """Delivers for its fair share of the subscriptions' partitions, and for those that no other worker takes.

    `owner` is this worker's own name; `wake_up` announces commits in other processes. `start` returns at once; `stop`
    waits for the deliveries under way and gives back the leases.
    """

    def __init__(
        self,
        subscriptions: Sequence[Subscription],
        store: SubscriptionStore,
        clock: Clock,
        backoff: Backoff,
        owner: str,
        partitions: int = 1,
        lease_seconds: float = 15.0,
        wake_up: WakeUp | None = None,
    ) -> None:
        self._wake_up = wake_up
        self._store, self._clock, self._owner, self._lease_seconds = store, clock, owner, lease_seconds
        self._backoff, self._partitions = backoff, partitions
        self._stopping = Flag()
        self._share = FairShare(len(subscriptions) * partitions, self._live_workers, clock, lease_seconds)
        self._runs = [self._run_of(subscription) for subscription in subscriptions]
        self._also: tuple[_Run, ...] = ()

    @property
    def subscriptions(self) -> list[Subscription]:
        """The subscriptions it delivers for, without those of `deliver_also`."""
        return [run.subscription for run in self._runs]

    def names(self) -> list[str]:
        return [subscription.name for subscription in self.subscriptions]

    def start(self, from_the_beginning: Collection[str] = ()) -> None:
        """`from_the_beginning` names subscriptions that start at the beginning of the log if they are new. Raises
        `Unavailable` if the store cannot be reached."""
        for subscription in self.subscriptions:
            early = subscription.from_the_beginning or subscription.name in from_the_beginning
            self._store.join(subscription.name, early)
        for run in self._runs:
            run.start()
        if self._wake_up is not None:
            self._wake_up.listen(self.wake)

    def deliver_also(self, subscriptions: Sequence[Subscription]) -> None:
        """Deliver for these, too, and no longer for others that an earlier call named. They must have their cursors.
        Called by one thread at a time, again and again: a subscription that replaces one of the same name begins in the
        first call after that one has finished its delivery."""
        wanted = {id(s): s for s in subscriptions}
        staying = []
        for run in self._also:
            if wanted.pop(id(run.subscription), None) is None:
                run.stop()
            if run.is_alive():
                staying.append(run)
        busy = {run.subscription.name for run in staying}
        new = [self._run_of(s) for s in wanted.values() if s.name not in busy]
        self._also = (*staying, *new)
        self._share.count_anew((len(self._runs) + len(subscriptions)) * self._partitions)
        for run in new:
            run.start()

    def wake(self) -> None:
        """There may be something to read. Costs next to nothing, and may be called from any thread."""
        for run in (*self._runs, *self._also):
            run.flag.set()

    def stop(self) -> None:
        self._stopping.set()
        self.wake()
        runs = (*self._runs, *self._also)
        for run in runs:
            if run.is_alive():
                run.join()
        if any(run.ident for run in runs):
            self._leave()

    def pause(self, seconds: float) -> None:
        """Wait for `seconds`, or until the worker is to stop."""
        if seconds:
            self._stopping.wait(seconds)

    def keep_running(self) -> bool:
        return not self._stopping.is_set()

    def lease(
        self,
        subscription: Subscription,
        partition: int,
        held: Lease | None,
        finish: Callable[[Lease], Lease] = lambda held: held,
        least_seconds: float = 0.0,
    ) -> Lease | None:
        """The lease that is held, while more than half its time is left; else one taken anew, for `least_seconds` or
        more. None: another worker has it, or should have it. Before a lease is given back or taken anew, `finish` (a
        `Line.finish`) settles it, because the next lease starts at the place that is written. Raises what `finish`
        raises."""
        if held is not None and self._share.is_too_much(subscription.name, partition):
            self.release(finish(held))
            held = None
        lease_seconds = max(self._lease_seconds, subscription.lease_seconds, least_seconds)
        half = timedelta(seconds=lease_seconds / 2)
        if held is not None and held.until - self._clock.now() <= half:
            held = finish(held)  # this prolongs it, if there was anything to settle
        if held is not None and held.until - self._clock.now() > half:
            return held
        patience_seconds = 0.0 if held is not None else self._share.patience_seconds()
        lease = self._store.lease(subscription.name, partition, self._owner, lease_seconds, patience_seconds)
        (self._share.lost if lease is None else self._share.took)(subscription.name, partition)
        return lease

    def lost(self, subscription: Subscription, partition: int) -> None:
        """This worker no longer holds the lease, whoever has it now."""
        self._share.lost(subscription.name, partition)

    def release(self, lease: Lease) -> None:
        self._share.lost(lease.subscription, lease.partition)
        self._store.release(lease)

    def _run_of(self, subscription: Subscription) -> _Run:
        destination = Destination.of(subscription, self._clock, self._backoff)
        lines = [
            Line(
                subscription,
                self._store,
                self._clock,
                self._backoff,
                lease_seconds=self._lease_seconds,
                destination=destination,
            )
            for _ in range(self._partitions)
        ]
        return _Run(self, subscription, lines)

    def _live_workers(self) -> int:
        return self._store.live(self._owner, self._lease_seconds)

    def _leave(self) -> None:
        try:
            self._store.leave(self._owner)
        except Unavailable as away:
            _log.warning(
                "the other workers could not be told that this one has left; they will notice by themselves: %s", away
            )


class _Run(Thread):
    """The thread of one subscription."""

    def __init__(self, worker: Worker, subscription: Subscription, lines: Sequence[Line]) -> None:
        super().__init__(name=f"subscription {subscription.name}", daemon=True)
        self.subscription, self.flag = subscription, Flag()
        self._worker, self._lines = worker, lines
        self._leases: list[Lease | None] = [None] * len(lines)
        self._stopping = Flag()

    def stop(self) -> None:
        """End after the delivery under way. Returns at once."""
        self._stopping.set()
        self.flag.set()

    def run(self) -> None:
        wait_seconds = SHORTEST_WAIT_SECONDS
        while self._worker.keep_running() and not self._stopping.is_set():
            self.flag.clear()
            moved = [self._round(partition, line) for partition, line in enumerate(self._lines)]
            if any(moved):
                if not any(line.is_behind for line in self._lines):
                    self._worker.pause(self.subscription.pause_seconds)
                wait_seconds = SHORTEST_WAIT_SECONDS
            elif self.flag.wait(wait_seconds):
                wait_seconds = SHORTEST_WAIT_SECONDS
            else:
                wait_seconds = min(wait_seconds * 2, LONGEST_WAIT_SECONDS)
        self._give_back()

    def _round(self, partition: int, line: Line) -> bool:
        try:
            lease = self._leases[partition] = self._worker.lease(
                self.subscription, partition, self._leases[partition], line.finish, line.lease_seconds
            )
            if lease is None:
                return False
            self._leases[partition], moved = line.round(lease)
            return moved
        except LeaseLost:
            _log.warning("%s, partition %d: another worker took over", self.subscription.name, partition)
        except Unavailable as away:
            _log.warning("%s, partition %d: %s", self.subscription.name, partition, away)
        except Exception:  # noqa: BLE001  # logged; if the thread ended here, nobody would deliver for its subscription
            _log.exception("%s, partition %d: it cannot continue", self.subscription.name, partition)
        # If the connection was lost at the commit, whether the cursor moved is unknown: a new lease brings its place.
        self._leases[partition] = None
        self._worker.lost(self.subscription, partition)
        return False

    def _give_back(self) -> None:
        for lease, line in zip(self._leases, self._lines, strict=True):
            if lease is not None:
                try:
                    self._worker.release(line.finish(lease))
                except LeaseLost:
                    _log.info(
                        "%s: another worker has it already; what was not settled will be delivered again",
                        lease.subscription,
                    )
                except Unavailable as away:
                    _log.warning(
                        "%s: the lease could not be given back, and expires by itself: %s", self.subscription.name, away
                    )
