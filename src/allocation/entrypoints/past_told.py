"""The time machine's output for people."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any

from rich.tree import Tree

from allocation.entrypoints.console import console, day, table
from allocation.entrypoints.http.explanations import EARLIER_RULES
from allocation.entrypoints.http.what_if import Standing, WhatIfAnswer
from allocation.service_layer.envelope import EventEnvelope
from allocation.service_layer.history.explain import Decision
from allocation.service_layer.history.steps import Step
from allocation.service_layer.history.trace import Delivery, Outcome, Trace, TracedCommand
from allocation.service_layer.unit_of_work import Handled

ROWS_AT_ONCE = 1000
DEEPEST = 8  # levels of commands in one tree
WIDE_ENOUGH = 100  # columns: enough to begin the deepest line of such a tree

_Trees = deque[tuple[str, Sequence[TracedCommand]]]


def _words(message: Any) -> str:
    """A message's type and fields."""
    told = {field.name: getattr(message, field.name) for field in fields(message)}
    if "eta" in told and told["eta"] is None:
        told["eta"] = "on-hand"
    return " ".join([type(message).__name__, *(f"{name}={value}" for name, value in told.items() if value is not None)])


def _asked(done: Handled | None) -> str:
    if done is None:
        return "(the command that led to this is missing from the command log)"
    origin = done.envelope
    by = f" by {origin.client}" if origin.client else ""
    refused = f": refused, {done.error}" if done.error else ""
    return f"{_words(origin.command)} ({origin.source}{by}, correlation {origin.correlation_id}){refused}"


def _happened(logged: EventEnvelope) -> str:
    return f"{logged.position}, version {logged.version}: {_words(logged.event)}"


def print_steps(steps: Iterable[Step]) -> None:
    screen = console()
    for step in steps:
        time = step.events[0].time
        screen.print(f"{time:%Y-%m-%d %H:%M:%S}  {_asked(step.command)}", soft_wrap=True)
        for logged in step.events:
            screen.print(f"    {_happened(logged)}", soft_wrap=True)


def print_trace(correlation_id: str, traced: Trace) -> None:
    """Print a trace as trees that fit a screen: what is nested too deeply becomes a tree of its own, below."""
    screen = console()
    screen.width = max(screen.width, WIDE_ENOUGH)  # rich cuts off what does not fit; a terminal wraps it
    trees = deque([(f"correlation {correlation_id}", traced.commands)])
    while trees:
        title, commands = trees.popleft()
        tree = Tree(title)
        _hang(tree, commands, DEEPEST, trees)
        if traced.more and not trees:
            tree.add("further commands are left out")
        screen.print(tree, soft_wrap=True)


def _hang(tree: Tree, commands: Sequence[TracedCommand], deeper: int, trees: _Trees) -> None:
    if commands and not deeper:
        title = f"what followed from {commands[0].handled.envelope.causation_id}"
        tree.add(f"see below: {title}")
        trees.append((title, commands))
        return
    for command in commands:
        _grow(tree, command, deeper - 1, trees)


def _grow(tree: Tree, traced: TracedCommand, deeper: int, trees: _Trees) -> None:
    branch = tree.add(_asked(traced.handled))
    for event in traced.events:
        twig = branch.add(_happened(event.logged))
        for delivery in event.deliveries:
            twig.add(_delivered(delivery))
        _hang(twig, event.commands, deeper, trees)
    if traced.events_left_out:
        branch.add(_left_out(traced))
    _hang(branch, traced.commands, deeper, trees)


def _left_out(traced: TracedCommand) -> str:
    behind = f" --after {traced.events[-1].logged.position}" if traced.events else ""
    return f"{traced.events_left_out:,} further events are left out: allocation events{behind}"


def _delivered(delivery: Delivery) -> str:
    when = "until" if delivery.outcome is Outcome.IN_HAND else "again at"
    again = f", {when} {delivery.due_at:%Y-%m-%d %H:%M:%S}" if delivery.due_at else ""
    because = f": {delivery.because}" if delivery.because else ""
    return f"{delivery.subscription}: {delivery.outcome}{again}{because}"


def print_decisions(orderid: str, sku: str, decisions: Iterable[Decision]) -> None:
    screen = console()
    for decision in decisions:
        what = f"was allocated to {decision.batchref}" if decision.batchref else "was left waiting"
        screen.print(
            f"{decision.logged.time:%Y-%m-%d %H:%M:%S}, {decision.logged.position}: {orderid}, {decision.qty} {sku}, "
            f"{what}. Caused by {_asked(decision.command)}",
            soft_wrap=True,
        )
        rows = [(b.ref, day(b.eta), b.available, b.verdict) for b in decision.batches]
        screen.print(table("batch", "arrives", ">available", "why", rows=rows))
        if not decision.by_todays_rules:
            screen.print(f"{EARLIER_RULES}: {_today(decision)}")


def _today(decision: Decision) -> str:
    if decision.ahead is not None:
        return f"today {decision.ahead}, which waited longer, would have been served first"
    return f"today it would be {decision.batchref_today}" if decision.batchref_today else "today it would wait"


class ShopTable:
    """A table of products, printed a thousand at a time: memory stays flat, however large the shop."""

    def __init__(self) -> None:
        self._rows: list[Sequence[object]] = []

    def add(self, product: Mapping[str, Any]) -> None:
        self._rows.append([product[name] for name in ("sku", "version", "available_now", "available")])
        self._rows[-1] = [*self._rows[-1], product["waiting_lines"], product["waiting_qty"]]
        if len(self._rows) == ROWS_AT_ONCE:
            self.end({})

    def end(self, _members: Mapping[str, Any]) -> None:
        if self._rows:
            names = ("sku", ">version", ">on hand", ">free in all", ">lines waiting", ">pieces waited for")
            console().print(table(*names, rows=self._rows))
        self._rows = []


def print_difference(answer: WhatIfAnswer) -> None:
    screen = console()
    for number, told in enumerate(answer.answers, 1):
        if told.refused is not None:
            screen.print(f"Command {number} would be refused: {told.refused.detail}.", soft_wrap=True)
        elif not told.changed:
            screen.print(f"Command {number} would change nothing.")
    if not answer.changes:
        screen.print("No promise would change.")
        return
    rows = [(c.orderid, c.sku, c.qty, c.change, _stands(c.before), _stands(c.after)) for c in answer.changes]
    screen.print(table("order", "sku", ">qty", "change", "now", "then", rows=rows))


def _stands(standing: Standing | None) -> str:
    if standing is None:
        return "-"
    return f"{standing.batchref}, {day(standing.eta)}" if standing.batchref else "waits"
