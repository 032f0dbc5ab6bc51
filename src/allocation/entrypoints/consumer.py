"""From a receiver to the bus: receives commands from brokers, and handles those that arrive together as one group.

A delivery is acknowledged after the commit. One that cannot be handled, or is refused, is kept among the dead letters
with the reason, and the others continue. While the database is unreachable, nothing is received.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from threading import Event as Flag
from types import FrameType

from allocation.bootstrap import Application, receivers_of
from allocation.config import Settings
from allocation.entrypoints.garbage import collect_rarely
from allocation.entrypoints.handling import MOST_AT_ONCE, answers_of, keep_as_dead_letter, reason_for
from allocation.entrypoints.watching import watched
from allocation.service_layer.broker import Delivery, Receiver
from allocation.service_layer.errors import SetupError, Unavailable
from allocation.service_layer.observing import correlated

WAIT_SECONDS = 1.0
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.05, 5.0
MOST_DELIVERIES = 10

_log = logging.getLogger(__name__)


class Consumer:
    """Serves one receiver, in one thread, until `stopping` is set."""

    def __init__(self, application: Application, receiver: Receiver, stopping: Flag) -> None:
        self._application, self._receiver, self._stopping = application, receiver, stopping
        self._failures = 0

    def run(self) -> None:
        """Serve until `stopping` is set, whatever happens to the broker or to the database meanwhile."""
        try:
            while not self._stopping.is_set():
                self.serve(WAIT_SECONDS)
        finally:
            self._stopping.set()  # a bug of ours ends the process; its supervisor starts another
            self._receiver.close()

    def serve(self, wait_seconds: float) -> None:
        """Receive what has arrived, waiting up to `wait_seconds` for it, and handle it."""
        left: list[Delivery] = []
        try:
            deliveries = self._receiver.receive(MOST_AT_ONCE, wait_seconds)
            left += deliveries
            given_up = _given_up(deliveries)
            for group in _groups(deliveries):
                self._handle(group, {d: reason for d, reason in given_up.items() if d in group}, left)
            self._failures = 0
        except Unavailable as away:
            self._release(left)
            self._pause(away)
            self._wait_for_the_database()

    def _handle(self, group: Sequence[Delivery], bad: dict[Delivery, str], left: list[Delivery]) -> None:
        """Handle a group and settle it; settled deliveries are removed from `left`. Raises `Unavailable`."""
        application = self._application
        correlations: dict[Delivery, str] = {}
        for delivery, answer in answers_of(application, [d for d in group if d not in bad], correlations):
            if isinstance(answer.error, Unavailable):
                raise answer.error
            if answer.error is not None:
                with correlated(correlations.get(delivery, delivery.id)):
                    bad[delivery] = reason_for(answer.error)
        for delivery, reason in bad.items():
            with correlated(correlations.get(delivery, delivery.id)):
                keep_as_dead_letter(application, delivery, reason)
            left.remove(delivery)
            self._receiver.reject(delivery, reason)
        done = [d for d in group if d not in bad]
        for delivery in done:
            left.remove(delivery)
        self._receiver.accept(done)

    def _release(self, left: list[Delivery]) -> None:
        if left:
            try:
                self._receiver.release(left)
            except Unavailable as away:
                _log.warning("messages could not be released, and will be delivered again later: %s", away)

    def _pause(self, away: Unavailable) -> None:
        seconds = min(FIRST_PAUSE_SECONDS * 2.0**self._failures, LONGEST_PAUSE_SECONDS)
        self._failures += 1
        _log.warning("%s; trying again in %.2f seconds", away, seconds)
        self._stopping.wait(seconds)

    def _wait_for_the_database(self) -> None:
        """Nothing is received in the meantime: brokers count deliveries, and set aside what was delivered too often."""
        while not self._stopping.is_set():
            try:
                return self._application.views.ready()
            except Unavailable as away:
                self._pause(away)
        return None


def _given_up(deliveries: Sequence[Delivery]) -> dict[Delivery, str]:
    """Deliveries that came so often that they may be what kills this process. Only the first one of each source counts:
    those after it were delivered together with it each time, and were never tried."""
    first: dict[str, Delivery] = {}
    for delivery in deliveries:
        first.setdefault(delivery.source, delivery)
    return {
        d: f"it was delivered {d.attempts} times and never settled"
        for d in first.values()
        if d.attempts > MOST_DELIVERIES
    }


def _groups(deliveries: Sequence[Delivery]) -> Iterator[Sequence[Delivery]]:
    """Deliveries that come for the first time are one group. One that has come before is a group of its own, and is
    settled before the next one is tried: if one of them kills this process, it is the first one to come again."""
    for comes_again, group in groupby(deliveries, lambda delivery: delivery.attempts > 1):
        if comes_again:
            yield from ([delivery] for delivery in group)
        else:
            yield list(group)


def serve_all(application: Application, receivers: Mapping[str, Receiver], stopping: Flag) -> None:
    """Serve each receiver in a thread of its own, so that an unreachable broker does not hold up the others. Returns
    once `stopping` is set and received deliveries are settled; raises the error of a thread, unless `Unavailable`."""
    with ThreadPoolExecutor(len(receivers), "receiver") as threads:
        running = [threads.submit(Consumer(application, receiver, stopping).run) for receiver in receivers.values()]
    for ended in running:
        ended.result()


def run_consumer(settings: Settings) -> None:
    """Serve the brokers in `ALLOCATION_RECEIVE_FROM` until SIGTERM or SIGINT; received deliveries are finished first.

    Raises `SetupError`, `Unavailable` as `bootstrap` does, and `SetupError` if nothing is named.
    """
    stopping = Flag()

    def stop(_signal: int, _frame: FrameType | None) -> None:
        stopping.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    application = watched(settings)
    try:
        receivers = receivers_of(application)
        if not receivers:
            raise SetupError(
                "Set ALLOCATION_RECEIVE_FROM to the brokers to receive commands from, as in redis+streams://HOST/0"
            )
        _log.info("receiving from: %s", ", ".join(receivers))
        collect_rarely()
        serve_all(application, receivers, stopping)
    finally:
        application.close()
