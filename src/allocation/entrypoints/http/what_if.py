"""What if: imagined commands, and the promises that they would change."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Annotated, Literal

import msgspec
from pydantic import ConfigDict, Field

from allocation.domain import commands
from allocation.domain.commands import Command
from allocation.domain.errors import MAX_QUANTITY, Refused
from allocation.entrypoints.http.allocations import AllocationRequest, PromisedEta
from allocation.entrypoints.http.batches import BatchRequest
from allocation.entrypoints.http.call import Call, Reply, json_reply
from allocation.entrypoints.http.parsing import Body, Eta, Id
from allocation.entrypoints.http.past import At
from allocation.entrypoints.http.problems import kind_of
from allocation.entrypoints.http.routes import Given, Routes
from allocation.service_layer.answers import Answer, Promise
from allocation.service_layer.envelope import LogPosition
from allocation.service_layer.errors import UnknownPosition
from allocation.service_layer.history.what_if import Changed, Difference, products_named

routes = Routes("What if")

MOST_COMMANDS = 1000
Pieces = Annotated[int, Field(ge=0, le=MAX_QUANTITY, description="Pieces that the batch really holds")]


def _example(**fields: object) -> ConfigDict:
    return ConfigDict(json_schema_extra={"example": {**fields}})  # type: ignore[dict-item]  # strings and numbers are JSON


class IfCreateBatch(BatchRequest):
    """More stock was bought."""

    model_config = _example(type="CreateBatch", ref="batch-3", sku="RED-CHAIR", qty=50, eta="2031-06-01")

    type: Literal["CreateBatch"]


class IfAllocate(AllocationRequest):
    """Somebody orders."""

    model_config = _example(type="Allocate", orderid="rush", sku="RED-CHAIR", qty=300)

    type: Literal["Allocate"]


class IfDeallocate(Body):
    """Somebody cancels."""

    type: Literal["Deallocate"]
    orderid: Id
    sku: Id

    def command(self) -> Command:
        return commands.Deallocate(self.orderid, self.sku)


class IfChangeBatchQuantity(Body):
    """A batch holds less than announced, or more."""

    type: Literal["ChangeBatchQuantity"]
    ref: Id
    qty: Pieces

    def command(self) -> Command:
        return commands.ChangeBatchQuantity(self.ref, self.qty)


class IfChangeBatchEta(Body):
    """A shipment is late or early, or has arrived (null)."""

    type: Literal["ChangeBatchEta"]
    ref: Id
    eta: Eta

    def command(self) -> Command:
        return commands.ChangeBatchEta(self.ref, self.eta)


class IfChangeBatch(Body):
    """Both the quantity and the day of a batch change."""

    type: Literal["ChangeBatch"]
    ref: Id
    qty: Pieces
    eta: Eta

    def command(self) -> Command:
        return commands.ChangeBatch(self.ref, self.qty, self.eta)


If = Annotated[
    IfCreateBatch | IfAllocate | IfDeallocate | IfChangeBatchQuantity | IfChangeBatchEta | IfChangeBatch,
    Field(discriminator="type"),
]


class WhatIfRequest(Body):
    """Commands to imagine, one after the other, now or at a moment of the past."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "commands": [
                    {"type": "ChangeBatchEta", "ref": "batch-2", "eta": "2031-05-06"},
                    {"type": "Allocate", "orderid": "rush", "sku": "RED-CHAIR", "qty": 300},
                ]
            }
        }
    )

    commands: Annotated[list[If], Field(min_length=1, max_length=MOST_COMMANDS)] = Field(
        description="The commands, each with the fields that its route takes and its `type`"
    )
    at: At = None


class Standing(msgspec.Struct):
    """Where a line stands."""

    status: Literal["allocated", "waiting"]
    batchref: str | None
    eta: PromisedEta


class ChangeRead(msgspec.Struct):
    """A promise that would differ. If `before` is null, the line would be new; if `after` is, it would be cancelled."""

    orderid: str
    sku: str
    qty: int
    change: Annotated[
        str,
        msgspec.Meta(
            description="One of: `moves`; `another day`; `another quantity`; `starts to wait`; `stops waiting`; "
            "`promised`; `new, and waits`; `cancelled`"
        ),
    ]
    before: Standing | None
    after: Standing | None


class Refusal(msgspec.Struct):
    """Why a command would be refused."""

    type: Annotated[
        str, msgspec.Meta(description="The `type` of the problem that the command's own route would return")
    ]
    title: str
    detail: str


class CommandAnswer(msgspec.Struct):
    """The outcome of one command: whether it would be refused, and whether it would change anything."""

    changed: bool
    refused: Refusal | None


class WhatIfAnswer(msgspec.Struct):
    """The difference: one answer for each command, and every promise that would differ."""

    answers: Sequence[CommandAnswer]
    changes: Sequence[ChangeRead]


def difference_read(difference: Difference) -> WhatIfAnswer:
    """Raises the error with which a command failed, unless it was a refusal."""
    answers = [_answer(answer) for _, answer in difference.answers]
    return WhatIfAnswer(answers, [_change(changed) for changed in difference.changes])


def _answer(answer: Answer) -> CommandAnswer:
    if answer.error is None:
        return CommandAnswer(answer.changed, None)
    if not isinstance(answer.error, Refused):
        raise answer.error
    kind = kind_of(answer.error)
    return CommandAnswer(False, Refusal(kind.type, kind.title, str(answer.error)))


def _change(changed: Changed) -> ChangeRead:
    told = changed.after or changed.before
    qty = told.qty if told else 0
    return ChangeRead(
        changed.orderid, changed.sku, qty, changed.kind, _standing(changed.before), _standing(changed.after)
    )


def _standing(promise: Promise | None) -> Standing | None:
    return None if promise is None else Standing(promise.status, promise.batchref, promise.eta)


EXAMPLE = WhatIfAnswer(
    [
        CommandAnswer(True, None),
        CommandAnswer(
            False, Refusal("/docs#problem-out-of-stock", "Out of stock", "No batch of RED-CHAIR has 300 left")
        ),
    ],
    [
        ChangeRead(
            "order-1",
            "RED-CHAIR",
            10,
            "another day",
            Standing("allocated", "batch-2", date(2031, 5, 1)),
            Standing("allocated", "batch-2", date(2031, 5, 6)),
        )
    ],
)


@routes.post(
    "/v1/what-if",
    takes=WhatIfRequest,
    gives={200: Given("What would be different", EXAMPLE)},
    refuses=[UnknownPosition(LogPosition(0, 17))],
)
def what_if(call: Call, asked: WhatIfRequest) -> Reply:
    """What would be different if these commands were given, now or at a moment of the past.

    The real rules decide, in memory, on copies of the products that the commands name. Nothing is committed and nobody
    is notified, so an `Idempotency-Key` has no effect here.
    """
    application = call.application
    wanted = [imagined.command() for imagined in asked.commands]
    products = products_named(application.history, wanted, application.history.cut(asked.at))
    return json_reply(200, difference_read(application.what_if.of(products, wanted)))
