"""Rows to commands, and groups of them through a bus in memory."""

from __future__ import annotations

import io
import re
import sys
import tracemalloc
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allocation.bootstrap import Application, bootstrap
from allocation.config import Settings
from allocation.domain.commands import ID_PATTERN, Allocate, Command, CreateBatch, IfShort
from allocation.domain.errors import BatchExists
from allocation.entrypoints.importing.dry_run import DryRun
from allocation.entrypoints.importing.from_csv import CsvRows
from allocation.entrypoints.importing.from_parquet import ParquetRows
from allocation.entrypoints.importing.rows import BadRow, Rows, Shape, UnreadableFile, batches, orders
from allocation.entrypoints.importing.run import Import, NotReached, Outcome, RowNotTakenIn, StopAtFirstRefusal, Stopped
from allocation.service_layer.answers import Answer
from allocation.service_layer.envelope import CommandEnvelope, LogPosition
from allocation.service_layer.errors import Unavailable
from allocation.service_layer.fork_join import ForkJoin, Send
from allocation.service_layer.handlers import COMMAND_HANDLERS
from allocation.service_layer.unit_of_work import UnitOfWork

ORDERS = orders(IfShort.WAIT)
REFUSING = orders(IfShort.REFUSE)


def csv_rows(content: str | bytes, shape: Shape = ORDERS, name: str = "orders.csv") -> CsvRows:
    return CsvRows(io.BytesIO(content if isinstance(content, bytes) else content.encode()), name, shape)


def read(rows: Rows, size: int = 1000) -> tuple[list[tuple[int, Command]], list[BadRow]]:
    groups = list(rows.groups(size))
    return [x for g in groups for x in zip(g.numbers, g.commands, strict=True)], [x for g in groups for x in g.bad]


# --- good files -----------------------------------------------------------------------------------------------------


def test_rows_become_commands_with_their_line_numbers() -> None:
    commands, bad = read(csv_rows("ref,sku,qty,eta\nB-1,RED-CHAIR,20,\nB-2,SMALL-TABLE,5,2030-05-01\n", batches()))
    assert commands == [
        (2, CreateBatch("B-1", "RED-CHAIR", 20, None)),
        (3, CreateBatch("B-2", "SMALL-TABLE", 5, date(2030, 5, 1))),
    ]
    assert bad == []


@pytest.mark.parametrize(
    "content",
    [
        "orderid,sku,qty\no-1,RED-CHAIR,10\n",
        "orderid,sku,qty\no-1,RED-CHAIR,10",
        "orderid,sku,qty\r\no-1,RED-CHAIR,10\r\n",
        "orderid,sku,qty\ro-1,RED-CHAIR,10\r",
        "\ufefforderid,sku,qty\no-1,RED-CHAIR,10\n",
        '"orderid","sku","qty"\n"o-1","RED-CHAIR","10"\n',
        'orderid,sku,qty\no-1,"RED-CHAIR",10\n',
        "OrderId, SKU ,Qty\no-1,RED-CHAIR,10\n",
        "qty,sku,orderid\n10,RED-CHAIR,o-1\n",
        "sku,orderid,qty\nRED-CHAIR,o-1,10\n",
        'sku,"orderid",qty\n"RED-CHAIR","o-1",10\n',
        'qty,"sku",orderid\n"10","RED-CHAIR","o-1"\n',
        "day,orderid,sku,note,qty\n2030-01-01,o-1,RED-CHAIR,für Anna,10\n",
        'day,orderid,sku,note,qty\n"2030-01-01",o-1,"RED-CHAIR","red, or blue",10\n',
        "orderid,sku,qty\no-1,RED-CHAIR,0010\n",
        "orderid,sku,qty\n\no-1,RED-CHAIR,10\n\n  \n",
    ],
)
def test_the_same_row_in_every_lawful_dress(content: str) -> None:
    commands, bad = read(csv_rows(content))
    assert [command for _, command in commands] == [Allocate("o-1", "RED-CHAIR", 10, IfShort.WAIT)]
    assert bad == []


def test_an_id_may_hold_commas_and_quotes_where_csv_quotes_them() -> None:
    commands, _ = read(csv_rows('orderid,sku,qty\n"o,1","RED""CHAIR",1\n'))
    assert commands == [(2, Allocate("o,1", 'RED"CHAIR', 1, IfShort.WAIT))]


