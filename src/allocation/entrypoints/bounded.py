"""What is read as a whole, of a file or of stdin: as much as HTTP takes in, and no more. Either may have no end."""

from __future__ import annotations

from typing import BinaryIO

import click


def read_whole(file: BinaryIO, most_bytes: int, advice: str) -> bytes:
    """All of it. Raises `ClickException` with the advice if that is more than `most_bytes`."""
    raw = file.read(most_bytes + 1)
    if len(raw) > most_bytes:
        raise click.ClickException(f"The input is longer than {most_bytes:,} bytes. {advice}")
    return raw
