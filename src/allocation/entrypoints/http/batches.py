"""Batches: stock that was bought together, on hand or on its way."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any, Self

import msgspec
from pydantic import ConfigDict, Field, model_validator

from allocation.domain.commands import ChangeBatch, ChangeBatchEta, ChangeBatchQuantity, CreateBatch
from allocation.domain.errors import MAX_QUANTITY, BatchExists, StaleVersion, UnknownBatch
from allocation.entrypoints.http.at_least import EXAMPLE as NOT_REACHED
from allocation.entrypoints.http.at_least import AtLeast
from allocation.entrypoints.http.call import NO_STORE, Call, Headers, LogToken, Reply, json_reply, log_token, path_to
from allocation.entrypoints.http.parsing import Body, Eta, Id, Quantity
from allocation.entrypoints.http.routes import Given, Routes
from allocation.service_layer.answers import Answer, BatchState

routes = Routes("Batches")

Version = Annotated[int, msgspec.Meta(description="The version of the product, which is also the ETag")]
ArrivalEta = Annotated[
    date | None, msgspec.Meta(description="The day the batch arrives; null if it is in stock already")
]


class BatchRequest(Body):
    """Stock that was bought: on hand (`eta` null) or arriving on a day."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"ref": "batch-1", "sku": "RED-CHAIR", "qty": 100, "eta": None}}
    )

    ref: Id
    sku: Id
    qty: Quantity
    eta: Eta

    def command(self) -> CreateBatch:
        return CreateBatch(self.ref, self.sku, self.qty, self.eta)


def _optional(schema: dict[str, Any]) -> None:
    """Leaves out the default: it stands for an absent field, and is no value that a client may send."""
    del schema["default"]


class BatchChange(Body):
    """What has changed: the quantity, the day of arrival (null: the batch has arrived), or both."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1, "example": {"qty": 80, "eta": "2031-05-01"}})

    qty: int = Field(
        default=-1, ge=0, le=MAX_QUANTITY, description="Pieces that the batch really holds", json_schema_extra=_optional
    )
    eta: Eta = Field(default=None, json_schema_extra=_optional)

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not self.model_fields_set:
            raise ValueError("must have qty, eta or both")
        return self

    def command(self, ref: str, if_version: int | None) -> ChangeBatch | ChangeBatchQuantity | ChangeBatchEta:
        if self.model_fields_set == {"qty"}:
            return ChangeBatchQuantity(ref, self.qty, if_version)
        if self.model_fields_set == {"eta"}:
            return ChangeBatchEta(ref, self.eta, if_version)
        return ChangeBatch(ref, self.qty, self.eta, if_version)


class BatchRead(msgspec.Struct):
    """A batch: `qty` pieces were bought, of which `available` are not promised to any order."""

    ref: str
    sku: str
    qty: int
    available: int
    eta: ArrivalEta
    version: Version


class BatchAnswer(BatchRead):
    """A batch as it is now, and the position of the change in the log."""

    position: LogToken


def batch_answer(answer: Answer) -> BatchAnswer:
    """Raises the error with which the command was refused or failed."""
    batch = answer.unwrap()
    if not isinstance(batch, BatchState):
        raise TypeError(f"the result must be a batch, not {batch!r}")
    return BatchAnswer(
        batch.ref, batch.sku, batch.qty, batch.available, batch.eta, batch.version, log_token(answer.position)
    )


def created(answer: Answer) -> Reply:
    """201 for a new batch, 200 for one that existed already."""
    content = batch_answer(answer)
    if not answer.changed:
        return json_reply(200, content, _etag(content.version))
    location = ("Location", path_to("/v1/batches", content.ref))
    return json_reply(201, content, (*_etag(content.version), location))


def _etag(version: int) -> Headers:
    return (*NO_STORE, ("ETag", f'"{version}"'))


@routes.post(
    "/v1/batches",
    takes_a_key=True,
    takes=BatchRequest,
    gives={
        201: Given(
            "The batch was added",
            BatchAnswer("batch-1", "RED-CHAIR", 100, 100, None, 1, "0-1"),
            headers=["Location", "ETag"],
        ),
        200: Given(
            "The same batch was created before; the body is its current state",
            BatchAnswer("batch-1", "RED-CHAIR", 100, 90, None, 2, None),
            headers=["ETag"],
        ),
    },
    refuses=[BatchExists("batch-1")],
)
def create_batch(call: Call, batch: BatchRequest) -> Reply:
    """Add a batch.

    Order lines that wait for this sku are allocated at once, the oldest first.
    """
    return created(call.ask(batch.command()))


@routes.get(
    "/v1/batches/<ref>",
    gives={
        200: Given("The batch", BatchRead("batch-1", "RED-CHAIR", 100, 90, None, 2), headers=["ETag"]),
        304: Given("Not changed: the ETag is still the one in `If-None-Match`", headers=["ETag"]),
    },
    asks=AtLeast,
    refuses=[UnknownBatch("batch-9"), NOT_REACHED],
    heeds=["If-None-Match"],
)
def read_batch(call: Call, query: AtLeast, ref: str) -> Reply:
    """A batch, and how much of it is free."""
    query.wait(call, call.application.views.log_reached)
    batch = call.application.views.batch(ref)
    if batch is None:
        raise UnknownBatch(ref)
    content = BatchRead(batch.ref, batch.sku, batch.qty, batch.available, batch.eta, batch.version)
    return call.versioned(batch.version, content)


@routes.patch(
    "/v1/batches/<ref>",
    takes_a_key=True,
    takes=BatchChange,
    gives={
        200: Given(
            "The batch as it is now",
            BatchAnswer("batch-1", "RED-CHAIR", 80, 70, date(2031, 5, 1), 4, "0-5"),
            headers=["ETag"],
        )
    },
    refuses=[UnknownBatch("batch-9"), StaleVersion("RED-CHAIR", 2, 3)],
    heeds=["If-Match"],
)
def change_batch(call: Call, change: BatchChange, ref: str) -> Reply:
    """Correct a batch.

    If it holds less than was promised, the newest lines give way: they move to another batch, or wait. A new day of
    arrival leaves all lines where they are.
    """
    content = batch_answer(call.ask(change.command(ref, call.if_version())))
    return json_reply(200, content, _etag(content.version))