@pytest.mark.parametrize("character", [chr(code) for code in range(0x20, 0x80)])
def test_the_fast_way_knows_every_character_of_an_id_that_needs_no_quotes(character: str) -> None:
    plain = re.compile(ORDERS.columns["sku"])
    assert bool(plain.fullmatch(character)) == (bool(re.match(ID_PATTERN, character)) and character not in ',"')


LINES = st.lists(
    st.one_of(
        st.sampled_from(
            ["o-1,RED-CHAIR,1", "o-2,SMALL-TABLE,007", '"o-3","A",2', "", " ", "a,b", "a,b,c", "a,b,0", "é,b,1"]
        ),
        st.text(st.sampled_from('ab,"0123456789- é\x00\t'), max_size=12),
    ),
    max_size=12,
)


@given(LINES)
def test_what_a_line_means_does_not_depend_on_its_neighbours(lines: list[str]) -> None:
    content = "\n".join(["orderid,sku,qty", *lines])
    assert read(csv_rows(content), size=1000) == read(csv_rows(content), size=1)


TORN = 3 * 8192 - len("orderid,sku,notes,qty\no-1,RED-CHAIR,,10")
"""Of notes, so that three blocks of a file end within the quantity."""


@pytest.mark.parametrize("length", [5_000, TORN, 100_000])
@pytest.mark.parametrize("size", [1, 2, 1000])
def test_a_line_that_is_too_long_is_no_row_whatever_is_read_of_it(length: int, size: int) -> None:
    content = f"orderid,sku,notes,qty\no-1,RED-CHAIR,{'x' * length},1000\no-2,RED-CHAIR,,1\n"
    commands, bad = read(csv_rows(content), size)
    assert commands == [(3, Allocate("o-2", "RED-CHAIR", 1))]
    assert [row.reason for row in bad] == ["the line is too long for a row (over 4096 characters)"]


# --- bad rows -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"o-1,RED-CHAIR", "the first line has 3 columns, this one 2"),
        (b"o-1,RED-CHAIR,10,", "the first line has 3 columns, this one 4"),
        (b"o-1,RED-CHAIR,ten", "the qty 'ten' is not a whole number from 1 to 2147483647"),
        (b"o-1,RED-CHAIR,1.5", "the qty '1.5' is not"),
        (b"o-1,RED-CHAIR,+1", r"the qty '\+1' is not"),
        (b"o-1,RED-CHAIR,1_0", "the qty '1_0' is not"),
        (b"o-1,RED-CHAIR,-1", "the qty '-1' is not"),
        (b"o-1,RED-CHAIR,0", "the qty '0' is not"),
        (b"o-1,RED-CHAIR,2147483648", "the qty '2147483648' is not"),
        (b"o-1,RED-CHAIR," + b"9" * 4000, "the qty '9{60}...' is not"),
        ("o-1,RED-CHAIR,٣".encode(), r"the qty '\\u0663' is not"),
        (b"o-1,RED-CHAIR,", "the qty is blank"),
        (b",RED-CHAIR,1", "the orderid is blank"),
        (b"o-1,  ,1", "the sku is blank"),
        (b"o-1, RED-CHAIR,1", "the sku ' RED-CHAIR' is no id .*no space"),
        (b"o-1,RED/CHAIR,1", "the sku 'RED/CHAIR' is no id .*no slash"),
        ("o-1,RED-CHÄIR,1".encode(), r"the sku 'RED-CH\\xc4IR' is no id .*ASCII"),
        (b"o-1,RED-CH\xc4IR,1", r"the sku 'RED-CH\\xc4IR' has bytes that are not UTF-8"),
        (b"o-1,RED\x00CHAIR,1", r"the sku 'RED\\x00CHAIR' is no id"),
        (b"o-1,\x1b[31mRED,1", r"the sku '\\x1b\[31mRED' is no id"),
        (b"o-1," + b"R" * 256 + b",1", "the sku 'R{60}...' is no id .*1 to 255"),
        (b'o-1,"RED-CHAIR,1', "the quotes do not match"),
        (b'o-1,"RED"CHAIR,1', "the quotes do not match"),
        (b"o-1,RED-CHAIR," + b"1" * 5000, "the line is too long for a row"),
        (b"x" * 1_000_000, "the line is too long for a row"),
    ],
)
@pytest.mark.parametrize("size", [1, 1000])
def test_a_bad_row_is_told_with_its_line_and_a_sentence(line: bytes, reason: str, size: int) -> None:
    content = b"orderid,sku,qty\no-0,RED-CHAIR,1\n" + line + b"\no-2,RED-CHAIR,2\n"
    commands, bad = read(csv_rows(content), size)
    assert [number for number, _ in commands] == [2, 4], "the rows around it are good"
    assert [row.number for row in bad] == [3]
    assert re.match(reason, bad[0].reason), bad[0].reason


