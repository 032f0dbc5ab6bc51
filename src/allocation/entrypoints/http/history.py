"""History: who asked what, what happened, and when."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
from pydantic import Field

from allocation.domain.errors import InvalidSku, UnknownBatch
from allocation.entrypoints.http import events
from allocation.entrypoints.http.call import Call, LogToken, Reply, json_reply, log_token
from allocation.entrypoints.http.cursors import encode_cursor
from allocation.entrypoints.http.errors import UnknownOrder
from allocation.entrypoints.http.events import CloudEvent, cloud_event
from allocation.entrypoints.http.paging import MOST_ON_A_PAGE, After, positions_behind, whole
from allocation.entrypoints.http.parsing import Body
from allocation.entrypoints.http.routes import Given, Routes
from allocation.service_layer.envelope import LogPosition
from allocation.service_layer.errors import UnknownPosition
from allocation.service_layer.history.steps import (
    OrderPage,
    Step,
    history_of_batch,
    history_of_order,
    history_of_product,
)
from allocation.service_layer.unit_of_work import Handled

routes = Routes("History")


class HistoryQuery(Body):
    """Which events."""

    after: whole(0, events.LARGEST_VERSION, 0) = Field(  # type: ignore[valid-type]  # a type that a function makes
        default=0, description="`next` of the previous page (a version of the product); from the start if absent"
    )
    limit: whole(1, MOST_ON_A_PAGE, 100) = Field(default=100, description="The most events to return")  # type: ignore[valid-type]  # a type that a function makes


class CommandRead(msgspec.Struct):
    """A command as it came in, and its outcome."""

    type: str
    id: str
    source: Annotated[str, msgspec.Meta(description="How the command came in: a route, `import` or a queue")]
    client: str
    time: datetime
    correlation_id: str
    causation_id: str | None
    body: Annotated[Any, msgspec.Meta(description="The fields of the command")]
    position: LogToken
    refused: Annotated[str | None, msgspec.Meta(description="Why the command was refused; null if it was not")]


class StepRead(msgspec.Struct):
    """A command (null if the command log has lost it), and what happened because of it."""

    command: CommandRead | None
    events: Sequence[CloudEvent]


class HistoryPage(msgspec.Struct):
    """What happened, in order."""

    steps: Sequence[StepRead]
    next: Annotated[
        int | None, msgspec.Meta(description="Pass this as `after` to get the next page; null on the last page")
    ]


class OrderHistoryQuery(Body):
    """Which events."""

    after: After = None
    limit: whole(1, MOST_ON_A_PAGE, 100) = Field(default=100, description="The most events to return")  # type: ignore[valid-type]  # as above


class OrderHistory(msgspec.Struct):
    """What happened to an order, in order of time."""

    steps: Sequence[StepRead]
    next: Annotated[
        str | None, msgspec.Meta(description="Pass this as `after` to get the next page; null on the last page")
    ]


def command_read(done: Handled) -> CommandRead:
    envelope = done.envelope
    return CommandRead(
        type(envelope.command).__name__,
        envelope.id,
        envelope.source,
        envelope.client,
        envelope.time,
        envelope.correlation_id,
        envelope.causation_id,
        envelope.command,
        log_token(done.position),
        None if done.error is None else str(done.error),
    )


def step_read(step: Step) -> StepRead:
    command = None if step.command is None else command_read(step.command)
    return StepRead(command, [cloud_event(logged) for logged in step.events])


EXAMPLE = StepRead(
    CommandRead(
        "Allocate",
        "019f3c2b5d0971d2a3b4c5d6e7f80912",
        "POST /v1/allocations",
        "",
        datetime(2031, 4, 1, 9, 30, tzinfo=UTC),
        "019f3c2b5d0971d2a3b4c5d6e7f80912",
        None,
        {"orderid": "order-1", "sku": "RED-CHAIR", "qty": 10, "if_short": "refuse"},
        "0-2",
        None,
    ),
    events.EXAMPLE.events,
)


def history_page(steps: Sequence[Step], limit: int) -> HistoryPage:
    found = [logged for step in steps for logged in step.events]
    return HistoryPage([step_read(step) for step in steps], found[-1].version if len(found) == limit else None)


def order_history(page: OrderPage) -> OrderHistory:
    following = None if page.next is None else encode_cursor(page.next)
    return OrderHistory([step_read(step) for step in page.steps], following)


@routes.get(
    "/v1/products/<sku>/history",
    asks=HistoryQuery,
    gives={200: Given("A page of the history", HistoryPage([EXAMPLE], None))},
    refuses=[InvalidSku("RED-CHIAR")],
)
def read_product_history(call: Call, query: HistoryQuery, sku: str) -> Reply:
    """All that happened to a product: who asked what, and what happened because of it."""
    steps = history_of_product(call.application.history, sku, query.after, query.limit)
    if not steps and not query.after:
        raise InvalidSku(sku)
    return json_reply(200, history_page(steps, query.limit))


@routes.get(
    "/v1/batches/<ref>/history",
    asks=HistoryQuery,
    gives={200: Given("A page of the history", HistoryPage([EXAMPLE], None))},
    refuses=[UnknownBatch("batch-9")],
)
def read_batch_history(call: Call, query: HistoryQuery, ref: str) -> Reply:
    """All that happened to a batch, including the lines that were put on it or taken off it."""
    steps = history_of_batch(call.application.history, ref, query.after, query.limit)
    if not steps and not query.after:
        raise UnknownBatch(ref)
    return json_reply(200, history_page(steps, query.limit))


@routes.get(
    "/v1/orders/<orderid>/history",
    asks=OrderHistoryQuery,
    gives={200: Given("A page of the history", OrderHistory([EXAMPLE], None))},
    refuses=[UnknownOrder("order-9"), UnknownPosition(LogPosition(0, 17))],
)
def read_order_history(call: Call, query: OrderHistoryQuery, orderid: str) -> Reply:
    """All that happened to the lines of an order, including cancelled ones."""
    page = history_of_order(call.application.history, orderid, positions_behind(call, query.after), query.limit)
    if not page.steps and query.after is None:
        raise UnknownOrder(orderid)
    return json_reply(200, order_history(page))
