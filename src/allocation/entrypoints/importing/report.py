"""What an import reports: a sentence for each file, the rows that were not imported, and why."""

from __future__ import annotations

import csv
from dataclasses import asdict, fields
from pathlib import Path
from typing import TextIO

from allocation.entrypoints.console import JsonList, console, table
from allocation.entrypoints.importing.rows import printable
from allocation.entrypoints.importing.run import Import, Outcome, RowNotTakenIn, Stopped, Tally

MOST_SHOWN = 20
_CHANGES = (Outcome.TAKEN_IN, Outcome.ALLOCATED, Outcome.WAITING)
_COLUMNS = [field.name for field in fields(RowNotTakenIn)]


def as_it_was(path: str) -> TextIO:
    """Opens a file for writing rows, in which bytes that are not UTF-8 are written as they were read."""
    return Path(path).open("w", newline="", encoding="utf-8", errors="surrogateescape")


class Report:
    """Gets rows as they come: writes all of them to `refused` (CSV) and, with `as_json`, to stdout; keeps a few."""

    def __init__(self, as_json: bool, refused: TextIO | None) -> None:
        self._json = JsonList("refused") if as_json else None
        self._csv = csv.writer(refused) if refused else None
        self._kept: list[RowNotTakenIn] = []
        self._count = 0
        if self._csv:
            self._csv.writerow(_COLUMNS)

    def tell(self, row: RowNotTakenIn) -> None:
        self._count += 1
        if self._json:
            self._json.add(asdict(row))
        if self._csv:
            self._csv.writerow([getattr(row, column) for column in _COLUMNS])
        if len(self._kept) < MOST_SHOWN:
            self._kept.append(row)

    def end(self, done: Import, stopped: Stopped | None, dry_run: bool, seconds: float) -> None:
        """Print the result. To be called once."""
        changed = sum(tally.counts[outcome] for tally in done.tallies for outcome in _CHANGES)
        if self._json:
            self._json.end(
                {
                    "files": [_as_json(tally) for tally in done.tallies],
                    "changed": changed,
                    "position": done.position and str(done.position),
                    "stopped": stopped and stopped.reason,
                    "dry_run": dry_run,
                    "seconds": round(seconds, 3),
                }
            )
            return
        screen = console()
        for tally in done.tallies:
            screen.print(_sentence(tally))
        if self._kept:
            rows = [(printable(f"{row.file}:{row.number}"), printable(row.row), row.reason) for row in self._kept]
            screen.print(table("where", "row", "why it was not imported", rows=rows))
        if more := self._count - len(self._kept):
            screen.print(f"... and {more:,} more: --refused FILE writes all of them, --json prints them.")
        rows_done = sum(tally.rows for tally in done.tallies)
        if dry_run:
            screen.print("A dry run: nothing was stored.")
        elif rows_done and not changed:
            screen.print("Nothing changed.")
        if seconds >= 1:
            screen.print(f"{rows_done / seconds:,.0f} rows a second, in {seconds:,.1f} s.")


def how_to_go_on(stopped: Stopped, dry_run: bool) -> str:
    """The sentence for a user whose import stopped."""
    if dry_run:
        return f"Stopped at {stopped.reason}"
    if stopped.row is None:
        return f"Stopped: {stopped.reason}. What was imported stays; run the same command again to continue."
    return (
        f"Stopped at {stopped.reason}. The rows before it were imported. Correct it and run the same command again "
        "(imported rows are recognised), or leave such rows out with --on-error skip."
    )


def _sentence(tally: Tally) -> str:
    counts = [f"{tally.counts[outcome]:,} {_WORDS[outcome]}" for outcome in Outcome if tally.counts[outcome]]
    rows = f"{printable(tally.file)}: {tally.rows:,} row{'s' * (tally.rows != 1)}"
    return rows + (": " if counts else "") + ", ".join(counts)


_WORDS = {
    Outcome.TAKEN_IN: "imported",
    Outcome.ALLOCATED: "allocated",
    Outcome.WAITING: "waiting",
    Outcome.THERE_ALREADY: "already present",
    Outcome.OUT_OF_STOCK: "refused, out of stock",
    Outcome.REFUSED: "refused",
    Outcome.UNREADABLE: "unreadable",
}


def _as_json(tally: Tally) -> dict[str, object]:
    counts = {outcome.value.replace(" ", "_"): tally.counts[outcome] for outcome in _WORDS}
    return {"file": tally.file, "rows": tally.rows, **counts}
