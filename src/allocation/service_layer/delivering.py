"""One round of a subscription: read the log, deliver what is wanted, settle.

If a destination refuses an event, its key gets a lane, and the cursor goes on with the other keys. If a destination
cannot be reached, its events stay where they are, and no attempt is counted.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from math import inf

from allocation.service_layer.envelope import Clock, EventEnvelope, LogPosition
from allocation.service_layer.errors import Busy, LeaseLost, RejectedForGood, Unavailable
from allocation.service_layer.observing import correlated
from allocation.service_layer.read_models import ReadModels
from allocation.service_layer.subscriptions import (
    Backoff,
    Deliver,
    Lane,
    Lease,
    Outcomes,
    Settlement,
    Subscription,
    SubscriptionStore,
)
from allocation.service_layer.waiting import Timer

_log = logging.getLogger(__name__)

LONGEST_ABSENCE_SECONDS = 15.0

DELIVERIES_A_LEASE = 3
"""A delivery takes at most a third of its lease, and none begins when less than that is left."""

LONGEST_LEASE_SECONDS = 180.0
"""What a lease grows to at most, for a slow destination: if its owner dies, nobody delivers for that long."""

LANES_A_ROUND = 10_000
"""A round's lanes are written in one transaction, a parameter for each: PostgreSQL takes 65,535 in a statement."""


class Destination:
    """Where a subscription delivers, for all partitions. After it could not be reached, it is left alone for a while,
    but never for longer than `longest_seconds`, so that its return is soon noticed. When it goes and when it is back is
    logged under `name`, that of the subscription."""

    def __init__(
        self, name: str, clock: Clock, backoff: Backoff, longest_seconds: float = LONGEST_ABSENCE_SECONDS
    ) -> None:
        self._name = name
        self._clock, self._backoff, self._longest_seconds = clock, backoff, longest_seconds
        self._failures = 0
        self._away_until: datetime | None = None
        self._pause_is = timedelta()

    @classmethod
    def of(cls, subscription: Subscription, clock: Clock, usual: Backoff) -> Destination:
        """The destination of a subscription. If the subscription has a schedule of its own, that is kept to, however
        long its pauses are."""
        if subscription.backoff is None:
            return cls(subscription.name, clock, usual)
        return cls(subscription.name, clock, subscription.backoff, float("inf"))

    def is_away(self) -> bool:
        """Whether it could not be reached a moment ago; it is left alone until it may be back."""
        if self._away_until is None:
            return False
        left = self._away_until - self._clock.now()
        return timedelta() < left <= self._pause_is  # more is left than the whole pause: the clock was set back

    def was_away(self, failure: Exception) -> None:
        """It could not be reached. If it said when to try again (`Busy`), it is left alone for exactly that long."""
        if isinstance(failure, Busy):
            self._pause(failure.retry_after_seconds)
            return
        if not self._failures:
            _log.warning("%s: its destination cannot be reached: %s", self._name, failure)
        self._failures += 1
        self._pause(min(self._backoff.seconds(self._failures), self._longest_seconds))

    def was_there(self) -> None:
        if self._failures:
            _log.info("%s: its destination can be reached again", self._name)
        self._failures = 0

    def _pause(self, seconds: float) -> None:
        self._pause_is = timedelta(seconds=seconds)
        self._away_until = self._clock.now() + self._pause_is


