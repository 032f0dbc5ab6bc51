"""Lanes: what could not be delivered, and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated

import msgspec
from pydantic import Field

from allocation.entrypoints.http.call import Call, Reply, json_reply
from allocation.entrypoints.http.errors import UnknownLane
from allocation.entrypoints.http.parsing import Body, Words
from allocation.entrypoints.http.routes import Given, Routes
from allocation.service_layer.envelope import partition_of
from allocation.service_layer.pull_locks import HEAD
from allocation.service_layer.subscriptions import Lane

routes = Routes("Lanes")


class Discard(Body):
    """Which event to skip (the lane's `next_event`), who decides it, and why. This is kept for good."""

    event: Annotated[
        str, Field(pattern="^[0-9]{1,5}-[0-9]{1,18}$", description="The `next_event` of the lane", examples=["0-17"])
    ]
    who: Words = Field(examples=["Anna"])
    why: Words = Field(examples=["that mailbox is gone for good"])


class LaneRead(msgspec.Struct):
    """A key that lags behind a subscription. It is parked if `due_at` is null. Until `locked_until` a puller has it."""

    subscription: str
    key: str
    next_event: str
    attempts: int
    due_at: datetime | None
    reason: str
    locked_until: datetime | None = None


class LaneList(msgspec.Struct):
    """All lanes."""

    lanes: Sequence[LaneRead]


EXAMPLE = LaneRead(
    "send_out_of_stock_notification",
    "RED-CHAIR",
    "0-17",
    3,
    datetime(2031, 5, 1, 9, 30, tzinfo=UTC),
    "Rejected: The mail server refused the mail: 550 no such user",
)


@routes.get("/v1/lanes", gives={200: Given("The lanes, sorted by subscription and key", LaneList([EXAMPLE]))})
def list_lanes(call: Call) -> Reply:
    """What could not be delivered.

    If a subscription's destination refuses an event, the subscription puts the event's key in a lane, which is retried
    with growing pauses, then parked. Later events of the key wait behind that event; other keys continue.
    """
    return json_reply(200, LaneList([_read(lane) for lane in call.application.subscriptions.lanes()]))


@routes.post(
    "/v1/lanes/<subscription>/<key>/retry",
    gives={204: Given("The lane will be tried again at once")},
    refuses=[UnknownLane("send_out_of_stock_notification", "RED-CHAIR")],
)
def retry_lane(call: Call, subscription: str, key: str) -> Reply:
    """Try a lane again now, and count its attempts from zero."""
    return _say(call, subscription, key)


@routes.post(
    "/v1/lanes/<subscription>/<key>/discard",
    takes=Discard,
    gives={204: Given("The next event of the key will be skipped")},
    refuses=[UnknownLane("send_out_of_stock_notification", "RED-CHAIR")],
)
def discard_event(call: Call, said: Discard, subscription: str, key: str) -> Reply:
    """Skip the refused event, and go on with the next one of its key. This is the only way an event is ever skipped."""
    partition, _, seq = said.event.partition("-")
    if int(partition) != partition_of(key, call.application.settings.log_partitions):
        raise UnknownLane(subscription, key)  # the event belongs to another key
    store = call.application.subscriptions
    if not any(store.read_key(lane, HEAD, 1) for lane in store.lanes(subscription) if lane.key == key):
        raise UnknownLane(subscription, key)  # the event is yet to come, so nobody has seen it
    return _say(call, subscription, key, (said.who, said.why), int(seq))


def _say(call: Call, subscription: str, key: str, skip: tuple[str, str] | None = None, seq: int | None = None) -> Reply:
    if not call.application.subscriptions.set_due(subscription, key, skip, seq):
        raise UnknownLane(subscription, key)
    return Reply(204)


def _read(lane: Lane) -> LaneRead:
    next_event = f"{lane.partition}-{lane.next_seq}"
    return LaneRead(lane.subscription, lane.key, next_event, lane.attempts, lane.due_at, lane.reason, lane.locked_until)
