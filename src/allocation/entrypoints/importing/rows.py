"""What the rows of a file must be: columns, the commands made from them, and a sentence about each bad row."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date

from allocation.domain.commands import Allocate, Command, CreateBatch, IfShort, is_id
from allocation.domain.errors import MAX_QUANTITY


class UnreadableFile(Exception):
    """The file as a whole cannot be read; the message says why, and what was expected."""


class BadValue(ValueError):
    """The message says what is wrong with a row."""


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row from which no command can be made: its place, its text, and the reason."""

    number: int
    text: str
    reason: str


@dataclass(frozen=True, slots=True)
class Group:
    """Commands in the order of the file, the number of the line (or row) of each, and the rows among them that could
    not be read."""

    commands: Sequence[Command]
    numbers: Sequence[int]
    bad: Sequence[BadRow] = ()

    def before(self, number: int) -> Group:
        """The group of the commands before the row with this number."""
        count = sum(n < number for n in self.numbers)
        return Group(self.commands[:count], self.numbers[:count])


_is_day = re.compile(r"\d{4}-\d\d-\d\d\Z", re.ASCII).match

# The same checks as patterns for a CSV line: an id that needs no quotes, a quantity without leading zeros that is
# surely not too large, a day or nothing. Whatever they do not match is looked at line by line.
_ID, _QTY, _DAY = r"([!#-+\-.0-~]{1,255})", r"([1-9][0-9]{0,8})", r"((?:[0-9]{4}-[0-9]{2}-[0-9]{2})?)"


@dataclass(frozen=True, slots=True)
class Shape:
    """What the rows of a file are: the columns with the pattern of each, and the commands made from their texts.

    `commands` accepts rows that match, and raises `ValueError` for a day that does not exist in the calendar.
    """

    columns: dict[str, str]
    commands: Callable[[Iterable[Sequence[str]]], list[Command]]

    def checked(self, row: Sequence[str]) -> Command:
        """The command of any row. Raises `BadValue` with a sentence."""
        for column, text in zip(self.columns, row, strict=True):
            _check(column, text)
        return self.commands([row])[0]

    def text_of(self, command: Command) -> str:
        """The command as a row again."""
        values = (getattr(command, column) for column in self.columns)
        return ",".join("" if value is None else str(value) for value in values)


def batches() -> Shape:
    """Rows of batches that were bought."""

    def create(rows: Iterable[Sequence[str]]) -> list[Command]:
        return [
            CreateBatch(ref, sku, int(qty), date.fromisoformat(eta) if eta else None) for ref, sku, qty, eta in rows
        ]

    return Shape({"ref": _ID, "sku": _ID, "qty": _QTY, "eta": _DAY}, create)


def orders(if_short: IfShort) -> Shape:
    """Rows of order lines; those for which no batch has enough wait or are refused."""

    def allocate(rows: Iterable[Sequence[str]]) -> list[Command]:
        return [Allocate(orderid, sku, int(qty), if_short) for orderid, sku, qty in rows]

    return Shape({"orderid": _ID, "sku": _ID, "qty": _QTY}, allocate)


def _check(column: str, text: str) -> None:
    if column == "eta":
        if text and not _is_calendar_day(text):
            raise BadValue(f"the eta {shown(text)} is not a date (YYYY-MM-DD, or nothing for stock on hand)")
    elif not text.strip():
        raise BadValue(f"the {column} is blank")
    elif column == "qty":
        if not (text.isascii() and text.isdigit() and len(text) <= 100 and 1 <= int(text) <= MAX_QUANTITY):
            raise BadValue(f"the qty {shown(text)} is not a whole number from 1 to {MAX_QUANTITY}")
    elif not is_id(text):
        if any("\udc80" <= c <= "\udcff" for c in text):
            raise BadValue(f"the {column} {shown(text)} has bytes that are not UTF-8 (an id is plain ASCII)")
        raise BadValue(
            f"the {column} {shown(text)} is not an id (1 to 255 printable ASCII characters, no space, no slash)"
        )


def _is_calendar_day(text: str) -> bool:
    try:
        return bool(_is_day(text) and date.fromisoformat(text))
    except ValueError:
        return False


def shown(text: str) -> str:
    """Foreign text, safe to print: quoted, without control characters, and not too long."""
    quoted = ascii(re.sub("[\udc80-\udcff]", lambda c: chr(ord(c[0]) - 0xDC00), text[:60]))
    return quoted if len(text) <= 60 else f"{quoted[:-1]}...'"


def printable(text: str) -> str:
    """Text as it was read, for a screen: bytes that are not UTF-8, and so not characters, are shown as numbers."""
    return re.sub("[\udc80-\udcff]", lambda c: f"\\x{ord(c[0]) - 0xDC00:02x}", text)


class Rows(ABC):
    """An open file. `position_bytes` says how far it has been read, out of `size_bytes` (None if unknown)."""

    name: str
    word: str
    """The unit in which its rows are counted: line or row."""
    shape: Shape
    size_bytes: int | None

    @property
    @abstractmethod
    def position_bytes(self) -> int: ...

    @abstractmethod
    def groups(self, size: int) -> Iterator[Group]:
        """The rows, up to `size` at a time. Raises `UnreadableFile` if the rest cannot be read."""

    def _each(self, rows: Iterator[tuple[int, str, Callable[[], Sequence[str]]]]) -> Group:
        commands, numbers, bad = [], [], []
        for number, text, fields in rows:
            try:
                commands.append(self.shape.checked(fields()))
                numbers.append(number)
            except BadValue as wrong:
                bad.append(BadRow(number, text[:200], str(wrong)))
        return Group(commands, numbers, bad)