class Line:
    """One subscription on one partition: reads, delivers, settles. Used by one thread, the holder of the lease.

    `destination` is shared by the lines of a subscription.
    """

    def __init__(
        self,
        subscription: Subscription,
        store: SubscriptionStore,
        clock: Clock,
        backoff: Backoff,
        lease_seconds: float = 15.0,
        destination: Destination | None = None,
    ) -> None:
        self._subscription, self._store, self._clock = subscription, store, clock
        self._destination = destination or Destination.of(subscription, clock, backoff)
        self._backoff, self._page = subscription.backoff or backoff, subscription.page
        self.lease_seconds = max(lease_seconds, subscription.lease_seconds)
        """How long its leases should be."""
        self._without_lanes: int | None = None  # the epoch in which there are none: only the lease's owner opens lanes
        self._unsettled_since: datetime | None = None
        self._lanes_are_next, self._last_drained = False, ""
        self.is_behind = False
        """Whether the last page was full: there is more to read."""

    def round(self, lease: Lease) -> tuple[Lease, bool]:
        """Deliver what is there, up to a page, and the lanes that are due. Returns the lease and whether anything
        moved.

        Lanes that a round did not reach have the next one for themselves: at a destination that takes only so much at a
        time, lanes and cursor take turns.

        Raises `LeaseLost`; then what was delivered may be delivered again by the new owner. If the lease was lost
        because the round took longer, the next rounds get longer leases: otherwise two workers with a slow destination
        would deliver the same events by turns, without end, and neither would ever write its cursor.
        """
        if self._destination.is_away():
            return lease, False
        now = self._clock.now()
        latest = max(now, lease.until - timedelta(seconds=self.lease_seconds / DELIVERIES_A_LEASE))
        lanes = self._lanes(lease)
        settlement = Settlement(lease.seq, lanes)
        due = [lane for lane in lanes.values() if lane.due_at is not None and lane.due_at <= now]
        is_for_lanes = self._lanes_are_next and bool(due)
        if not is_for_lanes:
            self._go_on(lease, lanes, settlement)
        all_were_reached = self._drain_all(due, settlement, latest)
        self._lanes_are_next = not is_for_lanes and not all_were_reached
        moved = settlement != Settlement(lease.seq, lanes)
        if not (moved or is_for_lanes or self._destination.is_away()):
            self._be_idle(lease)
        if self._may_wait(settlement, moved, now):
            return replace(lease, seq=settlement.seq), moved
        try:
            return self._settle(lease, settlement), moved
        except LeaseLost:
            took_seconds = (self._clock.now() - now).total_seconds()
            if took_seconds > self.lease_seconds:
                self.lease_seconds = min(DELIVERIES_A_LEASE * took_seconds, LONGEST_LEASE_SECONDS)
            raise

    def finish(self, lease: Lease) -> Lease:
        """Settle what was delivered and is not settled yet. Raises `LeaseLost`, `Unavailable`."""
        return lease if self._unsettled_since is None else self._settle(lease, Settlement(lease.seq))

    def _lanes(self, lease: Lease) -> dict[str, Lane]:
        if self._without_lanes == lease.epoch:
            return {}
        found = {lane.key: lane for lane in self._store.lanes(lease.subscription, lease.partition)}
        self._without_lanes = None if found else lease.epoch
        return found

    def _may_wait(self, settlement: Settlement, moved: bool, now: datetime) -> bool:
        """Whether only the cursor is to be written, and not yet."""
        if settlement != Settlement(settlement.seq, settlement.seen):
            return False
        if self._unsettled_since is None:
            if moved:
                self._unsettled_since = now
            return not moved or self._subscription.settle_seconds > 0
        # After the clock was set back, the cursor must not stay unwritten until it is as late as before.
        return 0 <= (now - self._unsettled_since).total_seconds() < self._subscription.settle_seconds

    def _settle(self, lease: Lease, settlement: Settlement) -> Lease:
        settled = self._store.settle(lease, settlement, self.lease_seconds)
        self._unsettled_since = None
        if settlement.lanes:
            self._without_lanes = None
        return settled

    def _be_idle(self, lease: Lease) -> None:
        if self._subscription.idle is not None:
            try:
                self._subscription.idle(LogPosition(lease.partition, lease.seq))
            except Unavailable as away:
                self._destination.was_away(away)
            else:
                self._destination.was_there()

    def _go_on(self, lease: Lease, lanes: Mapping[str, Lane], settlement: Settlement) -> None:
        events = self._store.read(lease.partition, lease.seq, self._page)
        self.is_behind = len(events) == self._page
        wanted = [e for e in events if e.key not in lanes and type(e.event) in self._subscription.wants]
        refused = self._hand_over(wanted, settlement)
        for logged in events:
            failure = refused.get(logged.id)
            if isinstance(failure, Unavailable):
                return
            if failure is not None and logged.key not in settlement.lanes:
                lane = Lane(lease.subscription, logged.key, lease.partition, logged.position.seq, 0, None, "")
                settlement.lanes[logged.key] = self._failed(lane, failure)
            settlement.seq = logged.position.seq

    def _drain_all(self, due: Sequence[Lane], settlement: Settlement, latest: datetime) -> bool:
        """Drain lanes until `latest`, so that the round does not outlast its lease, and no more than can be settled at
        once, beginning after the lane that was drained last. Returns whether there was time for all of them and the
        destination took them."""
        for number, lane in enumerate(sorted(due, key=lambda lane: (lane.key <= self._last_drained, lane.key))):
            if self._destination.is_away() or self._clock.now() > latest or number == LANES_A_ROUND:
                return False
            self._drain(lane, settlement)
            if settlement.lanes.get(lane.key) != lane:
                self._last_drained = lane.key
        return not (due and self._destination.is_away())

    def _drain(self, lane: Lane, settlement: Settlement) -> None:
        """Deliver a lane's events up to the cursor, in order; the lane closes when it has caught up."""
        events = self._store.read_key(lane, settlement.seq, self._page)
        caught_up = len(events) < self._page
        if lane.discard is not None and events:
            skipped = events.pop(0)
            settlement.discarded.append((lane, skipped.position.seq, *lane.discard))
            lane = _moved(lane, skipped.position.seq + 1)
        wanted = [e for e in events if type(e.event) in self._subscription.wants]
        refused = self._hand_over(wanted, settlement)
        for logged in wanted:
            failure = refused.get(logged.id)
            if failure is None:
                lane = _moved(lane, logged.position.seq + 1)
                continue
            if not isinstance(failure, Unavailable):
                lane = self._failed(replace(lane, next_seq=logged.position.seq), failure)
            settlement.lanes[lane.key] = lane
            return
        if caught_up:
            settlement.closed.add(lane.key)
        else:
            settlement.lanes[lane.key] = _moved(lane, events[-1].position.seq + 1)

    def _hand_over(self, events: Sequence[EventEnvelope], settlement: Settlement) -> dict[str, Exception]:
        """What was not delivered, by event id."""
        if not events:
            return {}
        outcomes = zip(events, self._subscription.deliver(events, settlement.read_models), strict=True)
        refused = {logged.id: failure for logged, failure in outcomes if failure is not None}
        away = next((failure for failure in refused.values() if isinstance(failure, Unavailable)), None)
        if away is not None:
            self._destination.was_away(away)
        else:
            self._destination.was_there()
        return refused

    def _failed(self, lane: Lane, failure: Exception) -> Lane:
        attempts = lane.attempts + 1
        due = self._clock.now() + timedelta(seconds=self._backoff.seconds(attempts))
        reason = f"{type(failure).__name__}: {failure}"[:1000]
        parked = isinstance(failure, RejectedForGood) or self._backoff.gives_up(attempts)
        return Lane(
            lane.subscription, lane.key, lane.partition, lane.next_seq, attempts, None if parked else due, reason
        )


