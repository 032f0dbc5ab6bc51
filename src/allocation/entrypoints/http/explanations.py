"""Explanations: why an order line is where it is."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from typing import Annotated

import msgspec
from pydantic import Field

from allocation.domain.errors import UnknownOrderLine
from allocation.entrypoints.http import events, history
from allocation.entrypoints.http.call import Call, LogToken, Reply, json_reply, log_token
from allocation.entrypoints.http.history import CommandRead, command_read
from allocation.entrypoints.http.paging import MOST_ON_A_PAGE, whole
from allocation.entrypoints.http.parsing import Body
from allocation.entrypoints.http.routes import Given, Routes
from allocation.service_layer.history.explain import Decision, explain

routes = Routes("History")


class ConsideredRead(msgspec.Struct):
    """A batch in the order of preference, as it was then, and how today's rules judge it."""

    ref: str
    eta: date | None
    available: int
    verdict: Annotated[str, msgspec.Meta(description="One of: taken, too little left, a batch before it had enough")]


class DecisionRead(msgspec.Struct):
    """An occasion on which the line was put on a batch, or left to wait (`batchref` is null)."""

    time: datetime
    position: LogToken
    version: int
    command: Annotated[
        CommandRead | None,
        msgspec.Meta(description="The command that led to the decision, perhaps one for another order"),
    ]
    qty: int
    batchref: str | None
    batchref_today: Annotated[
        str | None, msgspec.Meta(description="The batch that today's rules would have chosen with the same stock")
    ]
    ahead: Annotated[str | None, msgspec.Meta(description="An older line that today's rules would have served first")]
    note: Annotated[
        str | None, msgspec.Meta(description="`decided under earlier rules` if today's rules would decide differently")
    ]
    batches: Annotated[Sequence[ConsideredRead], msgspec.Meta(description="The batches, in order of preference")]


class ExplanationQuery(Body):
    """Which decisions."""

    after: whole(0, events.LARGEST_VERSION, 0) = Field(  # type: ignore[valid-type]  # a type that a function makes
        default=0, description="`next` of the previous page (a version of the product); from the start if absent"
    )
    limit: whole(1, MOST_ON_A_PAGE, 100) = Field(default=100, description="The most decisions to return")  # type: ignore[valid-type]  # a type that a function makes


class Explanation(msgspec.Struct):
    """Decisions about an order line, the earliest first."""

    orderid: str
    sku: str
    decisions: Sequence[DecisionRead]
    next: Annotated[
        int | None, msgspec.Meta(description="Pass this as `after` to get the next page; null on the last page")
    ]


EARLIER_RULES = "decided under earlier rules"


def decision_read(decision: Decision) -> DecisionRead:
    return DecisionRead(
        decision.logged.time,
        log_token(decision.logged.position),
        decision.logged.version,
        None if decision.command is None else command_read(decision.command),
        decision.qty,
        decision.batchref,
        decision.batchref_today,
        decision.ahead,
        None if decision.by_todays_rules else EARLIER_RULES,
        [ConsideredRead(b.ref, b.eta, b.available, b.verdict) for b in decision.batches],
    )


def explanation(orderid: str, sku: str, decisions: Sequence[Decision], limit: int) -> Explanation:
    following = decisions[-1].logged.version if len(decisions) == limit else None
    return Explanation(orderid, sku, [decision_read(decision) for decision in decisions], following)


EXAMPLE = Explanation(
    "order-1",
    "RED-CHAIR",
    [
        DecisionRead(
            history.EXAMPLE.events[0].time,
            "0-2",
            2,
            history.EXAMPLE.command,
            10,
            "batch-2",
            "batch-2",
            None,
            None,
            [
                ConsideredRead("batch-1", None, 3, "too little left"),
                ConsideredRead("batch-2", date(2031, 5, 1), 100, "taken"),
                ConsideredRead("batch-3", date(2031, 6, 1), 50, "a batch before it had enough"),
            ],
        )
    ],
    None,
)


@routes.get(
    "/v1/allocations/<orderid>/<sku>/explanation",
    asks=ExplanationQuery,
    gives={200: Given("A page of decisions about the line", EXAMPLE)},
    refuses=[UnknownOrderLine("order-9", "RED-CHAIR")],
)
def explain_allocation(call: Call, query: ExplanationQuery, orderid: str, sku: str) -> Reply:
    """Why an order line is where it is: every batch that was considered, and why it was chosen or passed over.

    Each decision is made again on the product as it was then. Nothing is stored for this.
    """
    decisions = explain(call.application.history, orderid, sku, query.after, query.limit)
    if not decisions and not query.after:
        raise UnknownOrderLine(orderid, sku)
    return json_reply(200, explanation(orderid, sku, decisions, query.limit))
