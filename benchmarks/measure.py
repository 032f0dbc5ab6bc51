"""Measuring side by side: what is compared takes turns within one run, so that a slow minute slows all of it."""

import os
import platform
import statistics
import sys
import timeit
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

Sample = TypeVar("Sample")


def progress(text: str) -> None:
    """One line on stderr, written over the last one on a terminal."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text[:118]}", end="" if text else "\r", file=sys.stderr, flush=True)
    elif text:
        print(text, file=sys.stderr, flush=True)


def take_turns(subjects: Mapping[str, Callable[[int], Sample]], rounds: int, part: str) -> dict[str, list[Sample]]:
    """Call each subject with the number of each round (from 0); the order turns round after each."""
    samples: dict[str, list[Sample]] = {name: [] for name in subjects}
    for number in range(rounds):
        for name in list(subjects)[:: -1 if number % 2 else 1]:
            progress(f"{part}: round {number + 1} of {rounds}, {name}")
            samples[name].append(subjects[name](number))
    progress("")
    return samples


@dataclass(frozen=True, slots=True)
class Table:
    """One table of results. A row is as long as `header`; `aims` say what was aimed at, for the reader."""

    name: str
    title: str
    header: list[str]
    rows: list[list[str | float | int | None]]
    notes: list[str] = field(default_factory=list)


def median(values: list[float]) -> float:
    return statistics.median(values)


def spread_of(values: list[float]) -> str:
    """Lowest and highest."""
    return f"{min(values):,.0f} to {max(values):,.0f}"


def machine() -> dict[str, str]:
    """What it ran on. The load tells whether others worked there at the start, the pace how quick this interpreter was
    just then: it goes with the hour, and with how the interpreter was built."""
    return {
        "Python": f"{platform.python_version()}, {platform.system()} {platform.machine()}",
        "processors": f"{len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()}"
        f" ({_processor()})",
        "load before": f"{os.getloadavg()[0]:.1f}",
        "pace": f"{_pace() / 1e6:.1f} million turns/s of a plain loop",
    }


def _pace() -> float:
    """Turns of a plain loop over attributes, a dict and strings, per second; the best of many short goes."""
    turns = 10_000
    return turns / min(timeit.repeat(lambda: _plain_loop(turns), number=1, repeat=200))


def _plain_loop(turns: int) -> None:
    tables: dict[str, Table] = {}
    for turn in range(turns):
        name = f"{turn % 97}"
        table = tables.get(name)
        if table is None:
            table = tables[name] = Table(name, name, [], [])
        if len(table.name) > turn:
            table.rows.clear()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown")


def peak_memory_bytes(pid: int) -> int:
    """The most that a process has had resident so far; 0 where /proc does not tell. (`ru_maxrss` would count what this
    process had when it started that one.)"""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), 0)