@pytest.mark.parametrize(
    "day", ["2026-02-30", "0000-01-01", "20300501", "2030-5-1", "01.05.2030", "2030-05-01T00:00", "soon", " "]
)
def test_an_eta_is_a_calendar_day_or_nothing(day: str) -> None:
    commands, bad = read(csv_rows(f"ref,sku,qty,eta\nB-1,RED-CHAIR,20,{day}\n", batches()))
    assert commands == []
    assert [row.reason for row in bad] == [f"the eta '{day}' is not a date (YYYY-MM-DD, or nothing for stock on hand)"]


def test_a_quoted_line_break_is_a_bad_row_and_does_not_swallow_the_next() -> None:
    commands, bad = read(csv_rows('orderid,sku,qty\no-1,"RED\nCHAIR",1\no-2,RED-CHAIR,1\n'))
    assert [row.number for row in bad] == [2, 3]
    assert [number for number, _ in commands] == [4]


# --- bad files ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "orders.csv is empty; its first line must be orderid,sku,qty"),
        (b"\n", "orders.csv: the first line must be orderid,sku,qty, not ''"),
        (b"o-1,RED-CHAIR,10\n", "orders.csv: the first line must be orderid,sku,qty, not 'o-1,RED-CHAIR,10'"),
        (b"orderid,sku\n", "must be orderid,sku,qty, not 'orderid,sku'"),
        (b"orderid,sku,sku,qty\n", "must be orderid,sku,qty, not 'orderid,sku,sku,qty'"),
        (b"orderid;sku;qty\n", "(columns are separated by commas)"),
        ("orderid,sku,qty\n".encode("utf-16"), "(it looks like UTF-16; save it as UTF-8)"),
        (b"\x89PNG\r\n\x1a\n\x00", "must be orderid,sku,qty, not "),
        (b"x" * 10_000_000, "must be orderid,sku,qty, not 'xxx"),
    ],
)
def test_a_file_without_the_right_first_line_is_refused_with_what_is_expected(content: bytes, sentence: str) -> None:
    with pytest.raises(UnreadableFile) as refused:
        csv_rows(content)
    assert sentence in str(refused.value)
    assert str(refused.value).isprintable()


