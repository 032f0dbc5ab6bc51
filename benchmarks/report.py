"""Tables for people, JSON for programs, and the part of RESULTS.md that a run owns."""

import json
import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.measure import Table

RESULTS = Path(__file__).parent / "RESULTS.md"
PROFILE = Path(__file__).parent.parent / "docs" / "profile.md"


def shown(value: str | float | int | None) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, int) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}"


def text(tables: list[Table], circumstances: dict[str, str]) -> str:
    """What is printed."""
    parts = [f"{name}: {value}" for name, value in circumstances.items()]
    for table in tables:
        rows = [table.header, *([shown(value) for value in row] for row in table.rows)]
        widths = [max(len(row[n]) for row in rows) for n in range(len(table.header))]
        parts += ["", table.title]
        parts += ["  " + "  ".join(_cell(row[n], widths[n], n) for n in range(len(row))).rstrip() for row in rows]
        parts += [f"  {note}" for note in table.notes]
    return "\n".join(parts)


def _cell(value: str, width: int, column: int) -> str:
    return value.ljust(width) if column == 0 else value.rjust(width)


def as_json(tables: list[Table], circumstances: dict[str, str]) -> str:
    found = {table.name: [dict(zip(table.header, row, strict=True)) for row in table.rows] for table in tables}
    return json.dumps({"circumstances": circumstances, "tables": found}, indent=2)


def write(tables: list[Table], circumstances: dict[str, str], results: Path = RESULTS) -> None:
    """Put each table between its markers in RESULTS.md, with when, where and by which command it was made. Nobody
    types a figure. Raises `ValueError` if a table has no place there."""
    page = results.read_text()
    for table in tables:
        begin, end = f"<!-- {table.name}: begin -->", f"<!-- {table.name}: end -->"
        before, found, rest = page.partition(begin)
        _, closed, after = rest.partition(end)
        if not found or not closed:
            raise ValueError(f"{results} has no place for {table.name}: add {begin} and {end}")
        page = f"{before}{begin}\n{_markdown(table, circumstances)}\n{end}{after}"
    results.write_text(page)


def _markdown(table: Table, circumstances: dict[str, str]) -> str:
    lines = ["| " + " | ".join(table.header) + " |", "|---" + "|---:" * (len(table.header) - 1) + "|"]
    lines += ["| " + " | ".join(shown(value) for value in row) + " |" for row in table.rows]
    lines += ["", *table.notes] if table.notes else []
    told = "; ".join(f"{name} {value}" for name, value in circumstances.items() if name != "command")
    return "\n".join([*lines, "", f"`{circumstances['command']}`, {datetime.now(UTC):%Y-%m-%d}: {told}."])


def command(module: str) -> str:
    """The command line that runs this again."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--write"]
    return shlex.join(["python", "-m", module, *arguments])
