"""Files to rows, and rows to commands."""

from __future__ import annotations

import io
import re
import sys
import tracemalloc
from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allocation.domain.commands import ID_PATTERN, Allocate, CreateBatch, IfShort
from allocation.entrypoints.importing.from_csv import CsvRows
from allocation.entrypoints.importing.from_parquet import ParquetRows
from allocation.entrypoints.importing.rows import Shape, UnreadableFile, batches
from tests.unit.import_rows import ORDERS, csv_rows, read

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
        (b"o-1,RED-CHAIR", "the first line has 3 columns, this one has 2"),
        (b"o-1,RED-CHAIR,10,", "the first line has 3 columns, this one has 4"),
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
        (b"o-1, RED-CHAIR,1", "the sku ' RED-CHAIR' is not an id .*no space"),
        (b"o-1,RED/CHAIR,1", "the sku 'RED/CHAIR' is not an id .*no slash"),
        ("o-1,RED-CHÄIR,1".encode(), r"the sku 'RED-CH\\xc4IR' is not an id .*ASCII"),
        (b"o-1,RED-CH\xc4IR,1", r"the sku 'RED-CH\\xc4IR' has bytes that are not UTF-8"),
        (b"o-1,RED\x00CHAIR,1", r"the sku 'RED\\x00CHAIR' is not an id"),
        (b"o-1,\x1b[31mRED,1", r"the sku '\\x1b\[31mRED' is not an id"),
        (b"o-1," + b"R" * 256 + b",1", "the sku 'R{60}...' is not an id .*1 to 255"),
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
