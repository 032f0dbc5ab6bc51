"""Pull: receive events from a subscription, and report what became of them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import msgspec
from pydantic import ConfigDict, Field, StringConstraints

from allocation.adapters import cloudevents
from allocation.entrypoints.http.call import Call, Reply, json_reply
from allocation.entrypoints.http.events import EXAMPLE as EVENTS
from allocation.entrypoints.http.events import CloudEvent
from allocation.entrypoints.http.parsing import Body, Id, Words
from allocation.entrypoints.http.routes import Given, Routes
from allocation.service_layer.broker import Message
from allocation.service_layer.definitions import NotPulled
from allocation.service_layer.errors import UnknownSubscription
from allocation.service_layer.pull_locks import Asked, Held
from allocation.service_layer.pulling import Outcome

routes = Routes("Pull")

MOST_EVENTS = 100
LONGEST_WAIT_SECONDS, LONGEST_LOCK_SECONDS, LONGEST_DELAY_SECONDS = 20, 300, 3600

LockSeconds = Annotated[int, Field(ge=1, le=LONGEST_LOCK_SECONDS)]
Token = Annotated[str, StringConstraints(min_length=1, max_length=100)]
Tokens = Annotated[
    list[Token],
    Field(min_length=1, max_length=MOST_EVENTS, description="The lock tokens, exactly as they were received"),
]


class ReceiveRequest(Body):
    """How much to receive, and for how long to lock it."""

    model_config = ConfigDict(json_schema_extra={"example": {"most": 10, "wait_seconds": 20}})

    most: Annotated[int, Field(ge=1, le=MOST_EVENTS)] = Field(default=10, description="The most events to receive")
    per_key: Annotated[int, Field(ge=1, le=MOST_EVENTS)] = Field(
        default=1, description="The most events of one sku under one lock"
    )
    wait_seconds: Annotated[int, Field(ge=0, le=LONGEST_WAIT_SECONDS)] = Field(
        default=0,
        description="How long to wait for an event if there is none; the answer comes at once if too many "
        "requests wait already",
    )
    lock_seconds: LockSeconds = Field(default=60, description="How long no other consumer gets events of these skus")
    key: Id | None = Field(default=None, description="Only events of this sku")


class TokensRequest(Body):
    """The events meant, by their lock tokens."""

    lock_tokens: Tokens


class ReleaseRequest(TokensRequest):
    """Which events are to come again, and when."""

    delay_seconds: Annotated[int, Field(ge=0, le=LONGEST_DELAY_SECONDS)] = Field(
        default=0, description="How long until the events can be received again"
    )


class RejectRequest(TokensRequest):
    """Which events cannot be handled, and why."""

    reason: Words = Field(examples=["there is no such order here"])


class RenewRequest(TokensRequest):
    """Which events take longer."""

    lock_seconds: LockSeconds = Field(default=60, description="How long to lock them, counted from now")


class PulledEvent(CloudEvent, omit_defaults=True):
    """An event as in the feed. In a copy that a rule's action has changed, `data` is changed, and `id` ends in the
    rule's name."""

    data: Any
    rulename: Annotated[str | None, msgspec.Meta(description="The rule that made this copy")] = None


class DeliveryRead(msgspec.Struct):
    """A locked sku: its next event or events, including copies by rules. One token settles all of them together."""

    lock_token: str
    key: Annotated[str, msgspec.Meta(description="The sku")]
    delivery_count: Annotated[
        int, msgspec.Meta(description="1 for the first delivery; after 10 deliveries the sku is parked")
    ]
    locked_until: datetime
    events: Sequence[PulledEvent]


class DeliveryList(msgspec.Struct):
    """What is locked by this call; possibly nothing."""

    deliveries: Sequence[DeliveryRead]
    has_seen_all: Annotated[
        bool,
        msgspec.Meta(
            description="Whether nothing more can be received for now, apart from what is locked. If false, ask again "
            "at once, even if nothing was received: the search continues where it stopped"
        ),
    ]


class OutcomeRead(msgspec.Struct, omit_defaults=True):
    """What became of a token. `lock_lost`: the lock ran out, or the token was used before; nothing was done, and the
    events come again unless they were acknowledged."""

    lock_token: str
    outcome: Literal["done", "lock_lost"]
    locked_until: datetime | None = None