def _moved(lane: Lane, next_seq: int) -> Lane:
    """The lane after an event that is done with: its attempts start again at 0."""
    return Lane(lane.subscription, lane.key, lane.partition, next_seq, 0, lane.due_at, lane.reason)


def one_by_one(
    handle: Callable[[EventEnvelope, ReadModels], None], timer: Timer | None = None, most_seconds: float = inf
) -> Deliver:
    """Deliver to a plain function, which raises `Unavailable` or another exception if it cannot do its work.

    After `most_seconds`, by `timer`, the rest is left to the next round: a page that outlasts its lease would be
    delivered from its beginning by the next owner, and by the one after that, without end.
    """

    def deliver(events: Sequence[EventEnvelope], read_models: ReadModels) -> Outcomes:
        outcomes: list[Exception | None] = []
        refused: dict[str, Exception] = {}
        begin = timer.seconds() if timer else 0.0
        for logged in events:
            if timer and outcomes and timer.seconds() - begin >= most_seconds:
                return outcomes + [Busy("the rest is delivered in the next round", 0.0)] * (len(events) - len(outcomes))
            failure = refused.get(logged.key)
            if failure is None:
                written = ReadModels()
                try:
                    with correlated(logged.correlation_id):
                        handle(logged, written)
                    read_models.take(written)
                except Unavailable as away:
                    return outcomes + [away] * (len(events) - len(outcomes))
                except Exception as refusal:  # noqa: BLE001  # parked in the key's lane, where it is seen
                    failure = refused[logged.key] = refusal
                    with correlated(logged.correlation_id):
                        _log.warning("event %s of %s was refused: %s", logged.id, logged.key, refusal)
            outcomes.append(failure)
        return outcomes

    return deliver


def all_together(handle: Callable[[Sequence[EventEnvelope], ReadModels], Outcomes | None]) -> Deliver:
    """Deliver to a function that takes a page and returns what became of each event, or None: all went well.

    If it raises `Unavailable`, none was delivered. If it raises anything else, the events are handed over one by one,
    so that only those that cannot be handled are refused.
    """

    def one(logged: EventEnvelope, read_models: ReadModels) -> None:
        for failure in handle([logged], read_models) or ():
            if failure is not None:
                raise failure

    def deliver(events: Sequence[EventEnvelope], read_models: ReadModels) -> Outcomes:
        written = ReadModels()
        try:
            outcomes = handle(events, written) or [None] * len(events)
        except Unavailable as away:
            return [away] * len(events)
        except Exception:  # noqa: BLE001  # which event is at fault shows when each is tried alone; it is parked
            return one_by_one(one)(events, read_models)
        read_models.take(written)
        return outcomes

    return deliver
