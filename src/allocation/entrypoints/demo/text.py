"""Plain text of 80 columns; bold where the output is a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from datetime import date

import click

WIDTH = 80


def title(text: str) -> None:
    click.secho(f"\n{text}\n{'=' * len(text)}", bold=True)


def heading(text: str, request: str = "") -> None:
    """Print a heading, with the request that it is about on the right."""
    click.echo(f"\n{click.style(text, bold=True)}{click.style(request.rjust(WIDTH - len(text)), dim=True)}")


def paragraph(text: str) -> None:
    click.echo(textwrap.fill(text, WIDTH, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False))


def items(label: str, things: Iterable[str]) -> None:
    """Print a label, and after it the things that belong to it; lines are broken only between things."""
    kept_together = ", ".join(thing.replace(" ", "\0") for thing in things)
    lines = textwrap.wrap(
        kept_together, WIDTH, initial_indent=label, subsequent_indent=" " * len(label), break_on_hyphens=False
    )
    click.echo("\n".join(lines).replace("\0", " "))


def when(eta: str | None) -> str:
    """A day as returned by the service, in a form for people: `on hand`, or `Wed 5 Aug`."""
    if eta is None:
        return "on hand"
    day = date.fromisoformat(eta)
    return f"{day:%a} {day.day} {day:%b}"
