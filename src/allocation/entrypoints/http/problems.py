"""What clients get when something goes wrong: one table from errors to problem details (RFC 9457)."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound
from werkzeug.http import HTTP_STATUS_CODES

from allocation.domain import errors as domain
from allocation.domain.errors import Available
from allocation.entrypoints.http import errors as edge
from allocation.entrypoints.http.call import NO_STORE, Headers, Reply, json_reply
from allocation.service_layer import definitions
from allocation.service_layer import errors as service

_log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_SECONDS = 1
FACTS = ("orderid", "sku", "ref", "qty", "available")  # attributes of refusals, under the same names in the problem
UNEXPECTED = "Something unexpected went wrong here. The details are in the log, under this correlation id"
UNAVAILABLE = "The store cannot be reached now. Nothing was done; send the same request again in a moment"
CONFLICT = "Others changed the same products at the same time. Nothing was done; send the same request again"
STOPPED = (
    "The store stopped this query before it finished: it took too long, or blocked others. Ask again in a moment, or "
    "ask for less"
)
OUTCOME_UNKNOWN = (
    "The connection to the store was lost while it committed, so this may or may not have been done. "
    "Sending the same request again is safe: it is done at most once, and the answer says which"
)


class Problem(msgspec.Struct, omit_defaults=True):
    """RFC 9457 problem details. Of the members after the first four, only those that apply are present."""

    type: str
    title: str
    status: int
    detail: str
    correlation_id: str = ""
    errors: Sequence[edge.Fault] = ()
    message: str | None = None
    header: str | None = None
    offset: int | None = None
    line: int | None = None
    column: int | None = None
    orderid: str | None = None
    sku: str | None = None
    ref: str | None = None
    qty: int | None = None
    version: int | None = None
    available: Sequence[Available] | None = None


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of problem: `slug` names it in `type`, which leads to `advice` on the documentation page."""

    status: int
    slug: str
    title: str
    advice: str

    @property
    def type(self) -> str:
        return f"/docs#problem-{self.slug}"


