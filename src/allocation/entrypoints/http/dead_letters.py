"""Dead letters: messages that came in and could not be handled."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated

import msgspec
from pydantic import Field

from allocation.entrypoints.http.call import Call, Reply, json_reply
from allocation.entrypoints.http.paging import whole
from allocation.entrypoints.http.parsing import Body
from allocation.entrypoints.http.routes import Given, Routes

routes = Routes("Dead letters")

MOST_ON_A_PAGE = 100  # each may be as long as a request


class DeadLettersQuery(Body):
    """Which dead letters."""

    after: Annotated[
        str | None,
        Field(pattern="^[0-9a-f]{1,64}$", description="`next` of the previous page; starts with the newest if absent"),
    ] = None
    limit: whole(1, MOST_ON_A_PAGE, 20) = Field(default=20, description="The most to return")  # type: ignore[valid-type]  # a type that a function makes


class DeadLetterRead(msgspec.Struct):
    """A message that could not be handled: when and from where it came, and the reason."""

    id: str
    time: datetime
    source: str
    reason: str
    body: Annotated[
        str,
        msgspec.Meta(
            description="The message as text, complete unless it was longer than the limit for incoming messages"
        ),
    ]


class DeadLetterList(msgspec.Struct):
    """A page, the newest first. `next` is null on the last one."""

    dead_letters: Sequence[DeadLetterRead]
    next: str | None


EXAMPLE = DeadLetterRead(
    "01a2226a1814729ab7614d45bc31a106",
    datetime(2031, 5, 1, 9, 30, tzinfo=UTC),
    "redis change_batch_quantity",
    "batchref: Field required",
    '{"qty": 5}',
)


@routes.get(
    "/v1/dead-letters",
    asks=DeadLettersQuery,
    gives={200: Given("A page of dead letters", DeadLetterList([EXAMPLE], EXAMPLE.id))},
)
def list_dead_letters(call: Call, query: DeadLettersQuery) -> Reply:
    """Messages that came in and could not be handled.

    A message from a broker, the book's Redis channel or Azure Event Grid is kept here, with the reason, if it cannot be
    handled or its command is refused. `allocation dead-letters` tries one again, or removes it.
    """
    found = call.application.dead_letters.newest(query.limit + 1, query.after)
    page = [DeadLetterRead(x.id, x.time, x.source, x.reason, x.body) for x in found[: query.limit]]
    return json_reply(200, DeadLetterList(page, page[-1].id if len(found) > len(page) else None))
