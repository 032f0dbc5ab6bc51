"""What is read as a whole, of a file or of stdin: as much as HTTP takes in, and no more. Either may have no end."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

import click

if TYPE_CHECKING:  # imported when a command runs, as in `cli`
    from allocation.entrypoints.http.errors import Malformed


def read_whole(file: BinaryIO, most_bytes: int, advice: str) -> bytes:
    """All of it. Raises `ClickException` with the advice if that is more than `most_bytes`."""
    raw = file.read(most_bytes + 1)
    if len(raw) > most_bytes:
        raise click.ClickException(f"The input is longer than {most_bytes:,} bytes. {advice}")
    return raw


def not_json(wrong: Malformed) -> click.ClickException:
    """The same sentence as over HTTP, about the input, with the place at its end: here no fields go beside it."""
    sentence = str(wrong).replace("The body", "The input", 1)
    place = "" if wrong.line is None else f" (line {wrong.line}, column {wrong.column})"
    return click.ClickException(f"{sentence}{place}.")
