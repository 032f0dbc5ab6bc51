"""Subscriptions: who reads the log, and how far each has come; and the subscriptions that users define."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import msgspec
from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StringConstraints,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

from allocation.bootstrap import Application
from allocation.entrypoints.http.call import Call, Reply, json_reply, path_to
from allocation.entrypoints.http.errors import BadHeader, Fault, Invalid
from allocation.entrypoints.http.parsing import Body
from allocation.entrypoints.http.routes import Given, Routes
from allocation.service_layer.definitions import (
    MOST_RULES,
    NAME_PATTERN,
    RULE_NAME_PATTERN,
    Address,
    AlreadyDefined,
    BadRuleIn,
    Defined,
    Definition,
    NamedRule,
    NameTaken,
    OtherDelivery,
)
from allocation.service_layer.errors import UnknownSubscription
from allocation.service_layer.pushing import BadSink
from allocation.service_layer.rules.rule import LONGEST_TEXT
from allocation.service_layer.subscriptions import Cursor

routes = Routes("Subscriptions")

LEAST_INTEGER, MOST_INTEGER = -(2**63), 2**63 - 1
NAME = re.compile(NAME_PATTERN)
NAME_MEANING = "must be 1 to 64 letters, digits, `_`, `.` and `-`, the first a letter or a digit"

SECRET = "whsec_[A-Za-z0-9+/]{32,88}={0,2}"

Text = Annotated[str, StringConstraints(min_length=1, max_length=LONGEST_TEXT)]
Integer = Annotated[StrictInt, Field(ge=LEAST_INTEGER, le=MOST_INTEGER)]


def _of_one_kind(value: object, read: ValidatorFunctionWrapHandler) -> object:
    """Otherwise each kind would have a fault of its own, and an integer that is too large would become a double."""
    try:
        found: object = read(value)
    except ValidationError:
        found = None
    if type(found) is not type(value) or found is None:
        raise ValueError(f"must be a text of 1 to {LONGEST_TEXT} characters, a boolean, a double or a 64-bit integer")
    return found


Single = Annotated[StrictBool | Integer | StrictFloat | Text, WrapValidator(_of_one_kind)]
Equal = Annotated[
    dict[Annotated[str, StringConstraints(min_length=1, max_length=128)], Single], Field(min_length=1, max_length=32)
]


class RuleRequest(Body):
    """Which events: those for which `filter` is true, or those with the properties in `correlation`, or all.
    `action` changes the copy. The SQL is that of Azure Service Bus."""

    name: Annotated[str, StringConstraints(pattern=f"^{RULE_NAME_PATTERN}$")]
    filter: Text | None = Field(
        default=None,
        description="An SQL-92 condition such as `type = 'Allocated' AND qty > 3`; write the type without "
        "`allocation.`",
    )
    correlation: Equal | None = Field(
        default=None,
        description="Properties that must be equal; cheaper than a filter. Write a system property as `sys.Subject`",
    )
    action: Text | None = Field(
        default=None, description="SET and REMOVE statements such as `SET urgent = 1; REMOVE orderid`"
    )


class SinkRequest(Body):
    """Where events are pushed."""

    url: Annotated[str, StringConstraints(pattern="^https?://[!-~]{1,2000}$")]
    secret: Annotated[str, StringConstraints(pattern=f"^{SECRET}( {SECRET})?$")] | None = Field(
        default=None,
        description="The secret to sign with, in the format of Standard Webhooks; to replace it, send both for a "
        "while, separated by a space. If absent, one is generated and shown once",
    )
    schema_: Literal["cloudevents"] = Field(default="cloudevents", alias="schema")
    handshake: bool = Field(
        default=True, description="Whether the receiver must first consent, in its answer to an OPTIONS request"
    )


def _unlike(rules: list[RuleRequest]) -> list[RuleRequest]:
    names = [rule.name for rule in rules]
    if len(set(names)) < len(names):
        raise ValueError("must have different names")
    for rule in rules:
        if rule.filter is not None and rule.correlation is not None:
            raise ValueError(f"must have a filter or a correlation, not both as {rule.name} has")
    return rules


class SubscriptionRequest(Body):
    """The definition of a subscription."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "delivery": "pull",
                "rules": [{"name": "chairs", "filter": "sku LIKE '%-CHAIR' AND type = 'Allocated'"}],
                "start": "beginning",
            }
        }
    )

    delivery: Literal["pull", "push"]
    rules: Annotated[list[RuleRequest], Field(min_length=1, max_length=MOST_RULES), AfterValidator(_unlike)] = Field(
        default_factory=lambda: [RuleRequest(name="$Default")], description="Without rules, all events match"
    )
    sink: SinkRequest | None = Field(default=None, description="Where to push: required for push, not allowed for pull")
    batch_size: Annotated[int, Field(ge=1, le=5000)] = Field(
        default=1, description="The most events in one pushed request; if it is more than 1, the body is an array"
    )
    start: Literal["beginning", "head"] = Field(
        default="head", description="Where in the log to start; used only if the subscription is new"
    )

    def definition(self, name: str) -> Definition:
        """Raises `Invalid`."""
        if not NAME.fullmatch(name):
            raise Invalid([Fault(NAME_MEANING, parameter="name")])
        if (self.delivery == "push") is (self.sink is None):
            what = "is missing: where to push" if self.sink is None else "is only for subscriptions that are pushed"
            raise Invalid([Fault(what, pointer="#/sink")])
        rules = tuple(
            NamedRule(rule.name, rule.filter, tuple((rule.correlation or {}).items()), rule.action)
            for rule in self.rules
        )
        return Definition(name, self.delivery, rules, self._address(), self.batch_size)

    def _address(self) -> Address | None:
        if self.sink is None:
            return None
        return Address(self.sink.url, self.sink.secret or "", self.sink.schema_, self.sink.handshake)


