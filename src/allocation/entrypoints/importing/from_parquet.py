"""Parquet to commands, with at most one row group of the file in memory."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, BinaryIO

from allocation.entrypoints.importing.rows import Group, Rows, Shape, UnreadableFile, shown

if TYPE_CHECKING:  # pyarrow is an extra, imported when a file is read
    from pyarrow import Array


class ParquetRows(Rows):
    """Parquet, read a batch of rows at a time. Raises `UnreadableFile` if pyarrow or a column is missing."""

    word = "row"

    def __init__(self, stream: BinaryIO, name: str, shape: Shape, size_bytes: int | None = None) -> None:
        try:
            from pyarrow import ArrowException, parquet
        except ImportError:
            raise UnreadableFile(f"{name}: to read Parquet, pip install 'allocation[parquet]'") from None
        self.name, self.shape, self.size_bytes = name, shape, size_bytes
        self._failures = (ArrowException, OSError, ValueError)
        try:
            self._file = parquet.ParquetFile(stream)
        except self._failures as failure:
            raise UnreadableFile(f"{name} is not a Parquet file ({_first_line(failure)})") from None
        found = self._file.schema_arrow.names
        if any(found.count(column) != 1 for column in shape.columns):
            expected = ",".join(shape.columns)
            raise UnreadableFile(f"{name}: the columns must be {expected}, not {shown(','.join(found))}")
        self._read_rows = 0

    @property
    def position_bytes(self) -> int:
        return (self.size_bytes or 0) * self._read_rows // max(1, int(self._file.metadata.num_rows))

    def groups(self, size: int) -> Iterator[Group]:
        first = 1
        try:
            for batch in self._file.iter_batches(batch_size=size, columns=list(self.shape.columns)):
                columns = [_texts(batch.column(name)) for name in self.shape.columns]
                self._read_rows += len(batch)
                yield self._each(
                    (number, ",".join(row), partial(tuple, row))
                    for number, row in enumerate(zip(*columns, strict=True), first)
                )
                first += len(batch)
        except self._failures as failure:
            raise UnreadableFile(f"{self.name} cannot be read from row {first} on ({_first_line(failure)})") from None


def _texts(column: Array) -> list[str]:
    """Pandas writes a column of dates as timestamps, so a timestamp at midnight without a zone is read as a date."""
    from pyarrow import compute, types

    texts = column.cast("string").fill_null("")
    if types.is_timestamp(column.type) and column.type.tz is None:
        texts = compute.replace_substring_regex(texts, r" 00:00:00(\.0+)?$", "")
    found: list[str] = texts.to_pylist()
    return found


def _first_line(failure: Exception) -> str:
    return str(failure).split("\n", 1)[0][:200]
