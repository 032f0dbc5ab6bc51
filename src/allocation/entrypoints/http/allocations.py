"""Order lines, each promised from a batch or waiting for stock."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal

import msgspec
from pydantic import ConfigDict, Field

from allocation.domain.commands import Allocate, Deallocate, IfShort
from allocation.domain.errors import Available, InvalidSku, NotEnoughStock, OrderLineExists, UnknownOrderLine
from allocation.entrypoints.http.at_least import EXAMPLE as NOT_REACHED
from allocation.entrypoints.http.at_least import AtLeast
from allocation.entrypoints.http.call import NO_STORE, Call, LogToken, Reply, json_reply, log_token, path_to
from allocation.entrypoints.http.parsing import Body, Id, Quantity
from allocation.entrypoints.http.routes import Given, Routes
from allocation.service_layer.answers import Answer, Promise

routes = Routes("Allocations")

PromisedEta = Annotated[
    date | None,
    msgspec.Meta(description="The day the batch arrives; null if it is in stock already, or if there is no batch"),
]


class AllocationRequest(Body):
    """The pieces of one sku that an order wants."""

    model_config = ConfigDict(json_schema_extra={"example": {"orderid": "order-1", "sku": "RED-CHAIR", "qty": 10}})

    orderid: Id
    sku: Id
    qty: Quantity
    if_short: Literal["refuse", "wait"] = Field(default="refuse", description="What to do if no batch has enough stock")

    def command(self) -> Allocate:
        return Allocate(self.orderid, self.sku, self.qty, IfShort(self.if_short))


class AllocatedLine(msgspec.Struct):
    """Where an order line stands."""

    orderid: str
    sku: str
    qty: int
    status: Literal["allocated", "waiting"]
    batchref: str | None
    eta: PromisedEta


class AllocationAnswer(AllocatedLine):
    """Where an order line stands now, and the position in the log of the event that put it there."""

    position: LogToken


def allocation_answer(answer: Answer) -> AllocationAnswer:
    """Raises the error with which the command was refused or failed."""
    promise = answer.unwrap()
    if not isinstance(promise, Promise):
        raise TypeError(f"the result must be an order line, not {promise!r}")
    return AllocationAnswer(
        promise.orderid,
        promise.sku,
        promise.qty,
        promise.status,
        promise.batchref,
        promise.eta,
        log_token(answer.position),
    )


@routes.post(
    "/v1/allocations",
    takes_a_key=True,
    takes=AllocationRequest,
    gives={
        201: Given(
            "The line is allocated to a batch",
            AllocationAnswer("order-1", "RED-CHAIR", 10, "allocated", "batch-1", None, "0-2"),
            headers=["Location"],
        ),
        200: Given(
            "The order already had this line; the body is its current state",
            AllocationAnswer("order-1", "RED-CHAIR", 10, "allocated", "batch-1", None, None),
        ),
        202: Given(
            "Accepted: the line waits for stock",
            AllocationAnswer("order-2", "RED-CHAIR", 500, "waiting", None, None, "0-4"),
            headers=["Location"],
        ),
    },
    refuses=[
        InvalidSku("RED-CHIAR"),
        NotEnoughStock("RED-CHAIR", 500, (Available(None, 90, 90), Available(date(2031, 5, 1), 100, 100))),
        OrderLineExists("order-1", "RED-CHAIR", 10),
    ],
)
def allocate(call: Call, line: AllocationRequest) -> Reply:
    """Promise an order line.

    It gets a batch that has enough: stock on hand first, then the earliest to arrive. Sending the same line again
    changes nothing. An order has at most one line for each sku.
    """
    answer = call.ask(line.command())
    content = allocation_answer(answer)
    if not answer.changed:
        return json_reply(200, content)
    location = (*NO_STORE, ("Location", path_to("/v1/allocations", content.orderid, content.sku)))
    return json_reply(201 if content.status == "allocated" else 202, content, location)


@routes.get(
    "/v1/allocations/<orderid>/<sku>",
    gives={200: Given("The line", AllocatedLine("order-1", "RED-CHAIR", 10, "allocated", "batch-1", None))},
    asks=AtLeast,
    refuses=[UnknownOrderLine("order-9", "RED-CHAIR"), NOT_REACHED],
)
def read_allocation(call: Call, query: AtLeast, orderid: str, sku: str) -> Reply:
    """Where an order line stands."""
    query.wait(call, call.application.views.reached)
    line = call.application.views.line(orderid, sku)
    if line is None:
        raise UnknownOrderLine(orderid, sku)
    return json_reply(200, AllocatedLine(line.orderid, line.sku, line.qty, line.status, line.batchref, line.eta))


@routes.delete(
    "/v1/allocations/<orderid>/<sku>",
    takes_a_key=True,
    gives={204: Given("The line was cancelled", headers=["Log-Position"])},
    refuses=[UnknownOrderLine("order-9", "RED-CHAIR")],
)
def deallocate(call: Call, orderid: str, sku: str) -> Reply:
    """Cancel an order line.

    The pieces that it held go to the lines that wait, the oldest first. The answer has no body; the header
    `Log-Position` has its position in the log, for use as `at_least`.
    """
    answer = call.ask(Deallocate(orderid, sku))
    answer.unwrap()
    return Reply(204, headers=(*NO_STORE, ("Log-Position", str(log_token(answer.position)))))
