"""Who asked for what, what happened, and when: for a product, a batch, an order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain, islice

from allocation.domain.events import Event
from allocation.service_layer.envelope import EventEnvelope, LogPosition, partition_of
from allocation.service_layer.history.ports import Cut, History
from allocation.service_layer.unit_of_work import Handled


@dataclass(frozen=True, slots=True)
class Step:
    """A command (None: the inbox has lost it), and those of its events that the question is about."""

    command: Handled | None
    events: Sequence[EventEnvelope]


@dataclass(frozen=True, slots=True)
class OrderPage:
    """Steps by time, and the position in each partition to continue from; None: there are no more."""

    steps: Sequence[Step]
    next: Sequence[LogPosition] | None


def history_of_product(history: History, sku: str, after: int, limit: int) -> list[Step]:
    """Up to `limit` events of a product after version `after`, in order, each with its cause."""
    return _steps(history, history.events(sku, range(after + 1, after + 1 + limit)))


def history_of_batch(history: History, ref: str, after: int, limit: int) -> list[Step]:
    """Up to `limit` events of a batch after version `after` of its product: its own, and lines that came and went."""
    sku = history.skus_of_batches([ref]).get(ref)
    if sku is None:
        return []
    concerned = _versions(history, sku, after, lambda event: ref in _batches_of(event))
    return _steps(history, history.events(sku, list(islice(concerned, limit))))


def history_of_order(history: History, orderid: str, after: Sequence[LogPosition], limit: int) -> OrderPage:
    """Up to `limit` events of an order's lines after a position in each partition (missing: from its start), by time,
    including lines that were cancelled long ago. A reader that goes from page to page misses none. Raises
    `UnknownPosition` if the log does not reach `after`."""
    now = history.now()
    now.require(after)
    cursor = {place.partition: place.seq for place in after}
    found: list[EventEnvelope] = []
    for sku, versions in _first_of_order(history, orderid, now, cursor, limit).items():
        found += history.events(sku, versions)
    told = sorted(found, key=_by_time)[:limit]
    for logged in told:
        cursor[logged.position.partition] = logged.position.seq
    following = [LogPosition(partition, seq) for partition, seq in sorted(cursor.items())]
    return OrderPage(_steps(history, told), following if len(told) == limit else None)


def _first_of_order(
    history: History, orderid: str, now: Cut, cursor: Mapping[int, int], limit: int
) -> Mapping[str, list[int]]:
    """For each partition, the first `limit` events of an order after the cursor, as versions by sku."""
    first: dict[int, list[tuple[int, str, int]]] = {}
    for sku in history.skus_of_order(orderid):
        partition = partition_of(sku, len(now.heads))
        behind = cursor.get(partition, 0)
        mine = (
            (seq, sku, version)
            for event, version, seq in history.facts_of(sku, 0, now.of(sku))
            if seq > behind and getattr(event, "orderid", None) == orderid
        )
        first[partition] = sorted([*first.get(partition, ()), *islice(mine, limit)])[:limit]
    versions: dict[str, list[int]] = {}
    for _, sku, version in chain.from_iterable(first.values()):
        versions.setdefault(sku, []).append(version)
    return versions


def _versions(history: History, sku: str, after: int, concerns: Callable[[Event], bool]) -> Iterable[int]:
    """The versions made by the events that `concerns` accepts."""
    until = history.now().of(sku)
    return (version for event, version, _ in history.facts_of(sku, after, until) if concerns(event))


def _batches_of(event: Event) -> tuple[str | None, str | None]:
    return (getattr(event, "ref", None), getattr(event, "batchref", None))


def _by_time(logged: EventEnvelope) -> tuple[datetime, int, int]:
    return (logged.time, logged.position.partition, logged.position.seq)


def _steps(history: History, events: Sequence[EventEnvelope]) -> list[Step]:
    """Events in order; adjacent ones of the same command form one step."""
    caused = causes(history, events)
    steps: list[Step] = []
    for logged in events:
        command = caused[logged.id]
        if steps and command is not None and steps[-1].command is command:
            steps[-1] = Step(command, [*steps[-1].events, logged])
        else:
            steps.append(Step(command, [logged]))
    return steps


def causes(history: History, events: Iterable[EventEnvelope]) -> dict[str, Handled | None]:
    """The command that led to each event, by the event's id.

    Different sources may use the same id. A command's events are adjacent in the log, the last one at the command's own
    position: so the cause is the first command with this id that is not before the event.
    """
    events = list(events)
    by_id: dict[str, list[Handled]] = {}
    for done in history.commands({logged.causation_id for logged in events if logged.causation_id is not None}):
        by_id.setdefault(done.envelope.id, []).append(done)
    return {logged.id: _cause(logged, by_id.get(logged.causation_id or "", [])) for logged in events}


def _cause(logged: EventEnvelope, alike: Sequence[Handled]) -> Handled | None:
    here = [
        done
        for done in alike
        if done.position is not None
        and done.position.partition == logged.position.partition
        and done.position.seq >= logged.position.seq
    ]
    return min(here, key=lambda done: done.position.seq if done.position else 0, default=None)
