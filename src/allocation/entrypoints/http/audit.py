"""The self-audit: whether the tables agree with the log, as last found."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated

import msgspec

from allocation.entrypoints.http.call import Call, Reply, json_reply
from allocation.entrypoints.http.routes import Given, Routes
from allocation.service_layer.comparing import MOST_CHARACTERS
from allocation.service_layer.self_audit import MOST_KEPT, Round

routes = Routes("Audit")


class DifferenceRead(msgspec.Struct):
    """A row that differs from what it must be, and its table."""

    table: str
    place: str
    problem: Annotated[str, msgspec.Meta(description=f"What differs, cut off after {MOST_CHARACTERS:,} characters")]


class RoundRead(msgspec.Struct):
    """One walk over the log and the tables. `ended_at` is null while it is under way."""

    began_at: datetime
    ended_at: datetime | None
    events: int
    products: int
    commands: int
    differences: int
    first: Annotated[Sequence[DifferenceRead], msgspec.Meta(description=f"The first {MOST_KEPT} differences")]


class AuditRead(msgspec.Struct):
    """The last round that was completed, and the one under way; null if there has been none yet."""

    last: RoundRead | None
    current: RoundRead | None


_BEGAN, _ENDED = datetime(2031, 5, 1, 9, 30, tzinfo=UTC), datetime(2031, 5, 1, 9, 42, tzinfo=UTC)
_FIRST = [DifferenceRead("batches", "batch-1", "it says that 10 are allocated, but its lines have 11")]
EXAMPLE = AuditRead(RoundRead(_BEGAN, _ENDED, 1700, 25, 1500, 1, _FIRST), None)


@routes.get("/v1/audit", gives={200: Given("What was found", EXAMPLE)})
def read_audit(call: Call) -> Reply:
    """What the self-audit found last.

    Besides its other work, the service continually goes through the log and the tables, a few products at a time, and
    checks that the tables are what the log folds to. `allocation verify` checks everything at once, and
    `allocation rebuild` repairs the tables.
    """
    audit = call.application.audits.read()
    return json_reply(200, AuditRead(_read(audit.last), _read(audit.current)))


def _read(told: Round | None) -> RoundRead | None:
    if told is None:
        return None
    first = [DifferenceRead(x.table, x.place, x.problem) for x in told.first]
    return RoundRead(told.began_at, told.ended_at, told.events, told.products, told.commands, told.differences, first)
