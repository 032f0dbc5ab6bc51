"""Prometheus metrics that are counted as it happens, group by group.

If several processes serve, each counts in files of its own below `PROMETHEUS_MULTIPROC_DIR`, and the one that is asked
adds them up. That variable has to be set before this module is loaded: `prometheus_client` reads it at import.
"""

from __future__ import annotations

import os
from collections import Counter as Counting
from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.multiprocess import MultiProcessCollector

from allocation.adapters.telemetry import MULTIPROCESS
from allocation.domain.errors import Refused
from allocation.service_layer.answers import Answer
from allocation.service_layer.envelope import CommandEnvelope
from allocation.service_layer.errors import Conflict, Unavailable
from allocation.service_layer.observing import Meter

_SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 5_000)
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

_Became = tuple[str, str, str]
"""command, outcome, reason"""


class PrometheusMeter(Meter):
    """Counts for one process, in a registry of its own."""

    def __init__(self) -> None:
        here = self._registry = CollectorRegistry()
        became = ["command", "outcome", "reason"]
        self._commands = Counter("allocation_commands", "Commands by outcome", became, registry=here)
        self._sizes = Histogram(
            "allocation_group_size", "Commands that shared a transaction", buckets=_SIZES, registry=here
        )
        self._seconds = Histogram(
            "allocation_group_seconds", "From the beginning of a group to its commit", buckets=_SECONDS, registry=here
        )
        self._retries = Counter("allocation_retries", "Transactions that were tried again", ["reason"], registry=here)
        self._deliveries = Counter(
            "allocation_deliveries",
            "Events handed to a subscription; those of users count together",
            ["subscription", "outcome"],
            registry=here,
        )
        self._cache = Counter(
            "allocation_cache_reads", "Reads that the cache could have answered", ["outcome"], registry=here
        )
        self._children: dict[_Became, Counter] = {}

    def counted(self) -> CollectorRegistry:
        """What was counted, by all processes that count together."""
        if MULTIPROCESS not in os.environ:
            return self._registry
        together = CollectorRegistry()
        MultiProcessCollector(together)  # type: ignore[no-untyped-call]  # untyped in prometheus_client
        return together

    def group(self, commands: Sequence[CommandEnvelope], answers: Sequence[Answer], seconds: float) -> None:
        for became, times in Counting(map(_became, commands, answers)).items():
            self._child(became).inc(times)
        self._sizes.observe(len(commands))
        self._seconds.observe(seconds)

    def group_failed(self, commands: Sequence[CommandEnvelope], failure: Exception) -> None:
        reason = type(failure).__name__
        for name, times in Counting(type(c.command).__name__ for c in commands).items():
            self._child((name, "failed", reason)).inc(times)

    def tried_again(self, reason: BaseException) -> None:
        self._retries.labels("conflict" if isinstance(reason, Conflict) else "connection lost").inc()

    def delivered(self, subscription: str, outcomes: Sequence[Exception | None]) -> None:
        for outcome, times in Counting(map(_delivery, outcomes)).items():
            self._deliveries.labels(subscription, outcome).inc(times)

    def cache(self, hits: int, misses: int, bypassed: int, refused_fills: int) -> None:
        counted = {"hit": hits, "miss": misses, "bypassed": bypassed, "refused fill": refused_fills}
        for outcome, times in counted.items():
            if times:
                self._cache.labels(outcome).inc(times)

    def _child(self, became: _Became) -> Counter:
        """`labels` looks up and checks each time; the same few come again and again."""
        if (child := self._children.get(became)) is None:
            child = self._children[became] = self._commands.labels(*became)
        return child


def _became(envelope: CommandEnvelope, answer: Answer) -> _Became:
    name, error = type(envelope.command).__name__, answer.error
    if answer.repeated:
        return name, "repeated", ""
    if error is not None:
        return name, "refused" if isinstance(error, Refused) else "failed", type(error).__name__
    return name, "changed" if answer.changed else "unchanged", ""


def _delivery(outcome: Exception | None) -> str:
    if outcome is None:
        return "delivered"
    return "away" if isinstance(outcome, Unavailable) else "refused"
