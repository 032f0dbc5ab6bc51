"""Stock levels for programs that keep their own copy, and the movements of a product."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Annotated

import msgspec
from pydantic import Field

from allocation.domain.errors import Available, InvalidSku
from allocation.entrypoints.http.at_least import EXAMPLE as NOT_REACHED
from allocation.entrypoints.http.at_least import AtLeast
from allocation.entrypoints.http.call import Call, Reply, json_reply
from allocation.entrypoints.http.cursors import encode_cursor
from allocation.entrypoints.http.paging import MOST_ON_A_PAGE, After, positions_behind, whole
from allocation.entrypoints.http.parsing import Body
from allocation.entrypoints.http.routes import Given, Routes
from allocation.service_layer.envelope import LogPosition
from allocation.service_layer.errors import UnknownPosition
from allocation.service_layer.read_models import Movements

routes = Routes("Stock")

MOST_DAYS = 1000

Pieces = Annotated[int, msgspec.Meta(description="Pieces")]


class StockQuery(AtLeast):
    """Which stock levels."""

    after: After = None
    limit: whole(1, MOST_ON_A_PAGE, 100) = Field(default=100, description="The most to return")  # type: ignore[valid-type]  # a type that a function makes


class StockLevelRead(msgspec.Struct):
    """The free stock of a product. Of two levels of a sku, the one with the higher version is the newer."""

    sku: str
    version: Annotated[int, msgspec.Meta(description="The version of the product")]
    available: Annotated[
        Sequence[Available], msgspec.Meta(description="Free pieces by day of arrival, stock on hand first")
    ]


class StockPageRead(msgspec.Struct):
    """Levels in the order in which they last changed. If there is nothing new, `next` is equivalent to `after`."""

    levels: Sequence[StockLevelRead]
    next: Annotated[str, msgspec.Meta(description="An opaque cursor: keep it, and pass it as `after` next time")]
    as_of: Annotated[
        datetime,
        msgspec.Meta(
            description="Once you have read on to a page with fewer levels than `limit`, you have everything that "
            "happened before this time, except writes that were in progress at that moment"
        ),
    ]


class MovementsQuery(Body):
    """How many days."""

    limit: whole(1, MOST_DAYS, 100) = Field(default=100, description="The most days to return")  # type: ignore[valid-type]  # as above


class DayRead(msgspec.Struct):
    """The movements of one day (UTC)."""

    day: date
    received: Pieces
    allocated: Pieces
    deallocated: Pieces
    backordered: Pieces
    cancelled: Pieces


class MovementsRead(msgspec.Struct):
    """The movements of a product by day, the latest day first; days without movements are left out."""

    sku: str
    days: Sequence[DayRead]


def day_of(day: date, moved: Movements) -> DayRead:
    return DayRead(day, moved.received, moved.allocated, moved.deallocated, moved.backordered, moved.cancelled)


@routes.get(
    "/v1/stock",
    asks=StockQuery,
    gives={
        200: Given(
            "A page of stock levels",
            StockPageRead(
                [StockLevelRead("RED-CHAIR", 7, [Available(None, 90, 90), Available(date(2031, 5, 1), 100, 100)])],
                encode_cursor([LogPosition(0, 12)]),
                datetime(2031, 4, 1, 9, 30, tzinfo=UTC),
            ),
        )
    },
    refuses=[UnknownPosition(LogPosition(0, 17)), NOT_REACHED],
)
def read_stock(call: Call, query: StockQuery) -> Reply:
    """Stock levels, for keeping a copy.

    From the start: every product that has ever been bought. After a cursor: the products that have changed since, each
    once, as it is now. The levels are a moment behind the log; `as_of` says how far.
    """
    query.wait(call, call.application.views.stock_reached)
    now = call.application.clock.now()
    page = call.application.views.stock(positions_behind(call, query.after), query.limit)
    levels = [StockLevelRead(level.sku, level.version, level.available) for level in page.levels]
    return json_reply(200, StockPageRead(levels, encode_cursor(page.next), page.waiting_since or now))


@routes.get(
    "/v1/products/<sku>/movements",
    asks=MovementsQuery,
    gives={
        200: Given(
            "The movements, by day",
            MovementsRead("RED-CHAIR", [day_of(date(2031, 4, 1), Movements(100, 40, 5, 10, 5))]),
        )
    },
    refuses=[InvalidSku("RED-CHIAR")],
)
def read_movements(call: Call, query: MovementsQuery, sku: str) -> Reply:
    """The movements of a product, by day.

    Pieces received, allocated, deallocated (taken off a batch), backordered (left waiting) and cancelled. Received is
    what batches were announced with; a quantity that was corrected later is not in it, but in the history of the
    product. The figures are a moment behind the log.
    """
    moved = call.application.views.movements(sku, query.limit)
    if not moved and call.application.views.product(sku) is None:
        raise InvalidSku(sku)
    return json_reply(200, MovementsRead(sku, [day_of(day, m) for day, m in moved]))
