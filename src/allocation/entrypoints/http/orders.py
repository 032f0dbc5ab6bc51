"""Orders: what was promised to whom."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Literal

import msgspec

from allocation.entrypoints.http.allocations import PromisedEta
from allocation.entrypoints.http.at_least import EXAMPLE as NOT_REACHED
from allocation.entrypoints.http.call import Call, Reply, json_reply
from allocation.entrypoints.http.errors import UnknownOrder
from allocation.entrypoints.http.past import AsOf, views_at
from allocation.entrypoints.http.problems import problem_reply
from allocation.entrypoints.http.routes import Given, Routes
from allocation.service_layer.envelope import LogPosition
from allocation.service_layer.errors import UnknownPosition

routes = Routes("Orders")


class OrderedLine(msgspec.Struct):
    """One line of an order."""

    sku: str
    qty: int
    status: Literal["allocated", "waiting"]
    batchref: str | None
    eta: PromisedEta


class OrderRead(msgspec.Struct):
    """An order with its lines, in order of skus."""

    orderid: str
    lines: Sequence[OrderedLine]


EXAMPLE = OrderRead(
    "order-1",
    [
        OrderedLine("RED-CHAIR", 10, "allocated", "batch-1", None),
        OrderedLine("SMALL-TABLE", 2, "allocated", "batch-7", date(2031, 5, 1)),
        OrderedLine("TASTELESS-LAMP", 1, "waiting", None, None),
    ],
)


@routes.get(
    "/v1/orders/<orderid>",
    asks=AsOf,
    gives={200: Given("The order", EXAMPLE)},
    refuses=[UnknownOrder("order-9"), UnknownPosition(LogPosition(0, 17)), NOT_REACHED],
)
def read_order(call: Call, query: AsOf, orderid: str) -> Reply:
    """An order now, or as it was: each line with its batch and day, or waiting."""
    promises = views_at(call, query).order(orderid)
    if not promises and query.at is not None:
        return problem_reply(UnknownOrder(orderid), call.correlation_id, detail=f"There was no order {orderid} then")
    if not promises:
        raise UnknownOrder(orderid)
    lines = [OrderedLine(p.sku, p.qty, p.status, p.batchref, p.eta) for p in promises]
    return json_reply(200, OrderRead(orderid, lines))