class RuleRead(msgspec.Struct, omit_defaults=True):
    """A rule, as it was written."""

    name: str
    filter: str | None = None
    correlation: Mapping[str, bool | int | float | str] | None = None
    action: str | None = None


class SinkRead(msgspec.Struct):
    """Where events are pushed; the secret is never shown."""

    url: str
    schema: str
    handshake: bool


class CursorRead(msgspec.Struct):
    """How far a subscription has come in a partition of the log, and how many events come after that."""

    partition: int
    position: str
    lag_events: int


class SubscriptionRead(msgspec.Struct):
    """A reader of the log. `stopped` says why nothing is pushed any more."""

    name: str
    delivery: Annotated[str, msgspec.Meta(description="One of: pull, push, built-in")]
    rules: Annotated[Sequence[RuleRead] | None, msgspec.Meta(description="null for a built-in subscription")]
    sink: SinkRead | None
    batch_size: int | None
    stopped: str | None
    cursors: Sequence[CursorRead]
    lanes: Annotated[int, msgspec.Meta(description="How many keys lag behind the cursors or are locked by a consumer")]


class DefinedRead(SubscriptionRead):
    """A subscription that was just defined."""

    secret: Annotated[
        str | None,
        msgspec.Meta(description="The secret that was generated for the sink. Keep it: it is not shown again"),
    ]


class SubscriptionList(msgspec.Struct):
    """All subscriptions."""

    subscriptions: Sequence[SubscriptionRead]


EXAMPLE = SubscriptionRead(
    "chairs",
    "pull",
    [RuleRead("chairs", "sku LIKE '%-CHAIR' AND type = 'Allocated'")],
    None,
    None,
    None,
    [CursorRead(0, "0-17", 3)],
    1,
)
DEFINED = DefinedRead(**{name: getattr(EXAMPLE, name) for name in EXAMPLE.__struct_fields__}, secret=None)
BUILT_IN = "project_stock_levels"


@routes.get("/v1/subscriptions", gives={200: Given("The subscriptions, sorted by name", SubscriptionList([EXAMPLE]))})
def list_subscriptions(call: Call) -> Reply:
    """Who reads the log, and how far each has come.

    The list has built-in subscriptions and those that users have defined.
    """
    return json_reply(200, SubscriptionList(told_all(call.application)))


@routes.get(
    "/v1/subscriptions/<name>",
    gives={200: Given("The subscription", EXAMPLE)},
    refuses=[UnknownSubscription("chairs")],
)
def read_subscription(call: Call, name: str) -> Reply:
    """One subscription."""
    return json_reply(200, told(call.application, name))


