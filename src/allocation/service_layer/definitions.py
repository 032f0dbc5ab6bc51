"""Subscriptions that users define, besides the built-in ones: which events, changed how, pulled or pushed.

DefinitionError
├── NameTaken       a built-in subscription has this name
├── AlreadyDefined  it exists, and was to be new
├── OtherDelivery   it is pulled and would become pushed, or the other way round
├── NotPulled       it exists, but cannot be pulled from
└── BadRuleIn       one of its rules cannot be used; says which, and which part of it
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from base64 import b64encode
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from allocation.service_layer.errors import ServiceError, UnknownSubscription
from allocation.service_layer.rules.rule import EVERYTHING, Filter, Rule, RuleParser, correlation_filter, scoped
from allocation.service_layer.rules.values import BadRule

NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}"
RULE_NAME_PATTERN = r"[A-Za-z0-9$][A-Za-z0-9$_.-]{0,49}"
"""Those names that Service Bus allows and that can be part of the id of a CloudEvent."""

MOST_RULES = 100
SECRET_BYTES = 32

Plain = bool | int | float | str
Delivery = Literal["pull", "push"]


class DefinitionError(ServiceError):
    """Base class of the reasons for which definitions are refused."""


class NameTaken(DefinitionError):
    def __init__(self, name: str) -> None:
        super().__init__(f"{name} is a subscription of the service itself; choose another name")


class AlreadyDefined(DefinitionError):
    def __init__(self, name: str) -> None:
        super().__init__(f"{name} exists already, and was not changed")


class OtherDelivery(DefinitionError):
    def __init__(self, name: str, delivery: str) -> None:
        super().__init__(f"{name} exists already, for {delivery}; remove it first, or choose another name")


class NotPulled(DefinitionError):
    def __init__(self, name: str) -> None:
        super().__init__(f"{name} is pushed, and cannot be pulled from")


class BadRuleIn(DefinitionError):
    """`number` counts the rules from 0; `part` is filter, correlation, action or name."""

    def __init__(self, number: int, part: str, bad: BadRule) -> None:
        super().__init__(str(bad))
        self.number, self.part, self.bad = number, part, bad


@dataclass(frozen=True, slots=True)
class NamedRule:
    """A rule as it was written: a filter's text, or the properties that a correlation filter requires to be equal
    (`sys.NAME` for a system property), or neither: all events. And the text of an action, if copies are to be changed.

    Two are equal if they say the same; values of different kinds differ, as 10 and 10.0 do, or 1 and true."""

    name: str = "$Default"
    filter: str | None = None
    correlation: tuple[tuple[str, Plain], ...] = ()
    action: str | None = None

    def __eq__(self, other: object) -> bool:
        return self._said() == other._said() if isinstance(other, NamedRule) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._said())

    def _said(self) -> tuple[object, ...]:
        equal = tuple((name, type(value), value) for name, value in self.correlation)  # in Python, 10 == 10.0
        return self.name, self.filter, equal, self.action


@dataclass(frozen=True, slots=True)
class Address:
    """Where events are pushed. `secret`: what they are signed with, in the form of Standard Webhooks (`whsec_` and
    Base64). `handshake`: whether the receiver has to consent before the first event (as CloudEvents' webhooks do)."""

    url: str
    secret: str = field(default="", repr=False)
    schema: Literal["cloudevents"] = "cloudevents"
    handshake: bool = True


@dataclass(frozen=True, slots=True)
class Definition:
    """A subscription of a user. `sink` and `batch_size` (the most events in one request) concern those that are pushed.
    `stopped`: why nothing is pushed any more, until it is defined again; `restarts`: how often that has happened."""

    name: str
    delivery: Delivery
    rules: tuple[NamedRule, ...] = (NamedRule(),)
    sink: Address | None = None
    batch_size: int = 1
    restarts: int = 0
    stopped: str | None = None


class Definitions(ABC):
    """Keeps definitions, and creates and removes their cursors with them, so that neither exists without the other.
    Callers may not assume that a definition is still what they read a moment ago; all methods raise `Unavailable` when
    the store cannot be reached."""

    @abstractmethod
    def put(self, definition: Definition, known: Definition | None, from_the_beginning: bool) -> bool:
        """Store it in place of `known`, the definition that the caller saw under its name, and create the cursors that
        it lacks, in one transaction. A new one (`known` is None) takes over neither cursors nor lanes. Returns False,
        having done nothing, if what is stored is no longer `known`."""

    @abstractmethod
    def get(self, name: str) -> Definition | None:
        """The definition with this name."""

    @abstractmethod
    def all(self) -> list[Definition]:
        """Every definition, by name."""

    @abstractmethod
    def delete(self, name: str) -> bool:
        """Delete it with its cursors and lanes, in one transaction. Returns whether it was there. What was discarded
        stays recorded."""

    @abstractmethod
    def stop(self, definition: Definition, reason: str) -> bool:
        """Mark it as stopped. False, and nothing was done, if the stored definition is another by now: the reason
        applies to the old one."""


class RuleBook:
    """Makes rules from what was written, once; they are reused until they are written anew."""

    def __init__(self, parser: RuleParser) -> None:
        self._parser = parser
        self._made: dict[tuple[NamedRule, ...], tuple[Rule, ...]] = {}

    def rules(self, definition: Definition) -> tuple[Rule, ...]:
        """The rules, ready to be used. Raises `BadRuleIn`."""
        if (made := self._made.get(definition.rules)) is None:
            made = tuple(self._rule(number, written) for number, written in enumerate(definition.rules))
            if len(self._made) >= 1000:
                self._made.clear()
            self._made[definition.rules] = made
        return made

    def _rule(self, number: int, written: NamedRule) -> Rule:
        part = "filter" if written.filter is not None else "correlation"
        try:
            made = self._filter(written)
            part = "action"
            action = None if written.action is None else self._parser.action(written.action)
            part = "name"
            return Rule(written.name, made, action)
        except BadRule as bad:
            raise BadRuleIn(number, part, bad) from bad

    def _filter(self, written: NamedRule) -> Filter:
        if written.filter is not None:
            return self._parser.filter(written.filter)
        if not written.correlation:
            return EVERYTHING
        return correlation_filter(*scoped(written.correlation))


@dataclass(frozen=True, slots=True)
class Defined:
    """The result of defining. `secret`: one that was made just now, to be shown once."""

    definition: Definition
    is_new: bool
    secret: str | None = None


class Subscribers:
    """Defines subscriptions and removes them. `reserved` are the names of the built-in ones; `random_bytes` returns
    what secrets are made from; `changed` is called after each change."""

    def __init__(
        self,
        definitions: Definitions,
        rules: RuleBook,
        reserved: Collection[str],
        random_bytes: Callable[[int], bytes],
        changed: Callable[[], None] = lambda: None,
        check: Callable[[Definition], None] = lambda _: None,
    ) -> None:
        self._definitions, self._rules = definitions, rules
        self._reserved, self._random_bytes = frozenset(reserved), random_bytes
        self._changed, self._check = changed, check

    def define(self, wanted: Definition, from_the_beginning: bool, only_if_new: bool = False) -> Defined:
        """Store a definition; the same again changes nothing. An existing one keeps its place in the log, and its
        secret unless it brings another; a new one starts at the beginning of the log, or at its head.

        Raises `NameTaken`, `OtherDelivery`, `BadRuleIn`, and what `check` raises about a sink; `AlreadyDefined` if
        nothing else is wrong, it was to be new, and exists.
        """
        if wanted.name in self._reserved:
            raise NameTaken(wanted.name)
        self._rules.rules(wanted)
        while (defined := self._put(wanted, from_the_beginning, only_if_new)) is None:
            pass  # somebody else changed it in between
        self._changed()
        return defined

    def remove(self, name: str) -> None:
        """Remove it, with its cursors and lanes. Raises `UnknownSubscription`."""
        if not self._definitions.delete(name):
            raise UnknownSubscription(name)
        self._changed()

    def get(self, name: str) -> Definition:
        """Raises `UnknownSubscription`."""
        found = self._definitions.get(name)
        if found is None:
            raise UnknownSubscription(name)
        return found

    def by_name(self) -> Mapping[str, Definition]:
        """Every definition, keyed by name."""
        return {definition.name: definition for definition in self._definitions.all()}

    def _put(self, wanted: Definition, from_the_beginning: bool, only_if_new: bool) -> Defined | None:
        """Returns None if somebody else changed it in the meantime."""
        known = self._definitions.get(wanted.name)
        if known is not None and known.delivery != wanted.delivery:
            raise OtherDelivery(known.name, known.delivery)
        if known is not None:  # a definition that starts again must differ from the stopped one
            wanted = replace(wanted, restarts=known.restarts + (known.stopped is not None))
        wanted, minted = self._with_secret(wanted, known)
        self._check(wanted)
        if only_if_new and known is not None:
            raise AlreadyDefined(wanted.name)
        is_kept = self._definitions.put(wanted, known, from_the_beginning)
        return Defined(wanted, known is None, minted) if is_kept else None

    def _with_secret(self, wanted: Definition, known: Definition | None) -> tuple[Definition, str | None]:
        """The definition, and its secret if that was made just now."""
        if wanted.sink is None or wanted.sink.secret:
            return wanted, None
        kept = known.sink.secret if known is not None and known.sink is not None else ""
        secret = kept or "whsec_" + b64encode(self._random_bytes(SECRET_BYTES)).decode()
        return replace(wanted, sink=replace(wanted.sink, secret=secret)), None if kept else secret