class Endless(io.RawIOBase):
    """A file that is made up as it is read."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces

    def read1(self, size: int = -1) -> bytes:
        return next(self._pieces, b"")


def pieces(kind: str, megabytes: int) -> Iterator[bytes]:
    yield b"orderid,sku,qty\n"
    piece = b"x" * 8000 if kind == "one endless line" else b"order-1234567,SKU-1234,10\n" * 300
    for _ in range(megabytes * 125):
        yield piece


@pytest.mark.parametrize("kind", ["one endless line", "many rows"])
def test_memory_stays_flat_however_long_the_file(kind: str) -> None:
    def peak_bytes(megabytes: int) -> int:
        rows = CsvRows(Endless(pieces(kind, megabytes)), "endless.csv", ORDERS)  # type: ignore[arg-type]  # as far as it is used
        tracemalloc.start()
        for _ in rows.groups(1000):
            pass
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    peak_bytes(1)
    assert peak_bytes(8) < 1.2 * peak_bytes(1) + 100_000


def long_lines() -> Iterator[bytes]:
    yield b"orderid,sku,qty\n"
    for _ in range(1_000):
        yield from [b"x" * 8_000] * 8
        yield b"\n"


def test_lines_that_are_far_too_long_do_not_fill_the_memory_either() -> None:
    rows = CsvRows(Endless(long_lines()), "long.csv", ORDERS)  # type: ignore[arg-type]  # as far as it is used
    tracemalloc.start()
    [group] = rows.groups(1_000)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(group.bad) == 1_000
    assert all("too long" in row.reason for row in group.bad)
    assert peak_bytes < 1_000 * 64_000


def test_a_file_that_can_be_read_no_further_is_told_with_the_line() -> None:
    def failing() -> Iterator[bytes]:
        yield b"orderid,sku,qty\no-1,CHAIR,1\n"
        raise OSError("Input/output error")

    rows = CsvRows(Endless(failing()), "orders.csv", ORDERS)  # type: ignore[arg-type]  # as far as it is used
    groups = rows.groups(1)
    assert next(groups).commands == [Allocate("o-1", "CHAIR", 1)]
    with pytest.raises(UnreadableFile, match=r"orders.csv cannot be read from line 3 on \(Input/output error\)"):
        next(groups)


# --- Parquet --------------------------------------------------------------------------------------------------------


def parquet_file(path: Path, **columns: object) -> Path:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pa.table(columns), path)
    return path


def parquet_rows(path: Path, shape: Shape) -> ParquetRows:
    return ParquetRows(path.open("rb"), path.name, shape, path.stat().st_size)


def test_parquet_rows_become_the_same_commands(tmp_path: Path) -> None:
    path = parquet_file(
        tmp_path / "batches.parquet",
        eta=[None, date(2030, 5, 1)],
        ref=[1001, 1002],
        sku=["RED-CHAIR", "SMALL-TABLE"],
        qty=[20, 5],
        colour=["red", None],
    )
    commands, bad = read(parquet_rows(path, batches()))
    assert commands == [
        (1, CreateBatch("1001", "RED-CHAIR", 20, None)),
        (2, CreateBatch("1002", "SMALL-TABLE", 5, date(2030, 5, 1))),
    ]
    assert bad == []


def test_a_parquet_timestamp_at_midnight_is_a_date(tmp_path: Path) -> None:
    """Pandas has no other type for a column of dates. A time of day, or a zone, would have to be guessed away."""
    import pyarrow as pa

    etas = [datetime.fromisoformat("2030-01-01"), None, datetime.fromisoformat("2030-01-02 08:00")]
    for unit in ("s", "ms", "us", "ns"):
        path = parquet_file(
            tmp_path / "batches.parquet",
            ref=["b-1", "b-2", "b-3"],
            sku=["A", "A", "A"],
            qty=[1, 2, 3],
            eta=pa.array(etas, pa.timestamp(unit)),
        )
        commands, bad = read(parquet_rows(path, batches()))
        assert [command.eta for _, command in commands] == [date(2030, 1, 1), None]
        assert [row.number for row in bad] == [3]
    path = parquet_file(
        tmp_path / "batches.parquet", ref=["b-1"], sku=["A"], qty=[1], eta=pa.array(etas[:1], pa.timestamp("us", "UTC"))
    )
    assert [row.number for row in read(parquet_rows(path, batches()))[1]] == [1]


def test_bad_parquet_rows_are_told_with_their_row(tmp_path: Path) -> None:
    path = parquet_file(
        tmp_path / "orders.parquet", orderid=["o-1", None, "o-3"], sku=["A", "B", "C D"], qty=[1.5, 1.0, 2.0]
    )
    _, bad = read(parquet_rows(path, ORDERS), size=2)
    assert [row.number for row in bad] == [1, 2, 3]
    assert bad[0].reason.startswith("the qty '1.5' is not a whole number")
    assert bad[1].reason == "the orderid is blank"


def test_parquet_without_the_columns_is_refused(tmp_path: Path) -> None:
    path = parquet_file(tmp_path / "orders.parquet", orderid=["o-1"], sku=["RED-CHAIR"], quantity=[1])
    with pytest.raises(UnreadableFile, match="the columns must be orderid,sku,qty, not 'orderid,sku,quantity'"):
        parquet_rows(path, ORDERS)


def test_parquet_with_a_column_twice_is_refused(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = tmp_path / "orders.parquet"
    parquet.write_table(pa.table([["o-1"], ["CHAIR"], [1], [2]], names=["orderid", "sku", "qty", "qty"]), path)
    with pytest.raises(UnreadableFile, match="the columns must be orderid,sku,qty, not 'orderid,sku,qty,qty'"):
        parquet_rows(path, ORDERS)


def test_a_column_that_holds_lists_is_refused(tmp_path: Path) -> None:
    path = parquet_file(tmp_path / "orders.parquet", orderid=["o-1"], sku=[["RED-CHAIR"]], qty=[1])
    with pytest.raises(UnreadableFile, match="cannot be read from row 1 on"):
        read(parquet_rows(path, ORDERS))


def test_what_is_no_parquet_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    path = tmp_path / "orders.parquet"
    path.write_text("orderid,sku,qty\n")
    with pytest.raises(UnreadableFile, match=r"orders.parquet is not a Parquet file"):
        parquet_rows(path, ORDERS)


def test_without_pyarrow_the_extra_to_install_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "orders.parquet").touch()
    with pytest.raises(UnreadableFile, match=r"pip install 'allocation\[parquet\]'"):
        parquet_rows(tmp_path / "orders.parquet", ORDERS)


# --- a run ----------------------------------------------------------------------------------------------------------


@dataclass
class Shop:
    """An application in memory, and imports into it."""

    stop: bool = True
    handlers: Mapping[type, Callable[..., Any]] = field(default_factory=lambda: COMMAND_HANDLERS)
    app: Application = field(init=False)
    handle_many: Send = field(init=False)
    sent: list[Sequence[CommandEnvelope]] = field(default_factory=list)
    told: list[RowNotTakenIn] = field(default_factory=list)
    position: LogPosition | None = None

    def __post_init__(self) -> None:
        stop = StopAtFirstRefusal()
        handlers = stop.wrap(self.handlers) if self.stop else self.handlers
        self.app = bootstrap(Settings(database_url="memory:"), handlers=handlers)
        self.handle_many = stop.each(self.app.bus.handle_many)

    def send(self, envelopes: Sequence[CommandEnvelope]) -> list[Answer]:
        self.sent.append(envelopes)
        return self.handle_many(envelopes)

    def dry_run(self) -> DryRun:
        return DryRun(self.app.views, COMMAND_HANDLERS, self.app.ids, self.app.clock)

    def take_in(
        self, *files: Rows, group: int = 1000, send: Send | None = None
    ) -> tuple[list[dict[Outcome, int]], Stopped | None]:
        self.told.clear()
        run = Import(
            send or self.send,
            self.app.ids,
            self.app.clock,
            "anna",
            group,
            "stop" if self.stop else "skip",
            self.told.append,
            lambda *_: None,
        )
        stopped = run.run(files)
        self.position = run.position
        return [dict(+tally.counts) for tally in run.tallies], stopped

    def lines(self, *orderids: str) -> list[str]:
        return [orderid for orderid in orderids if self.app.views.order(orderid)]


def stock(*lines: str) -> CsvRows:
    return csv_rows("\n".join(["ref,sku,qty,eta", *lines]), batches(), "batches.csv")


def ordered(*lines: str, shape: Shape = ORDERS) -> CsvRows:
    return csv_rows("\n".join(["orderid,sku,qty", *lines]), shape)


def test_every_row_ends_as_one_of_taken_in_allocated_or_waiting() -> None:
    counts, stopped = Shop().take_in(stock("B-1,RED-CHAIR,10,"), ordered("o-1,RED-CHAIR,6", "o-2,RED-CHAIR,6"))
    assert counts == [{Outcome.TAKEN_IN: 1}, {Outcome.ALLOCATED: 1, Outcome.WAITING: 1}]
    assert stopped is None


def test_the_same_import_again_changes_nothing_and_says_so() -> None:
    shop = Shop()
    files = (["B-1,RED-CHAIR,10,"], ["o-1,RED-CHAIR,6", "o-2,RED-CHAIR,6"])
    shop.take_in(stock(*files[0]), ordered(*files[1]))
    log = shop.app.views.events((), 1000).events
    counts, _ = shop.take_in(stock(*files[0]), ordered(*files[1]))
    assert counts == [{Outcome.THERE_ALREADY: 1}, {Outcome.THERE_ALREADY: 2}]
    assert shop.app.views.events((), 1000).events == log


def test_a_row_that_stands_twice_is_taken_in_once() -> None:
    counts, _ = Shop().take_in(
        stock("B-1,RED-CHAIR,10,", "B-1,RED-CHAIR,10,"), ordered("o-1,RED-CHAIR,1", "o-1,RED-CHAIR,1")
    )
    assert counts == [
        {Outcome.TAKEN_IN: 1, Outcome.THERE_ALREADY: 1},
        {Outcome.ALLOCATED: 1, Outcome.THERE_ALREADY: 1},
    ]


@pytest.mark.parametrize("group", [1, 2, 1000])
def test_it_stops_at_the_first_unreadable_row_with_all_before_and_none_behind_taken_in(group: int) -> None:
    shop = Shop()
    rows = ordered("o-1,RED-CHAIR,1", "o-2,RED-CHAIR,1", "o-3,RED-CHAIR,x", "o-4,RED-CHAIR,1", "o-5,RED-CHAIR,y")
    counts, stopped = shop.take_in(stock("B-1,RED-CHAIR,10,"), rows, group=group)
    assert counts[1] == {Outcome.ALLOCATED: 2, Outcome.UNREADABLE: 1}
    assert shop.lines("o-1", "o-2", "o-3", "o-4", "o-5") == ["o-1", "o-2"]
    assert stopped is not None
    assert stopped.reason.startswith("orders.csv, line 4: the qty 'x' is not a whole number")


@pytest.mark.parametrize("group", [1, 2, 1000])
def test_it_stops_at_the_first_refused_row_with_all_before_and_none_behind_taken_in(group: int) -> None:
    shop = Shop()
    rows = ordered("o-1,RED-CHAIR,1", "o-2,RED-CHAIR,1", "o-1,RED-CHAIR,2", "o-4,RED-CHAIR,1", "o-5,RED-CHAIR,y")
    counts, stopped = shop.take_in(stock("B-1,RED-CHAIR,10,"), rows, group=group)
    assert counts[1] == {Outcome.ALLOCATED: 2, Outcome.REFUSED: 1}
    assert shop.lines("o-1", "o-2", "o-4", "o-5") == ["o-1", "o-2"]
    assert stopped is not None
    assert stopped.reason == "orders.csv, line 4: Order o-1 already has a line for RED-CHAIR, with quantity 1"


def test_after_a_stop_the_mended_file_goes_on_where_it_stopped() -> None:
    shop = Shop()
    shop.take_in(stock("B-1,RED-CHAIR,10,"), ordered("o-1,RED-CHAIR,1", "o-2,RED-CHAIR,x", "o-3,RED-CHAIR,1"))
    counts, stopped = shop.take_in(ordered("o-1,RED-CHAIR,1", "o-2,RED-CHAIR,2", "o-3,RED-CHAIR,1"))
    assert counts == [{Outcome.THERE_ALREADY: 1, Outcome.ALLOCATED: 2}]
    assert stopped is None


def test_a_stop_in_the_batches_leaves_the_orders_alone() -> None:
    shop = Shop()
    counts, stopped = shop.take_in(stock("B-1,RED-CHAIR,10,", "B-1,RED-CHAIR,11,"), ordered("o-1,RED-CHAIR,1"))
    assert len(counts) == 1
    assert stopped is not None
    assert shop.lines("o-1") == []


def test_skipping_leaves_out_what_is_wrong_and_tells_each_in_the_order_of_the_file() -> None:
    shop = Shop(stop=False)
    rows = ordered(
        "o-1,RED-CHAIR,1", "o-2,RED-CHAIR,x", "o-3,BLUE-CHAIR,1", "o-1,RED-CHAIR,7", "o-4", "o-5,RED-CHAIR,1"
    )
    counts, stopped = shop.take_in(stock("B-1,RED-CHAIR,10,"), rows)
    assert stopped is None
    assert counts[1] == {Outcome.ALLOCATED: 2, Outcome.REFUSED: 2, Outcome.UNREADABLE: 2}
    assert [(x.number, x.outcome) for x in shop.told] == [
        (3, "unreadable"),
        (4, "refused"),
        (5, "refused"),
        (6, "unreadable"),
    ]
    assert shop.told[1] == RowNotTakenIn(
        "orders.csv", 4, "o-3,BLUE-CHAIR,1", Outcome.REFUSED, "Invalid sku BLUE-CHAIR: no batch of it was ever taken in"
    )


def test_out_of_stock_is_an_answer_and_never_stops() -> None:
    shop = Shop()
    rows = ordered("o-1,RED-CHAIR,11", "o-2,RED-CHAIR,10", "o-3,RED-CHAIR,1", shape=REFUSING)
    counts, stopped = shop.take_in(stock("B-1,RED-CHAIR,10,"), rows)
    assert stopped is None
    assert counts[1] == {Outcome.OUT_OF_STOCK: 2, Outcome.ALLOCATED: 1}
    assert [x.number for x in shop.told] == [2, 4]


def test_groups_are_as_large_as_asked_and_share_one_correlation() -> None:
    shop = Shop()
    shop.take_in(stock("B-1,RED-CHAIR,10,"), ordered(*(f"o-{n},RED-CHAIR,1" for n in range(5))), group=2)
    assert [len(group) for group in shop.sent] == [1, 2, 2, 1]
    envelopes = [envelope for group in shop.sent for envelope in group]
    assert len({e.correlation_id for e in envelopes}) == 1
    assert len({e.id for e in envelopes}) == 6
    assert {(e.source, e.client, e.brought_id) for e in envelopes} == {("import", "anna", False)}
    assert all(len({e.time for e in group}) == 1 for group in shop.sent)


def test_when_the_store_goes_away_it_stops_and_says_why() -> None:
    shop = Shop()
    groups_left = 1

    def send(envelopes: Sequence[CommandEnvelope]) -> list[Answer]:
        nonlocal groups_left
        if not groups_left:
            raise Unavailable("the database is away")
        groups_left -= 1
        return shop.send(envelopes)

    counts, stopped = shop.take_in(stock("B-1,A,1,", "B-2,A,1,"), group=1, send=send)
    assert counts == [{Outcome.TAKEN_IN: 1}]
    assert stopped == Stopped("the database is away")


def test_when_the_store_goes_away_within_a_group_no_row_is_called_refused() -> None:
    shop = Shop(stop=False)

    def send(envelopes: Sequence[CommandEnvelope]) -> list[Answer]:
        return [Answer(error=Unavailable("the database is away")) for _ in envelopes]

    counts, stopped = shop.take_in(stock("B-1,A,1,"), send=send)
    assert stopped == Stopped("the database is away")
    assert (counts, shop.told) == ([{}], [])


def test_each_group_stops_at_its_own_first_refusal_whatever_happens_in_other_threads() -> None:
    def refuse(command: Command, uow: object) -> None:
        raise BatchExists("B-1")

    stop = StopAtFirstRefusal()
    handlers = stop.wrap({CreateBatch: refuse, Allocate: lambda command, uow: "taken in"})
    bad, good, first = CreateBatch("B-1", "A", 1), Allocate("o-1", "A", 1), Allocate("o-0", "A", 1)
    begin = stop.each(lambda envelopes: [])
    group = [CommandEnvelope(command, "id", datetime(2031, 1, 1, tzinfo=UTC), "id") for command in (first, bad, good)]
    with ThreadPoolExecutor(1) as other:
        for call in (lambda f, *args: f(*args), lambda f, *args: other.submit(f, *args).result()):
            call(begin, group)
            assert call(handlers[Allocate], good, None) == "taken in"
            with pytest.raises(BatchExists):
                call(handlers[CreateBatch], bad, None)
        for call in (lambda f, *args: f(*args), lambda f, *args: other.submit(f, *args).result()):
            with pytest.raises(NotReached):
                call(handlers[Allocate], good, None)
            call(begin, group)
            assert call(handlers[Allocate], good, None) == "taken in", "the next group begins afresh"


@pytest.mark.parametrize("again", ["first", "bad"])
def test_a_group_that_is_tried_again_begins_afresh_and_so_does_the_row_it_stopped_at(again: str) -> None:
    refusals = [BatchExists("B-1")]

    def refuse_once(command: Command, uow: object) -> str:
        if refusals:
            raise refusals.pop()
        return "taken in"

    stop = StopAtFirstRefusal()
    handlers = stop.wrap({CreateBatch: refuse_once, Allocate: lambda command, uow: "taken in"})
    rows = {"first": Allocate("o-0", "A", 1), "bad": CreateBatch("B-1", "A", 1), "good": Allocate("o-1", "A", 1)}
    group = [CommandEnvelope(command, "id", datetime(2031, 1, 1, tzinfo=UTC), "id") for command in rows.values()]
    stop.each(lambda envelopes: [])(group)
    with pytest.raises(BatchExists):
        handlers[CreateBatch](rows["bad"], None)
    with pytest.raises(NotReached):
        handlers[Allocate](rows["good"], None)
    assert handlers[type(rows[again])](rows[again], None) == "taken in"
    assert handlers[Allocate](rows["good"], None) == "taken in"


def test_a_row_that_fails_stops_the_import_too_and_those_of_its_product_behind_it_stay_out() -> None:
    def fail_once(command: Allocate, uow: UnitOfWork) -> Any:
        if command.orderid == "o-5":
            raise RuntimeError("out of order")
        return COMMAND_HANDLERS[Allocate](command, uow)

    shop = Shop(handlers={**COMMAND_HANDLERS, Allocate: fail_once})
    shop.take_in(stock("B-1,CHAIR,3,"))
    lines = [f"o-{n},CHAIR,1" for n in (1, 5, 3, 4, 6)]
    counts, stopped = shop.take_in(ordered(*lines))
    assert stopped is not None
    assert stopped.reason == "orders.csv, line 3: it could not be handled (RuntimeError: out of order)"
    assert counts == [{Outcome.ALLOCATED: 1, Outcome.REFUSED: 1}]
    assert shop.lines("o-1", "o-5", "o-3", "o-4", "o-6") == ["o-1"]


def test_with_several_transactions_at_once_it_stops_at_the_first_wrong_row_of_the_file() -> None:
    shop = Shop()
    shop.take_in(stock("B-1,CHAIR,1000,", "B-2,TABLE,1000,"))
    lines = [f"o-{n},{('CHAIR', 'TABLE')[n % 2]},1" for n in range(200)]
    wrong = dict(enumerate(lines)) | {100: "o-2,CHAIR,9", 61: "o-1,TABLE,9", 150: "o-150,CHAIR,x"}
    send = ForkJoin(shop.send, 2, 1000)
    counts, stopped = shop.take_in(ordered(*wrong.values()), send=send)
    assert [len(group) for group in shop.sent[-2:]] == [75, 75], "up to the unreadable one, by products"
    assert stopped is not None
    assert stopped.reason == "orders.csv, line 63: Order o-1 already has a line for TABLE, with quantity 1"
    assert [row.number for row in shop.told] == [63, 102], "every wrong row that was found, in order"
    assert counts == [{Outcome.ALLOCATED: 30 + 50, Outcome.REFUSED: 2}]
    there = shop.lines(*(f"o-{n}" for n in range(200)))
    assert there == [f"o-{n}" for n in range(200) if n < 61 or (n < 100 and n % 2 == 0)]
    counts, stopped = shop.take_in(ordered(*lines), send=send)
    assert (counts, stopped) == ([{Outcome.THERE_ALREADY: 80, Outcome.ALLOCATED: 120}], None)


def test_the_position_is_that_of_the_last_event_whichever_transaction_it_came_from() -> None:
    shop = Shop()
    shop.take_in(stock("B-1,CHAIR,1000,", "B-2,TABLE,1000,"))
    chairs_are_in = Event()

    def send(envelopes: Sequence[CommandEnvelope]) -> list[Answer]:
        if envelopes[0].command.sku == "TABLE":  # type: ignore[union-attr]  # these have one
            assert chairs_are_in.wait(30)
        answers = shop.send(envelopes)
        chairs_are_in.set()
        return answers

    at_once = ForkJoin(send, 2, 1000)
    shop.take_in(ordered(*(f"o-{n},{('CHAIR', 'TABLE')[n % 2]},1" for n in range(101))), send=at_once)
    assert shop.position == LogPosition(0, 103)


def test_ctrl_c_ends_a_run_with_its_count() -> None:
    shop = Shop()

    def send(envelopes: Sequence[CommandEnvelope]) -> list[Answer]:
        raise KeyboardInterrupt

    assert shop.take_in(stock("B-1,A,1,"), send=send) == ([{}], Stopped("interrupted"))


# --- a dry run ------------------------------------------------------------------------------------------------------


def test_a_dry_run_decides_as_the_real_run_would_and_stores_nothing() -> None:
    shop = Shop(stop=False)
    shop.take_in(
        stock("B-1,RED-CHAIR,10,", "B-9,OAK-SHELF,1,"), ordered("o-1,RED-CHAIR,4", "o-2,RED-CHAIR,9", "o-8,OAK-SHELF,1")
    )
    before = shop.app.views.events((), 1000).events

    def files() -> tuple[Rows, Rows]:
        return (
            stock("B-1,RED-CHAIR,10,", "B-2,RED-CHAIR,9,2030-05-01", "B-9,TALL-MIRROR,1,", "B-4,TALL-MIRROR,2,"),
            ordered(
                "o-1,RED-CHAIR,4",
                "o-1,RED-CHAIR,5",
                "o-3,RED-CHAIR,6",
                "o-4,RED-CHAIR,1",
                "o-5,TALL-MIRROR,2",
                "o-6,X,1",
            ),
        )

    foreseen = shop.take_in(*files(), group=2, send=shop.dry_run().handle_many)
    told = list(shop.told)
    assert shop.app.views.events((), 1000).events == before
    assert shop.take_in(*files()) == foreseen
    assert shop.told == told
    assert (
        foreseen[0]
        == [
            {Outcome.THERE_ALREADY: 1, Outcome.TAKEN_IN: 2, Outcome.REFUSED: 1},
            {Outcome.THERE_ALREADY: 1, Outcome.REFUSED: 2, Outcome.ALLOCATED: 2, Outcome.WAITING: 1},
        ]
        or foreseen[0][1][Outcome.REFUSED] == 2
    )


def test_a_dry_run_reads_a_long_history_page_by_page() -> None:
    shop = Shop()
    shop.take_in(stock("B-1,RED-CHAIR,1500,"), ordered(*(f"o-{n},RED-CHAIR,1" for n in range(1500))))
    counts, _ = shop.take_in(ordered("o-7,RED-CHAIR,1", "o-9999,RED-CHAIR,1"), send=shop.dry_run().handle_many)
    assert counts == [{Outcome.THERE_ALREADY: 1, Outcome.WAITING: 1}]