@routes.put(
    "/v1/subscriptions/<name>",
    takes=SubscriptionRequest,
    gives={
        201: Given("The subscription was created", DEFINED, headers=["Location"]),
        200: Given("The subscription existed; the body is its current state", DEFINED),
    },
    refuses=[
        NameTaken(BUILT_IN),
        OtherDelivery("chairs", "pull"),
        AlreadyDefined("chairs"),
        BadHeader("If-None-Match", "There is no ETag here to compare; If-None-Match can be * or absent"),
    ],
    heeds=["If-None-Match"],
)
def define_subscription(call: Call, wanted: SubscriptionRequest, name: str) -> Reply:
    """Define or redefine a subscription.

    The same definition again changes nothing. A subscription that exists keeps its place in the log even if its rules
    change, and starts again if it was stopped; it cannot change between pull and push. With
    `If-None-Match: *`, a subscription that exists stays as it is. A name has 1 to 64 letters, digits, `_`, `.` and `-`,
    the first a letter or a digit.
    """
    defined = define(call.application, name, wanted, call.only_if_new())
    location = (("Location", path_to("/v1/subscriptions", name)), ("Cache-Control", "no-store"))
    read = told_defined(call.application, defined)
    return json_reply(201, read, location) if defined.is_new else json_reply(200, read)


@routes.delete(
    "/v1/subscriptions/<name>",
    gives={204: Given("The subscription is removed, and so is its place in the log")},
    refuses=[UnknownSubscription("chairs")],
)
def remove_subscription(call: Call, name: str) -> Reply:
    """Remove a subscription, its place in the log and its lanes."""
    call.application.subscribers.remove(name)
    return Reply(204)


def define(application: Application, name: str, wanted: SubscriptionRequest, only_if_new: bool = False) -> Defined:
    """Raises `Invalid`, `NameTaken`, `OtherDelivery`, `AlreadyDefined`."""
    try:
        return application.subscribers.define(wanted.definition(name), wanted.start == "beginning", only_if_new)
    except BadRuleIn as bad:
        raise Invalid([Fault(str(bad), pointer=f"#/rules/{bad.number}/{bad.part}")]) from bad
    except BadSink as bad:
        raise Invalid([Fault(str(bad), pointer="#/sink")]) from bad


def told_defined(application: Application, defined: Defined) -> DefinedRead:
    """A definition with its place in the log, and the secret if it was just made."""
    read = told(application, defined.definition.name)
    return DefinedRead(**{name: getattr(read, name) for name in read.__struct_fields__}, secret=defined.secret)


def told(application: Application, name: str) -> SubscriptionRead:
    """One subscription. Raises `UnknownSubscription`."""
    found = next((read for read in told_all(application) if read.name == name), None)
    if found is None:
        raise UnknownSubscription(name)
    return found


def told_all(application: Application) -> list[SubscriptionRead]:
    """Every subscription, by name."""
    defined = application.subscribers.by_name()
    cursors: dict[str, list[Cursor]] = {name: [] for name in defined}
    for cursor in application.subscriptions.cursors():
        cursors.setdefault(cursor.subscription, []).append(cursor)
    lanes = [lane.subscription for lane in application.subscriptions.lanes()]
    return [_read(name, defined.get(name), found, lanes.count(name)) for name, found in sorted(cursors.items())]


def _read(name: str, definition: Definition | None, cursors: Sequence[Cursor], lanes: int) -> SubscriptionRead:
    places = [CursorRead(c.partition, f"{c.partition}-{c.seq}", c.lag_events) for c in cursors]
    if definition is None:
        return SubscriptionRead(name, "built-in", None, None, None, None, places, lanes)
    rules = [RuleRead(r.name, r.filter, dict(r.correlation) or None, r.action) for r in definition.rules]
    sink, batch_size = None, None
    if definition.sink is not None:
        sink = SinkRead(definition.sink.url, definition.sink.schema, definition.sink.handshake)
        batch_size = definition.batch_size
    return SubscriptionRead(name, definition.delivery, rules, sink, batch_size, definition.stopped, places, lanes)