KINDS: dict[type[Exception], Kind] = {
    edge.Malformed: Kind(
        400,
        "malformed",
        "Malformed body",
        "Send one JSON object in UTF-8. `line` and `column`, if present, say where the error is.",
    ),
    edge.BadHeader: Kind(400, "bad-header", "Bad header", "`header` says which header is wrong, and `detail` why."),
    edge.NotLetIn: Kind(
        401,
        "not-let-in",
        "Secret missing or wrong",
        "Send the secret in the header `X-Event-Grid-Key`, or in the query as `?code=`.",
    ),
    edge.NotExpected: Kind(
        403, "not-expected", "Sender not expected", "Add the topic or the origin to `ALLOCATION_EVENT_GRID_FROM`."
    ),
    domain.InvalidSku: Kind(
        404,
        "unknown-sku",
        "Unknown sku",
        "No batch of this sku was ever bought, or none had been bought at the time given by `at`.",
    ),
    domain.UnknownBatch: Kind(404, "unknown-batch", "Unknown batch", "Create the batch with POST /v1/batches."),
    domain.UnknownOrderLine: Kind(404, "unknown-line", "Unknown order line", "The order has no line for this sku."),
    edge.UnknownOrder: Kind(
        404,
        "unknown-order",
        "Unknown order",
        "The order has no line that is allocated or waiting, or had none at the time given by `at`.",
    ),
    edge.NothingAllocated: Kind(
        404,
        "nothing-allocated",
        "Nothing allocated yet",
        "The order's lines are waiting for stock; GET /v1/orders/<orderid> lists them.",
    ),
    edge.UnknownLane: Kind(
        404,
        "unknown-lane",
        "No such lane",
        "GET /v1/lanes lists the lanes that exist, and the event at which each one stands.",
    ),
    edge.UnknownCorrelation: Kind(
        404, "unknown-correlation", "Unknown correlation id", "Use the `X-Correlation-Id` of a response."
    ),
    service.UnknownSubscription: Kind(
        404, "unknown-subscription", "No such subscription", "GET /v1/subscriptions lists the subscriptions that exist."
    ),
    NotFound: Kind(404, "no-such-path", "No such path", "This page lists all paths."),
    MethodNotAllowed: Kind(
        405, "no-such-method", "Method not allowed", "The header `Allow` lists the methods that this path accepts."
    ),
    domain.NotEnoughStock: Kind(
        409,
        "out-of-stock",
        "Out of stock",
        'No batch has enough stock. `available` says how much is free, and when. With "if_short": '
        '"wait" the line is accepted and allocated when stock arrives.',
    ),
    domain.OrderLineExists: Kind(
        409,
        "line-exists",
        "The order already has this sku",
        "`qty` is the quantity that was ordered. To change it, delete the line and allocate again.",
    ),
    domain.BatchExists: Kind(
        409,
        "batch-exists",
        "The batch already exists",
        "A batch with this reference was created with other content. Use another reference.",
    ),
    definitions.NameTaken: Kind(
        409,
        "name-taken",
        "Name taken",
        "A built-in subscription has this name. GET /v1/subscriptions lists the names in use.",
    ),
    definitions.OtherDelivery: Kind(
        409,
        "other-delivery",
        "Delivery cannot be changed",
        "A subscription cannot change between pull and push. Remove it and define it again, which "
        "loses its place in the log; or use another name.",
    ),
    definitions.AlreadyDefined: Kind(
        412,
        "already-defined",
        "The subscription already exists",
        "Read it to see its definition. To redefine it, send the request without `If-None-Match`.",
    ),
    definitions.NotPulled: Kind(
        409,
        "not-pulled",
        "Not a pull subscription",
        "Its events are pushed to its sink. To pull them, define another subscription.",
    ),
    domain.StaleVersion: Kind(
        412,
        "stale-version",
        "Changed in the meantime",
        "Read it again, and send the ETag you get, unchanged, in `If-Match`.",
    ),
    edge.TooLarge: Kind(413, "too-large", "Body too large", "Send less at once, or use `allocation import`."),
    edge.NotJson: Kind(415, "not-json", "Unsupported media type", "Send JSON in UTF-8, without a content encoding."),
    edge.Invalid: Kind(422, "invalid", "Invalid request", "`errors` lists each fault and where it is."),
    domain.InvalidQuantity: Kind(422, "invalid-quantity", "Invalid quantity", "Quantities must be whole numbers."),
    domain.InvalidReference: Kind(
        422, "invalid-id", "Invalid id", "Ids must be printable ASCII without spaces or slashes."
    ),
    service.UnknownPosition: Kind(
        422,
        "unknown-position",
        "No such position in the log",
        "Use the `position` of a response; later positions do not exist yet. A cursor that is refused "
        "comes from another log, or from this one before it was restored from a backup: start again "
        "without `after`, and discard what you read with that cursor.",
    ),
    service.IdReused: Kind(
        422,
        "key-reused",
        "Idempotency-Key used for another request",
        "A key belongs to one request on one route, permanently. Use a new key for a new request.",
    ),
    Exception: Kind(500, "unexpected", "Unexpected error", "The details are in the log, under `correlation_id`."),
    service.Unavailable: Kind(
        503,
        "unavailable",
        "Temporarily unavailable",
        "`Retry-After` says how many seconds to wait before trying again.",
    ),
    service.NotReached: Kind(
        503,
        "not-reached",
        "Not reached yet",
        "The data read here follows the log, and did not reach `at_least` in time. Try again after "
        "the seconds in `Retry-After`, or omit `at_least` to get the answer as it is now.",
    ),
    service.OutcomeUnknown: Kind(
        503, "outcome-unknown", "Outcome unknown", "Send the same request again: it is done at most once."
    ),
}


def kind_of(error: Exception) -> Kind:
    """The kind of the error's class, or of its nearest ancestor that has one."""
    return next(KINDS[t] for t in type(error).__mro__ if t in KINDS)


