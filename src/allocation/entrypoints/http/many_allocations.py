"""Many order lines in one request: one transaction, and an answer for each line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec
from pydantic import ConfigDict, Field

from allocation.domain.errors import InvalidSku
from allocation.entrypoints.http.allocations import AllocationAnswer, AllocationRequest, allocation_answer
from allocation.entrypoints.http.call import Call, Reply, json_reply
from allocation.entrypoints.http.parsing import Body
from allocation.entrypoints.http.problems import Problem, problem_of, problem_told
from allocation.entrypoints.http.routes import Given, Routes
from allocation.service_layer.answers import Answer

routes = Routes("Allocations")

MOST_LINES = 1_000


class ManyLines(Body):
    """Order lines, in the order in which they are to be promised."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"lines": [{"orderid": "order-1", "sku": "RED-CHAIR", "qty": 10}]}}
    )

    lines: Annotated[list[AllocationRequest], Field(min_length=1, max_length=MOST_LINES)]


class LineAnswer(msgspec.Struct):
    """What `POST /v1/allocations` would have answered: its status, and its content or its problem."""

    status: Annotated[
        int,
        msgspec.Meta(
            description="201: allocated; 202: waiting; 200: the order already had this line; otherwise the status of "
            "the problem"
        ),
    ]
    allocation: AllocationAnswer | None = None
    problem: Problem | None = None


class ManyAnswers(msgspec.Struct):
    """An answer for each line, in the order of the lines."""

    answers: Sequence[LineAnswer]


@routes.post(
    "/v1/allocations:batch",
    takes_a_key=True,
    takes=ManyLines,
    gives={
        200: Given(
            "One answer for each line",
            ManyAnswers(
                [
                    LineAnswer(201, AllocationAnswer("order-1", "RED-CHAIR", 10, "allocated", "batch-1", None, "0-2")),
                    LineAnswer(404, problem=problem_of(InvalidSku("RED-CHIAR"))),
                ]
            ),
        )
    },
)
def allocate_many(call: Call, body: ManyLines) -> Reply:
    """Promise up to 1,000 order lines.

    They share one transaction, and a refused line does not affect the others. With an `Idempotency-Key` each line is
    done at most once, so send the same lines again with the same key if the answer was lost.
    """
    answers = call.ask_many([line.command() for line in body.lines])
    return json_reply(200, ManyAnswers([_told(answer, call.correlation_id) for answer in answers]))


def _told(answer: Answer, correlation_id: str) -> LineAnswer:
    if answer.error is not None:
        problem = problem_told(answer.error, correlation_id)
        return LineAnswer(problem.status, problem=problem)
    content = allocation_answer(answer)
    return LineAnswer(200 if not answer.changed else 201 if content.status == "allocated" else 202, content)
