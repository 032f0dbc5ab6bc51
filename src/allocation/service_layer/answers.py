"""What a command's caller gets back."""

from __future__ import annotations

from datetime import date
from typing import Literal, NamedTuple

from allocation.domain.errors import Refused
from allocation.domain.model import Batch, Product
from allocation.domain.values import value
from allocation.service_layer.envelope import LogPosition


@value
class Promise:
    """Where an order line stands: on a batch, with that batch's ETA (None: on hand), or waiting (`batchref` None)."""

    orderid: str
    sku: str
    qty: int
    status: Literal["allocated", "waiting"]
    batchref: str | None
    eta: date | None


@value
class BatchState:
    """A batch as it is now; `version` is that of its product."""

    ref: str
    sku: str
    qty: int
    available: int
    eta: date | None
    version: int


Result = Promise | BatchState | None


class Answer(NamedTuple):
    """The outcome of one command: a result, or an error.

    `changed` says whether anything was recorded; if so, `position` is the log position of the last event it led to.
    `repeated` marks an answer that was given before and is given again.
    """

    result: Result = None
    error: Exception | None = None
    changed: bool = False
    position: LogPosition | None = None
    repeated: bool = False

    def unwrap(self) -> Result:
        """The result. Raises the refusal or failure if there is one."""
        if isinstance(self.error, Refused):
            raise self.error.with_traceback(None)  # it may be given, and raised, many times
        if self.error is not None:
            raise self.error
        return self.result


def promise_of(product: Product, orderid: str) -> Promise:
    """The present state of an order line, which must exist."""
    line = product.lines[orderid]
    batch = product.batches.get(line.batchref) if line.batchref is not None else None
    if batch is None:
        return Promise(orderid, line.sku, line.qty, "waiting", None, None)
    return Promise(orderid, line.sku, line.qty, "allocated", batch.reference, batch.eta)


def state_of(product: Product, batch: Batch) -> BatchState:
    return BatchState(
        batch.reference,
        batch.sku,
        batch.purchased_quantity,
        batch.available_quantity,
        batch.eta,
        product.version_number,
    )
