"""The past in the resources: the parameter `at`, and the whole shop."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Annotated, Any

import msgspec
from pydantic import BeforeValidator, Field, WithJsonSchema

from allocation.entrypoints.http.at_least import AtLeast
from allocation.entrypoints.http.call import Call, Reply, json_reply
from allocation.entrypoints.http.paging import MOST_ON_A_PAGE, whole
from allocation.entrypoints.http.parsing import Body, Id
from allocation.entrypoints.http.routes import Given, Routes
from allocation.entrypoints.moments import AT_MEANING, parse_at
from allocation.service_layer.envelope import LogPosition
from allocation.service_layer.errors import UnknownPosition
from allocation.views import PastViews, ProductView, StateViews

routes = Routes("The past")


def _at(value: object) -> Any:
    if value is not None and not isinstance(value, str):
        raise ValueError(AT_MEANING)
    return None if value is None else parse_at(value)


At = Annotated[
    Any,
    BeforeValidator(_at),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "null"}]}),
    Field(
        description="A time (2031-05-01T09:30:00Z) or a position in the log (0-17); now if absent. For a time that has "
        "only just passed, writes still in progress may be missing. A position always gives the same answer if the log "
        "has one partition; of several, the others are as they were at the time of that position"
    ),
]


class AsOf(AtLeast):
    """How recent the answer must be, or of which moment it is."""

    at: At = None


def views_at(call: Call, query: AsOf) -> StateViews:
    """The views of the present, or of the past if the query names it. Raises `UnknownPosition`, `NotReached`."""
    query.wait(call, call.application.views.reached)
    return call.application.views if query.at is None else PastViews(call.application.history, query.at)


class ShopQuery(Body):
    """Which moment, and which products."""

    at: At = None
    after: Id | None = Field(default=None, description="`next` of the previous page; from the start if absent")
    limit: whole(1, MOST_ON_A_PAGE, 100) = Field(default=100, description="The most to return")  # type: ignore[valid-type]  # a type that a function makes


class ProductOfShop(msgspec.Struct):
    """A product in brief."""

    sku: str
    version: int
    available_now: int
    available: Annotated[int, msgspec.Meta(description="Pieces not allocated to any order, on hand or on their way")]
    waiting_lines: int
    waiting_qty: int


class ShopPage(msgspec.Struct):
    """Products, in order of skus."""

    products: Sequence[ProductOfShop]
    next: Annotated[
        str | None, msgspec.Meta(description="Pass this as `after` to get the next page; null on the last page")
    ]


def product_of_shop(product: ProductView) -> ProductOfShop:
    return ProductOfShop(
        product.sku,
        product.version,
        product.available_now,
        sum(free.qty for free in product.available),
        product.waiting_lines,
        product.waiting_qty,
    )


@routes.get(
    "/v1/shop",
    asks=ShopQuery,
    gives={200: Given("A page of products", ShopPage([ProductOfShop("RED-CHAIR", 7, 90, 190, 1, 500)], "RED-CHAIR"))},
    refuses=[UnknownPosition(LogPosition(0, 17))],
)
def read_shop(call: Call, query: ShopQuery) -> Reply:
    """The whole shop, now or at any moment, product by product, folded from the log.

    To read the whole shop as of one moment, use the same `at` for each page.
    """
    views = PastViews(call.application.history, query.at)
    found = list(islice(views.shop(query.after or ""), query.limit + 1))
    page = [product_of_shop(product) for product in found[: query.limit]]
    return json_reply(200, ShopPage(page, page[-1].sku if len(found) > query.limit else None))
