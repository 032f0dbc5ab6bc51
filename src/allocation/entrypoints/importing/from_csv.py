"""CSV to commands, fast, and with no more than a group in memory.

A group of good lines is recognised by one regular expression, which is what makes an import fast. A group with any
other line in it (blanks, odd quotes, mistakes) is read line by line; this gives the same result for good rows, and the
reason for bad ones.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from operator import itemgetter
from typing import BinaryIO, cast

from allocation.entrypoints.importing.rows import BadValue, Group, Rows, Shape, UnreadableFile, shown

LONGEST_LINE = 4096
"""Characters. Three ids and a date in quotes easily fit; a longer line cannot be a row."""

_KEPT_OF_A_LINE_BYTES = 4 * LONGEST_LINE  # bytes: with any content, the line is still too long


class CsvRows(Rows):
    """CSV according to RFC 4180, one row on each line, in UTF-8 with or without a byte order mark, with any line ends.

    The first line names the columns, in any order; columns that are not in the shape are ignored. Raises
    `UnreadableFile` if the first line does not name the columns of the shape.
    """

    word = "line"

    def __init__(self, stream: BinaryIO, name: str, shape: Shape, size_bytes: int | None = None) -> None:
        self.name, self.shape, self.size_bytes = name, shape, size_bytes
        self._metered = _Metered(stream)
        # Bytes that are not UTF-8 become lone surrogates, which are found and reported with their place.
        self._lines = io.TextIOWrapper(cast(BinaryIO, self._metered), encoding="utf-8-sig", errors="surrogateescape")
        header = self._read_header(self._lines.readline())
        self._order = tuple(header.index(column) for column in shape.columns)
        self._width = len(header)
        self._plain = _recogniser(header, shape.columns, quotes=False)
        self._quoted = _recogniser(header, shape.columns, quotes=True)

    @property
    def position_bytes(self) -> int:
        return self._metered.position_bytes

    def _read_header(self, line: str) -> list[str]:
        expected = ",".join(self.shape.columns)
        if not line:
            raise UnreadableFile(f"{self.name} is empty; its first line must be {expected}")
        try:
            header = [column.strip().lower() for column in _fields(line)]
        except BadValue:
            header = []
        if any(header.count(column) != 1 for column in self.shape.columns):
            hint = ""
            if line.startswith(("\udcff\udcfe", "\udcfe\udcff")):
                hint = " (it looks like UTF-16; save it as UTF-8)"
            elif ";" in line or "\t" in line:
                hint = " (columns are separated by commas)"
            raise UnreadableFile(f"{self.name}: the first line must be {expected}, not {shown(line.rstrip())}{hint}")
        return header

    def groups(self, size: int) -> Iterator[Group]:
        first = 2
        while lines := self._next_lines(size, first):
            yield self._all_good(lines, first) or self._each(self._one_by_one(lines, first))
            first += len(lines)

    def _next_lines(self, size: int, first: int) -> list[str]:
        try:
            return list(islice(self._lines, size))
        except OSError as failure:
            raise UnreadableFile(f"{self.name} cannot be read from line {first} on ({failure})") from failure

    def _all_good(self, lines: Sequence[str], first: int) -> Group | None:
        if max(map(len, lines)) > LONGEST_LINE:  # perhaps cut by `_Metered`: what is left may look good
            return None
        recognise = self._quoted if '"' in lines[0] else self._plain
        if (rows := recognise(lines)) is None:
            return None
        try:
            return Group(self.shape.commands(rows), range(first, first + len(lines)))
        except ValueError:
            return None

    def _one_by_one(self, lines: Sequence[str], first: int) -> Iterator[tuple[int, str, Callable[[], Sequence[str]]]]:
        for number, line in enumerate(lines, first):
            if line.strip():
                yield number, line.rstrip("\n"), partial(self._values, line)

    def _values(self, line: str) -> Sequence[str]:
        fields = _fields(line)
        if len(fields) != self._width:
            raise BadValue(f"the first line has {self._width} columns, this one has {len(fields)}")
        return [fields[place] for place in self._order]


def _recogniser(
    header: Sequence[str], columns: Mapping[str, str], quotes: bool
) -> Callable[[Sequence[str]], Iterable[Sequence[str]] | None]:
    """Makes a function that returns the values of `columns` in every line, or None if some line is not surely good."""
    patterns, places = [], {}
    groups = 0
    for name in header:
        if name not in columns:
            patterns.append(r'(?:[^,"\n]*|"[^"\n]*")')
            continue
        patterns.append(rf'(?P<quote_{groups}>"?){columns[name]}(?P=quote_{groups})' if quotes else columns[name])
        places[name] = groups + 1 if quotes else groups
        groups += 2 if quotes else 1
    find_all = re.compile(f"^{','.join(patterns)}$", re.MULTILINE).findall
    order = [places[name] for name in columns]
    pick = itemgetter(*order) if order != list(range(groups)) else None

    def recognise(lines: Sequence[str]) -> Iterable[Sequence[str]] | None:
        found = find_all("".join(lines))
        if len(found) != len(lines):
            return None
        return map(pick, found) if pick else found

    return recognise


def _fields(line: str) -> list[str]:
    if len(line) > LONGEST_LINE:
        raise BadValue(f"the line is too long for a row (over {LONGEST_LINE} characters)")
    try:
        return next(csv.reader([line], strict=True))
    except csv.Error:
        raise BadValue("the quotes do not match (a row is one line; ids hold no line breaks)") from None


class _Metered(io.BufferedIOBase):
    """Counts the bytes read, and cuts lines that are far too long, so that groups stay small with any input."""

    def __init__(self, stream: BinaryIO) -> None:
        self.position_bytes = 0
        self._read1 = getattr(stream, "read1", stream.read)
        self._length = 0

    def readable(self) -> bool:
        return True

    def read1(self, size: int = -1) -> bytes:
        while data := bytes(self._read1(size)):
            self.position_bytes += len(data)
            end = max(data.rfind(b"\n"), data.rfind(b"\r"))
            cut = self._length > _KEPT_OF_A_LINE_BYTES
            if end < 0:
                self._length += len(data)
                if not cut:
                    return data
            else:
                self._length = len(data) - 1 - end
                return data[min(x for x in (data.find(b"\n"), data.find(b"\r")) if x >= 0) :] if cut else data
        return b""
