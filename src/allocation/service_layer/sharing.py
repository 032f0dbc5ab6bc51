"""How workers share the leases: none takes more than its fair share while others are there to take the rest."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from threading import Lock

from allocation.service_layer.envelope import Clock


class FairShare:
    """Counts the leases of one worker against its fair share: all leases, divided by the workers that live.

    `live_workers` records that this worker lives, and returns how many do. A lease that nobody has held for a whole
    `lease_seconds` is taken even beyond the fair share, and kept: the others may not know its subscription. Threads
    share this object.
    """

    def __init__(self, leases: int, live_workers: Callable[[], int], clock: Clock, lease_seconds: float) -> None:
        self._leases, self._live_workers = leases, live_workers
        self._clock, self._lease_seconds = clock, lease_seconds
        self._lock = Lock()
        self._held: set[tuple[str, int]] = set()
        self._found: set[tuple[str, int]] = set()
        self._fair = leases
        self._counted_at: datetime | None = None

    def count_anew(self, leases: int) -> None:
        """From now on there are `leases` leases."""
        with self._lock:
            if leases != self._leases:
                self._leases, self._counted_at = leases, None

    def patience_seconds(self) -> float:
        """How long a lease has to have been free before this worker takes it."""
        with self._lock:
            self._count()
            return 0.0 if len(self._held) < self._fair else self._lease_seconds

    def took(self, subscription: str, partition: int) -> None:
        """Record that this worker holds the lease, from now on or still."""
        place = (subscription, partition)
        with self._lock:
            if place not in self._held and place not in self._found:
                (self._held if len(self._held) < self._fair else self._found).add(place)

    def lost(self, subscription: str, partition: int) -> None:
        """Record that this worker does not hold the lease, or no longer does."""
        with self._lock:
            self._held.discard((subscription, partition))
            self._found.discard((subscription, partition))

    def is_too_much(self, subscription: str, partition: int) -> bool:
        """Whether to give this lease back, because another worker has joined."""
        with self._lock:
            self._count()
            return (subscription, partition) in self._held and len(self._held) > self._fair

    def _count(self) -> None:
        """Count the workers again now and then, well before the others would take this one for dead."""
        now = self._clock.now()
        if self._counted_at is None or now - self._counted_at >= timedelta(seconds=self._lease_seconds / 3):
            self._fair = -(-self._leases // max(1, self._live_workers()))
            self._counted_at = now