def problem_of(error: Exception) -> Problem:
    """The problem by which an error is reported to a client."""
    if isinstance(error, HTTPException) and type(error) not in KINDS:
        code = error.code or 500
        return Problem("about:blank", HTTP_STATUS_CODES.get(code, "Error"), code, error.description or "")
    kind = kind_of(error)
    return Problem(kind.type, kind.title, kind.status, _detail(error), **_facts(error))


def problem_told(error: Exception, correlation_id: str) -> Problem:
    """The problem by which an error is reported to the client of a request. Logs unexpected errors."""
    problem = problem_of(error)
    if problem.status == 500:
        _log.error("unexpected error", exc_info=error)
    elif problem.status == 503:
        _log.warning("%s: %s", type(error).__name__, error)
    problem.correlation_id = correlation_id
    return problem


def problem_of_question(error: Exception, correlation_id: str) -> Reply:
    """The reply to a failed request that would have changed nothing. Here a conflict means: the store stopped it."""
    changed = {"detail": STOPPED} if isinstance(error, service.Conflict) else {}
    return problem_reply(error, correlation_id, **changed)


def problem_reply(error: Exception, correlation_id: str, **changed: Any) -> Reply:
    """The reply to a request that failed; `changed` are members that differ on this route. Logs unexpected errors."""
    problem = problem_told(error, correlation_id)
    for member, value in changed.items():
        setattr(problem, member, value)
    return json_reply(problem.status, problem, _headers(error), MEDIA_TYPE)


def _detail(error: Exception) -> str:
    match error:
        case service.OutcomeUnknown():
            return OUTCOME_UNKNOWN
        case service.Conflict():
            return CONFLICT
        case (
            service.Overloaded()
            | service.NotReached()
            | service.IdReused()
            | service.UnknownPosition()
            | service.UnknownSubscription()
            | definitions.DefinitionError()
            | edge.EdgeError()
        ):
            return str(error)
        case service.Unavailable():
            return UNAVAILABLE
        case domain.StaleVersion():
            return f"{error.sku} is at version {error.actual}; If-Match asks for another"
        case domain.NotEnoughStock():
            return f"{error}; with if_short set to wait the line would be accepted, and wait for stock"
        case domain.InvalidSku():
            return f"{error}: no batch of it was ever bought. Check the spelling"
        case domain.OrderLineExists():
            return f"{error}; to change that, delete the line and allocate again"
        case domain.BatchExists():
            return f"{error}; use another reference for another batch"
        case domain.Refused():
            return str(error)
        case MethodNotAllowed():
            return f"This path accepts {', '.join(error.valid_methods or [])}"
        case NotFound():
            return "There is nothing at this path; /docs lists all paths"
        case _:
            return UNEXPECTED


def _facts(error: Exception) -> Mapping[str, Any]:
    match error:
        case edge.Malformed():
            return {"offset": error.offset, "line": error.line, "column": error.column}
        case edge.BadHeader():
            return {"header": error.header}
        case edge.Invalid():
            return {"errors": error.faults}
        case edge.UnknownOrder() | edge.NothingAllocated():
            return {"orderid": error.orderid}
        case domain.StaleVersion():
            return {"sku": error.sku, "version": error.actual}
        case domain.Refused():
            return {fact: getattr(error, fact) for fact in FACTS if hasattr(error, fact)}
        case _:
            return {}


def _headers(error: Exception) -> Headers:
    match error:
        case service.Unavailable():
            return (*NO_STORE, ("Retry-After", str(RETRY_AFTER_SECONDS)))
        case edge.NotLetIn():
            return (*NO_STORE, ("WWW-Authenticate", 'ApiKey realm="event-grid"'))
        case MethodNotAllowed():
            return (*NO_STORE, ("Allow", ", ".join(sorted(error.valid_methods or []))))
        case edge.NotJson():
            return (*NO_STORE, ("Accept", "application/json"), ("Accept-Encoding", "identity"))
        case domain.StaleVersion():
            return (*NO_STORE, ("ETag", f'"{error.actual}"'))
        case _:
            return NO_STORE
