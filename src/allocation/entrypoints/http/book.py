"""The three routes of *Architecture Patterns with Python*, for its readers and their clients.

`/allocate` accepts a line and lets it wait if there is not enough stock, as the book's last version does. The answers
contain what those of `/v1` contain.
"""

from __future__ import annotations

import msgspec
from pydantic import ConfigDict

from allocation.domain.commands import Allocate, IfShort
from allocation.domain.errors import BatchExists, InvalidSku, OrderLineExists
from allocation.entrypoints.http.allocations import AllocationAnswer, allocation_answer
from allocation.entrypoints.http.at_least import EXAMPLE as NOT_REACHED
from allocation.entrypoints.http.at_least import AtLeast
from allocation.entrypoints.http.batches import BatchAnswer, BatchRequest, created
from allocation.entrypoints.http.call import Call, Reply, json_reply
from allocation.entrypoints.http.errors import NothingAllocated, UnknownOrder
from allocation.entrypoints.http.parsing import Body, Id, Quantity
from allocation.entrypoints.http.problems import problem_reply
from allocation.entrypoints.http.routes import Given, Routes
from allocation.views import allocations

routes = Routes("The book's routes")


class BookLine(Body):
    """The pieces of one sku that an order wants."""

    model_config = ConfigDict(json_schema_extra={"example": {"orderid": "order-1", "sku": "RED-CHAIR", "qty": 10}})

    orderid: Id
    sku: Id
    qty: Quantity


class BookAllocation(msgspec.Struct):
    """A line that is on a batch."""

    sku: str
    batchref: str


@routes.post(
    "/add_batch",
    takes_a_key=True,
    takes=BatchRequest,
    gives={
        201: Given("The batch was added", BatchAnswer("batch-1", "RED-CHAIR", 100, 100, None, 1, "0-1")),
        200: Given("The batch existed already", BatchAnswer("batch-1", "RED-CHAIR", 100, 90, None, 2, None)),
    },
    refuses=[BatchExists("batch-1")],
)
def add_batch(call: Call, batch: BatchRequest) -> Reply:
    """Add a batch."""
    return created(call.ask(batch.command()))


@routes.post(
    "/allocate",
    takes_a_key=True,
    takes=BookLine,
    gives={
        202: Given(
            "Accepted: the line is allocated, or waits for stock",
            AllocationAnswer("order-1", "RED-CHAIR", 10, "allocated", "batch-1", None, "0-2"),
        ),
    },
    refuses=[OrderLineExists("order-1", "RED-CHAIR", 10)],
)
def allocate_endpoint(call: Call, line: BookLine) -> Reply:
    """Allocate an order line, or let it wait.

    An unknown sku gets a 400 here, with the book's `message`.
    """
    try:
        answer = call.ask(Allocate(line.orderid, line.sku, line.qty, IfShort.WAIT))
        return json_reply(202, allocation_answer(answer))
    except InvalidSku as unknown:
        return problem_reply(unknown, call.correlation_id, status=400, message=str(unknown))


@routes.get(
    "/allocations/<orderid>",
    gives={
        200: Given(
            "The lines of the order that are allocated to a batch",
            [BookAllocation("RED-CHAIR", "batch-1")],
            type=list[BookAllocation],
        )
    },
    asks=AtLeast,
    refuses=[UnknownOrder("order-9"), NothingAllocated("order-2"), NOT_REACHED],
)
def allocations_view_endpoint(call: Call, query: AtLeast, orderid: str) -> Reply:
    """The batches on which the lines of an order are."""
    query.wait(call, call.application.views.reached)
    found = allocations(orderid, call.application.views)
    if not found and call.application.views.order(orderid):
        raise NothingAllocated(orderid)
    if not found:
        raise UnknownOrder(orderid)
    return json_reply(200, [BookAllocation(x["sku"], x["batchref"]) for x in found])