class OutcomeList(msgspec.Struct):
    """One outcome for each token, in order."""

    outcomes: Sequence[OutcomeRead]


TOKEN = "0-2-019f3c2b5d0a7c3e8f1b2a4d6c8e0f12"
UNTIL = datetime(2031, 4, 1, 9, 31, tzinfo=UTC)
REFUSES = [UnknownSubscription("chairs"), NotPulled("shop-webhook")]


def _pulled(message: Message) -> PulledEvent:
    return PulledEvent(**cloudevents.cloud_event(message))  # type: ignore[arg-type]  # a dict of all its fields


_EVENT = EVENTS.events[0]
RECEIVED = DeliveryList(
    [
        DeliveryRead(
            TOKEN,
            "RED-CHAIR",
            1,
            UNTIL,
            [PulledEvent(**{name: getattr(_EVENT, name) for name in _EVENT.__struct_fields__})],
        )
    ],
    has_seen_all=True,
)
DONE = OutcomeList([OutcomeRead(TOKEN, "done"), OutcomeRead(TOKEN.replace("f", "e"), "lock_lost")])
TOLD = Given("The outcome for each token", DONE)


@routes.post(
    "/v1/subscriptions/<name>:receive",
    takes=ReceiveRequest,
    gives={200: Given("What is locked by this call, possibly nothing", RECEIVED)},
    refuses=REFUSES,
)
def receive(call: Call, asked: ReceiveRequest, name: str) -> Reply:
    """Receive events, and lock their skus.

    While a sku is locked, nobody else gets its events, nor later ones of the same sku; other skus continue. When a lock
    runs out, its events are given back. Several consumers may receive from one subscription. If many events do not
    match the rules, the search is done in steps: `has_seen_all` says whether to ask again at once.
    """
    wanted = Asked(asked.most, asked.per_key, asked.lock_seconds, asked.key, asked.wait_seconds)
    received = call.application.pulling.receive(name, wanted)
    return json_reply(200, DeliveryList([delivery_read(one) for one in received.held], received.has_seen_all))


@routes.post("/v1/subscriptions/<name>:acknowledge", takes=TokensRequest, gives={200: TOLD}, refuses=REFUSES)
def acknowledge(call: Call, told: TokensRequest, name: str) -> Reply:
    """Acknowledge events as done.

    They do not come again, and later events of their skus can be received.
    """
    return _outcomes(call.application.pulling.acknowledge(name, told.lock_tokens))


@routes.post("/v1/subscriptions/<name>:release", takes=ReleaseRequest, gives={200: TOLD}, refuses=REFUSES)
def release(call: Call, told: ReleaseRequest, name: str) -> Reply:
    """Give events back.

    They come again, after a delay if one is given. Events that have been delivered 10 times are parked, with the reason
    `MaxDeliveryCountExceeded`; `GET /v1/lanes` shows them.
    """
    return _outcomes(call.application.pulling.release(name, told.lock_tokens, told.delay_seconds))


@routes.post("/v1/subscriptions/<name>:reject", takes=RejectRequest, gives={200: TOLD}, refuses=REFUSES)
def reject(call: Call, told: RejectRequest, name: str) -> Reply:
    """Park events that cannot be handled.

    The sku waits, with the reason, at the first of the token's events, until somebody retries it or discards that
    event: `GET /v1/lanes` shows it. No later event of the sku overtakes it.
    """
    return _outcomes(call.application.pulling.reject(name, told.lock_tokens, told.reason))


@routes.post("/v1/subscriptions/<name>:renew", takes=RenewRequest, gives={200: TOLD}, refuses=REFUSES)
def renew(call: Call, told: RenewRequest, name: str) -> Reply:
    """Lock events for longer."""
    return _outcomes(call.application.pulling.renew(name, told.lock_tokens, told.lock_seconds))


def delivery_read(held: Held) -> DeliveryRead:
    """What a consumer has locked, as the API returns it."""
    events = [_pulled(message) for message in held.messages]
    return DeliveryRead(held.token, held.key, held.delivery_count, held.locked_until, events)


def _outcomes(outcomes: Sequence[Outcome]) -> Reply:
    told = [OutcomeRead(o.token, "lock_lost" if o.is_lost else "done", o.locked_until) for o in outcomes]
    return json_reply(200, OutcomeList(told))
