"""Opens the files that the command line names."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from pathlib import Path

from allocation.entrypoints.importing.from_csv import CsvRows
from allocation.entrypoints.importing.from_parquet import ParquetRows
from allocation.entrypoints.importing.rows import Rows, Shape


def open_rows(path: str, shape: Shape, opened: ExitStack) -> Rows:
    """The rows of a file, or of stdin (`-`): Parquet if it is named so, else CSV. `opened` closes it.

    Raises `UnreadableFile`, `OSError`.
    """
    if path == "-":
        return CsvRows(sys.stdin.buffer, "stdin", shape)
    stream = opened.enter_context(Path(path).open("rb"))  # noqa: SIM115  # `opened` closes it
    size_bytes = os.fstat(stream.fileno()).st_size or None
    if Path(path).suffix.lower() in (".parquet", ".pq"):
        return ParquetRows(stream, Path(path).name, shape, size_bytes)
    return CsvRows(stream, Path(path).name, shape, size_bytes)
