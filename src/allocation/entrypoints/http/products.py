"""Products: what there is of a sku, when, and which order lines wait for it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Annotated

import msgspec

from allocation.domain.errors import Available, InvalidSku
from allocation.entrypoints.http.at_least import EXAMPLE as NOT_REACHED
from allocation.entrypoints.http.batches import ArrivalEta, Version
from allocation.entrypoints.http.call import Call, Reply
from allocation.entrypoints.http.past import AsOf, views_at
from allocation.entrypoints.http.problems import problem_reply
from allocation.entrypoints.http.routes import Given, Routes
from allocation.service_layer.envelope import LogPosition
from allocation.service_layer.errors import UnknownPosition
from allocation.views import ProductView

routes = Routes("Products")


class BatchOnProduct(msgspec.Struct):
    """A batch of this product."""

    ref: str
    qty: int
    available: int
    eta: ArrivalEta


class WaitingLine(msgspec.Struct):
    """An order line that waits for stock."""

    orderid: str
    qty: int


class ProductRead(msgspec.Struct):
    """A product at one version."""

    sku: str
    version: Version
    available_now: Annotated[int, msgspec.Meta(description="Pieces on hand that are not allocated to any order")]
    available: Annotated[
        Sequence[Available], msgspec.Meta(description="Free pieces by day of arrival, stock on hand first")
    ]
    batches: Annotated[Sequence[BatchOnProduct], msgspec.Meta(description="The batches, in order of preference")]
    waiting: Annotated[
        Sequence[WaitingLine], msgspec.Meta(description="The lines that have waited longest, at most 100")
    ]
    waiting_lines: Annotated[int, msgspec.Meta(description="How many lines wait")]
    waiting_qty: Annotated[int, msgspec.Meta(description="How many pieces the waiting lines need in total")]


EXAMPLE = ProductRead(
    "RED-CHAIR",
    7,
    90,
    [Available(None, 90, 90), Available(date(2031, 5, 1), 100, 100)],
    [BatchOnProduct("batch-1", 100, 90, None), BatchOnProduct("batch-2", 100, 100, date(2031, 5, 1))],
    [WaitingLine("order-2", 500)],
    1,
    500,
)


@routes.get(
    "/v1/products/<sku>",
    asks=AsOf,
    gives={
        200: Given("The product", EXAMPLE, headers=["ETag"]),
        304: Given("Not changed: the ETag is still the one in `If-None-Match`", headers=["ETag"]),
    },
    refuses=[InvalidSku("RED-CHIAR"), UnknownPosition(LogPosition(0, 17)), NOT_REACHED],
    heeds=["If-None-Match"],
)
def read_product(call: Call, query: AsOf, sku: str) -> Reply:
    """What there is, or was, of a product, when, and which order lines wait."""
    product = views_at(call, query).product(sku)
    if product is None and query.at is not None:
        return problem_reply(InvalidSku(sku), call.correlation_id, detail=f"No batch of {sku} was bought by then")
    if product is None:
        raise InvalidSku(sku)
    return call.versioned(product.version, _content(product))


def _content(product: ProductView) -> ProductRead:
    return ProductRead(
        product.sku,
        product.version,
        product.available_now,
        product.available,
        [BatchOnProduct(b.ref, b.qty, b.available, b.eta) for b in product.batches],
        [WaitingLine(p.orderid, p.qty) for p in product.waiting],
        product.waiting_lines,
        product.waiting_qty,
    )
