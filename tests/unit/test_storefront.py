"""The example storefront's copy of the stock levels, and what it tells shoppers from it."""

import logging
import re
from datetime import UTC, date, datetime, timedelta
from email.message import Message
from html import unescape
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest

from examples.storefront.following import PAGE, Following
from examples.storefront.shop import create_shop
from examples.storefront.stock_copy import Level, Lot, NotALevel, StockCopy, level_from

MAY = date(2031, 5, 1)
A_MOMENT = datetime(2031, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def copy(tmp_path: Path) -> StockCopy:
    return StockCopy(tmp_path / "storefront.db")


def chairs(version: int, *lots: Lot) -> Level:
    return Level("RED-CHAIR", version, lots)


def test_the_newest_version_wins_however_it_comes(copy: StockCopy) -> None:
    for version in (2, 1, 3, 2, 3):
        copy.take([chairs(version, Lot(None, version, version))])
    assert copy.levels() == [chairs(3, Lot(None, 3, 3))]


def test_what_is_known_is_there_after_a_restart(copy: StockCopy, tmp_path: Path) -> None:
    copy.take([chairs(1, Lot(MAY, 5, 5))], "cursor-1")
    assert (copy.cursor(), copy.current_at()) == ("cursor-1", None)
    copy.take([], "cursor-2", A_MOMENT)
    copy.take([chairs(2)], "cursor-3")
    again = StockCopy(tmp_path / "storefront.db")
    assert (again.level("RED-CHAIR"), again.cursor(), again.current_at()) == (chairs(2), "cursor-3", A_MOMENT)


def test_the_cursor_passes_no_level_that_was_not_written(copy: StockCopy) -> None:
    unwritable = Level("RED-CHAIR", 2**70, ())
    with pytest.raises(OverflowError):
        copy.take([chairs(1), unwritable], "cursor-1")
    assert (copy.levels(), copy.cursor()) == ([], None)


class OtherLog(Following):
    """The service after a restore from a backup: its log is shorter than the cursor says."""

    def _answer(self, query: str) -> Any:
        if "after=cursor-of-before" in query:
            problem = b'{"type": "/docs#problem-unknown-position", "detail": "The log has no position 0-50"}'
            raise HTTPError("http://service", 422, "Unprocessable Content", Message(), BytesIO(problem))
        levels = [] if "after=" in query else [{"sku": "RED-CHAIR", "version": 2, "available": []}]
        return {"levels": levels, "next": "cursor-of-now", "as_of": A_MOMENT.isoformat()}


def test_a_copy_of_another_log_is_made_anew(copy: StockCopy) -> None:
    copy.take([chairs(7, Lot(None, 5, 5)), Level("GONE", 3, ())], "cursor-of-before", A_MOMENT)
    OtherLog(copy, "http://service", 1).catch_up()
    assert (copy.levels(), copy.cursor(), copy.current_at()) == ([chairs(2)], "cursor-of-now", A_MOMENT)


class Busy(Following):
    """A service where something changes between any two requests."""

    asked = 0

    def _answer(self, query: str) -> Any:
        self.asked += 1
        assert self.asked <= 3, "it asks for ever"
        count = PAGE if self.asked == 1 else 1
        levels = [{"sku": f"CHAIR-{n}", "version": self.asked, "available": []} for n in range(count)]
        return {"levels": levels, "next": f"cursor-{self.asked}", "as_of": A_MOMENT.isoformat()}


def test_a_copy_of_a_busy_shop_is_complete_with_the_first_page_that_is_not_full(copy: StockCopy) -> None:
    Busy(copy, "http://service", 1).catch_up()
    assert (len(copy.levels()), copy.cursor(), copy.current_at()) == (PAGE, "cursor-2", A_MOMENT)
    assert copy.level("CHAIR-0") == Level("CHAIR-0", 2, ())


@pytest.mark.parametrize(
    "told",
    [
        None,
        [],
        {},
        {"sku": "A", "version": 1},
        {"sku": "A", "version": 0, "available": []},
        {"sku": "A", "version": 1, "available": [{"eta": "soon", "qty": 1, "largest": 1}]},
        {"sku": "A", "version": 1, "available": [{"eta": None, "qty": 1}]},
        {"sku": "A", "version": "x", "available": []},
    ],
)
def test_what_is_no_level_is_said_to_be_none(told: Any) -> None:
    with pytest.raises(NotALevel):
        level_from(told)


def test_a_shopper_is_told_whether_when_and_how_old_that_is(copy: StockCopy) -> None:
    shop = create_shop(copy, lambda: "").test_client()
    assert shop.get("/can-i-buy/RED-CHAIR").status_code == 503
    known_at = datetime.now(UTC) - timedelta(seconds=90)
    copy.take([chairs(4, Lot(None, 5, 3), Lot(MAY, 40, 40))], "c", known_at)

    def ask(qty: int) -> tuple[object, ...]:
        told = shop.get(f"/can-i-buy/RED-CHAIR?qty={qty}").json
        assert told["known_at"] == known_at.isoformat()
        assert 90 <= told["age_seconds"] < 120
        return told["can_buy"], told["comes"], told["most"], told["version"]

    assert ask(3) == (True, "now", 40, 4)
    assert ask(4) == (True, "2031-05-01", 40, 4)
    assert ask(41) == (False, None, 40, 4)
    assert shop.get("/can-i-buy/RED-CHIAR").status_code == 404
    copy.take([chairs(5)])
    assert ask(1) == (False, None, 0, 5)


@pytest.mark.parametrize("qty", ["0", "-1", "1.5", "", "x", "2147483648", "9" * 30, "%D9%A1"])
def test_a_quantity_that_is_none_is_refused(copy: StockCopy, qty: str) -> None:
    assert create_shop(copy, lambda: "").test_client().get(f"/can-i-buy/RED-CHAIR?qty={qty}").status_code == 422


def test_the_page_shows_the_stock_its_age_and_that_nobody_answers(copy: StockCopy) -> None:
    shop = create_shop(copy, lambda: "gone <fishing>").test_client()
    assert "knows nothing yet" in shop.get("/").text
    level = Level("<b>&", 7, (Lot(None, 1200, 3), Lot(MAY, 40, 40)))
    copy.take([level], "c", datetime.now(UTC) - timedelta(seconds=90))
    page = shop.get("/").text
    assert "<tr><td>&lt;b&gt;&amp;<td>1,200<td>40 on 2031-05-01<td>7</tr>" in page
    assert "The data shown here is 90 seconds old." in page
    assert "The allocation service does not answer." in page
    assert "fishing" not in page  # that is for the log


def test_the_page_links_the_first_product_that_it_shows(copy: StockCopy) -> None:
    shop = create_shop(copy, lambda: "").test_client()
    assert "href" not in shop.get("/").text
    copy.take([Level("SMALL-TABLE", 1, ()), Level('100%-<b>&"C', 1, (Lot(None, 5, 5),))])
    [link] = re.findall('href="([^"]+)"', shop.get("/").text)
    assert shop.get(unescape(link)).json["sku"] == copy.levels()[0].sku == '100%-<b>&"C'


def test_what_went_wrong_is_in_the_log(
    copy: StockCopy, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    following = Following(copy, "http://nowhere.invalid", every_seconds=0.0)

    def catch_up() -> None:
        following._stopping.set()  # after this round
        raise OSError("gone fishing")

    monkeypatch.setattr(following, "catch_up", catch_up)
    with caplog.at_level(logging.INFO):
        following.run()
    assert "the allocation service: OSError: gone fishing" in caplog.text
