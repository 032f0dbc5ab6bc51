"""Metrics in the text format of Prometheus: what was counted, and what the store answers when it is asked."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest, start_http_server
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from allocation.adapters.telemetry.metrics import PrometheusMeter
from allocation.service_layer.envelope import Clock
from allocation.service_layer.errors import SetupError, Unavailable
from allocation.service_layer.observing import Telemetry
from allocation.service_layer.ports import DeadLetters
from allocation.service_layer.self_audit import AuditStore
from allocation.service_layer.subscriptions import Cursor, Lane, SubscriptionStore
from allocation.service_layer.worker import Worker
from allocation.views import READ_MODELS

__all__ = ["CONTENT_TYPE_LATEST", "Watched", "tell_on_port", "told"]

_log = logging.getLogger(__name__)


class Watched(Protocol):
    """The parts of the application that metrics are made from: what is counted, and where the rest is read."""

    @property
    def telemetry(self) -> Telemetry: ...
    @property
    def subscriptions(self) -> SubscriptionStore: ...
    @property
    def dead_letters(self) -> DeadLetters: ...
    @property
    def audits(self) -> AuditStore: ...
    @property
    def worker(self) -> Worker: ...
    @property
    def clock(self) -> Clock: ...


def told(watched: Watched) -> bytes:
    """Everything, as it is now."""
    return generate_latest(_registry(watched))


def tell_on_port(host: str, port: int, watched: Watched) -> None:
    """Serve the metrics on this port, from a thread of its own. Raises `SetupError` if the port is taken."""
    try:
        start_http_server(port, host, registry=_registry(watched))
    except OSError as taken:
        wanted = f"metrics on {host}:{port} ({taken.strerror})"
        raise SetupError(f"Cannot serve {wanted}; set ALLOCATION_METRICS_PORT to a free port") from None


def _registry(watched: Watched) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(_State(watched))
    if isinstance(watched.telemetry.meter, PrometheusMeter):
        registry.register(_Counted(watched.telemetry.meter))
    return registry


@dataclass(frozen=True, slots=True)
class _Lag:
    cursor: Cursor
    seconds: float


def _lag_families(what: str, labels: Sequence[str]) -> tuple[GaugeMetricFamily, GaugeMetricFamily]:
    events = GaugeMetricFamily(f"allocation_{what}_lag_events", "Events it has not seen yet", labels=labels)
    age = "Age of the first event it has not seen yet"
    return events, GaugeMetricFamily(f"allocation_{what}_lag_seconds", age, labels=labels)


def _of_subscriptions(lags: Sequence[_Lag]) -> Iterable[Metric]:
    events, seconds = _lag_families("subscription", ["subscription", "partition"])
    for lag in lags:
        names = [lag.cursor.subscription, str(lag.cursor.partition)]
        events.add_metric(names, lag.cursor.lag_events)
        seconds.add_metric(names, lag.seconds)
    return events, seconds


def _of_read_models(lags: Sequence[_Lag], kept_by: Collection[str]) -> Iterable[Metric]:
    """The lag of each read model is that of the subscription that keeps it; it has none if it is written with the log.
    Only subscriptions in `kept_by`, which these settings run, count: one that is no longer run has left its cursor
    behind, and reads do not depend on it."""
    events, seconds = _lag_families("read_model", ["read_model"])
    for name, keeper in READ_MODELS.items():
        its = [lag for lag in lags if lag.cursor.subscription == keeper and keeper in kept_by]
        events.add_metric([name], sum(lag.cursor.lag_events for lag in its))
        seconds.add_metric([name], max((lag.seconds for lag in its), default=0.0))
    return events, seconds


def _state_of(lane: Lane, now: datetime) -> str:
    if lane.due_at is None:
        return "parked"
    return "in hand" if lane.locked_until is not None and lane.locked_until > now else "retrying"


def _as_far_as_it_goes(part: Callable[[], Iterable[Metric]]) -> Iterator[Metric]:
    """When one metric fails, the others are needed most, so they are still given. Raises `Unavailable`."""
    try:
        yield from part()
    except Unavailable:
        raise
    except Exception:  # noqa: BLE001  # logged; one figure that cannot be read must not take all others with it
        _log.exception("metrics: some are left out, because they cannot be read")


class _Counted(Collector):
    def __init__(self, meter: PrometheusMeter) -> None:
        self._meter = meter

    def collect(self) -> Iterable[Metric]:
        return self._meter.counted().collect()


class _State(Collector):
    """Read again for each request, so it costs nothing while nobody asks, and needs no adding up."""

    def __init__(self, watched: Watched) -> None:
        self._watched = watched

    def collect(self) -> Iterator[Metric]:
        is_up = GaugeMetricFamily("allocation_store_up", "Whether the store answered (1) or not (0)")
        parts = (self._lags, self._left_aside, self._audit)
        try:
            metrics = [metric for part in parts for metric in _as_far_as_it_goes(part)]
            is_up.add_metric([], 1)
        except Unavailable:
            metrics = []
            is_up.add_metric([], 0)
        yield is_up
        yield from metrics

    def _lags(self) -> Iterator[Metric]:
        lags = [_Lag(cursor, self._lag_seconds(cursor)) for cursor in self._watched.subscriptions.cursors()]
        yield from _of_subscriptions(lags)
        yield from _of_read_models(lags, self._watched.worker.names())

    def _lag_seconds(self, cursor: Cursor) -> float:
        if cursor.lag_events <= 0:
            return 0.0
        since = self._watched.subscriptions.time_behind(cursor.partition, cursor.seq)
        return max((self._watched.clock.now() - since).total_seconds(), 0.0) if since is not None else 0.0

    def _left_aside(self) -> Iterator[Metric]:
        lanes = GaugeMetricFamily("allocation_lanes", "Keys that lag behind", labels=["subscription", "state"])
        found = self._watched.subscriptions.lanes()
        now = self._watched.clock.now()
        counts = Counter((lane.subscription, _state_of(lane, now)) for lane in found)
        for names, count in sorted(counts.items()):
            lanes.add_metric(names, count)
        yield lanes
        letters = self._watched.dead_letters.count()
        yield GaugeMetricFamily("allocation_dead_letters", "Messages that came in and could not be handled", letters)

    def _audit(self) -> Iterator[Metric]:
        audit = self._watched.audits.read()
        last, current = audit.last, audit.current
        ended = last.ended_at.timestamp() if last is not None and last.ended_at is not None else None
        figures = [
            ("differences", "Differences that the last whole round found", last.differences if last else None),
            ("events", "Events that the last whole round folded", last.events if last else None),
            ("ended_timestamp_seconds", "When the last whole round ended", ended),
            ("current_differences", "Differences in the round under way", current.differences if current else None),
        ]
        for name, meaning, figure in figures:
            metric = GaugeMetricFamily(f"allocation_audit_{name}", meaning)
            if figure is not None:
                metric.add_metric([], figure)
            yield metric
