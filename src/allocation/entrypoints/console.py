"""What the command line prints: tables for people, JSON for programs, progress beside both."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from typing import Any, Protocol

import click
from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

_WIDE = 240  # columns, if the output is not a terminal: tables are as wide as their content, and nothing is folded

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


def console(stderr: bool = False) -> Console:
    """A console that prints text as it is: ids may look like markup, but are not."""
    plain = Console(stderr=stderr, markup=False, emoji=False, highlight=False)
    if not plain.is_terminal:
        plain.width = _WIDE
    return plain


def table(*columns: str, rows: Iterable[Sequence[object]]) -> Table:
    """A table; a column whose name starts with `>` is aligned to the right."""
    made = Table(box=box.SIMPLE_HEAD, show_edge=False)
    for column in columns:
        made.add_column(column.lstrip(">"), justify="right" if column.startswith(">") else "left", overflow="fold")
    for row in rows:
        made.add_row(*(f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row))
    return made


def day(eta: date | None) -> str:
    """When something can leave."""
    return "on hand" if eta is None else eta.isoformat()


def print_json(data: object) -> None:
    """One document, indented; dates as ISO 8601."""
    click.echo(json.dumps(data, indent=2, default=str))


class JsonList:
    """A JSON object printed as it grows: first a list under `name`, item by item, then the other members.

    So memory stays flat, however long the list is. The object is well formed only after `end`: see `to_its_end`.
    """

    def __init__(self, name: str) -> None:
        self._separator = "\n"
        click.echo(f'{{\n  "{name}": [', nl=False)

    def add(self, item: object) -> None:
        click.echo(f"{self._separator}    {json.dumps(item, default=str)}", nl=False)
        self._separator = ",\n"

    def end(self, members: dict[str, Any]) -> None:
        rest = "".join(f",\n  {json.dumps(name)}: {json.dumps(value, default=str)}" for name, value in members.items())
        click.echo(f"\n  ]{rest}\n}}")


class Listed(Protocol):
    """Accepts items one after the other, and the closing members at the end."""

    def add(self, item: Any) -> None: ...
    def end(self, members: dict[str, Any]) -> None: ...


@contextmanager
def to_its_end(listed: Listed) -> Iterator[Listed]:
    """Ends `listed` in any case: its member `stopped` gives the reason if it was broken off, and is null if not."""
    stopped: str | None = None
    try:
        yield listed
    except BaseException as failure:
        stopped = reason_of(failure)
        raise
    finally:
        listed.end({"stopped": stopped})


def reason_of(failure: BaseException) -> str:
    """The reason why something was broken off, in a few words."""
    return "interrupted" if isinstance(failure, KeyboardInterrupt) else str(failure) or type(failure).__name__


Advanced = Callable[[str, int, int | None, int], None]


@contextmanager
def progress() -> Iterator[Advanced]:
    """A progress bar for each file on stderr if that is a terminal, else nothing.

    Call the yielded function with the file, the bytes read, the total bytes (None if unknown), and the rows done.
    """
    shown = console(stderr=True)
    if not shown.is_terminal:
        yield lambda file, done_bytes, of_bytes, rows: None
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        TaskProgressColumn(),
        TextColumn("{task.fields[rows]:>11,} rows {task.fields[rate]:>9,.0f}/s", markup=False),
        TimeRemainingColumn(),
    )
    tasks: dict[str, tuple[TaskID, float]] = {}
    last = time.monotonic()
    with Progress(*columns, console=shown, transient=True) as bars:

        def advanced(file: str, done_bytes: int, of_bytes: int | None, rows: int) -> None:
            nonlocal last
            if file not in tasks:
                tasks[file] = (bars.add_task(file[-24:], total=of_bytes, rows=0, rate=0.0), last)
            task, began = tasks[file]
            last = time.monotonic()
            rate = rows / max(last - began, 0.001)
            bars.update(task, completed=done_bytes if of_bytes else None, rows=rows, rate=rate)

        yield advanced
