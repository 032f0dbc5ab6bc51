"""What rules compute with, and what can go wrong with them.

RuleError
├── BadRule       a rule's text cannot be used; says where it is wrong, and what to write instead
└── RuleFailed    a rule cannot be evaluated for a message, so it has no truth

A rule that is merely not true is not an error. Source of the rules: Microsoft, "Subscription Rule SQL Filter Syntax"
and "Subscription Rule SQL Action Syntax"; what these leave open is decided in docs/decisions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

from allocation.service_layer.errors import ServiceError

Value = bool | int | float | str | datetime | None
"""A property's value. None is NULL, which is also the value of a property that is not there. An int has 64 bits."""

Truth = bool | None
"""True, False, or None: UNKNOWN. Only True matches."""

_KINDS = {
    bool: "a truth value",
    int: "a number",
    float: "a number",
    str: "a text",
    datetime: "a time",
    type(None): "NULL",
}

SYSTEM_PROPERTIES = (
    "MessageId",
    "SessionId",
    "PartitionKey",
    "Subject",
    "CorrelationId",
    "ContentType",
    "EnqueuedTimeUtc",
    "To",
    "ReplyTo",
    "ReplyToSessionId",
)
"""The properties of a Service Bus message that rules may read as sys.NAME. One that a message has not set is NULL."""

SET_BY_THE_BROKER = frozenset({"EnqueuedTimeUtc"})
_SYSTEM = {name.lower(): name for name in SYSTEM_PROPERTIES} | {"label": "Subject"}  # its older name, still valid


class RuleError(ServiceError):
    """Base class of what rules raise."""


class BadRule(RuleError):
    """A rule that is refused when it is made. `position` is the place in `text`, counted from 0."""

    def __init__(self, problem: str, advice: str, text: str = "", position: int | None = None) -> None:
        where = "" if position is None else f"At character {position + 1}: "
        super().__init__(f"{where}{problem}. {advice}.")
        self.problem, self.advice, self.text, self.position = problem, advice, text, position


class RuleFailed(RuleError):
    """A rule has no truth for this message: it divides by zero, overflows, or computes with texts."""


def kind_of(value: Value) -> str:
    """What a value is, in words."""
    return _KINDS[type(value)]


def literal(value: Value) -> str:
    """A value as a rule would write it."""
    if value is None or isinstance(value, bool):
        return "NULL" if value is None else str(value).upper()
    return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else str(value)


def system_name(name: str) -> str | None:
    """A system property in its correct spelling, or None if Service Bus messages have no such property."""
    return _SYSTEM.get(name.lower())


class Properties:
    """What rules see of a message: its user properties and its system properties, never its body.

    Names of user properties are looked up in lower case, since case does not matter in them; `named` returns them as
    they were written. Mutable, and made anew for each copy.
    """

    __slots__ = ("_spelled", "system", "user")

    def __init__(self, user: Mapping[str, Value], system: Mapping[str, Value] | None = None) -> None:
        """`system` is keyed as in SYSTEM_PROPERTIES. Raises `RuleFailed` if two user properties differ only in case:
        which one is meant could not be known."""
        self.user: dict[str, Value] = {name.lower(): value for name, value in user.items()}
        self.system: dict[str, Value] = dict(system or {})
        self._spelled = {} if self.user.keys() == user.keys() else {name.lower(): name for name in user}
        if len(self.user) < len(user):
            twice = next(name for name in user if name not in self._spelled.values())
            raise RuleFailed(f"The property {twice} is there twice, in different cases")

    def copy(self) -> Properties:
        """A copy that can be changed independently."""
        return Properties(self.named(), self.system)

    def named(self) -> dict[str, Value]:
        """The user properties, under the names as they were written."""
        return {self._spelled.get(name, name): value for name, value in self.user.items()}

    def as_rules_name_them(self) -> dict[str, Value]:
        """The user properties, and then the system properties that are set, as `sys.NAME`."""
        system = {f"sys.{name}": value for name, value in self.system.items() if value is not None}
        return {**self.named(), **system}

    def set(self, name: str, value: Value) -> None:
        """Add or replace a user property; an existing one keeps its spelling."""
        key = name.lower()
        if key not in self.user:
            self._spelled[key] = name
        self.user[key] = value

    def remove(self, name: str) -> None:
        """Remove a user property, if it exists."""
        self.user.pop(name.lower(), None)
        self._spelled.pop(name.lower(), None)


Read = Callable[[Properties], Value]
"""A compiled expression: returns its value for a message. Raises `RuleFailed`."""

Test = Callable[[Properties], Truth]
"""A compiled condition: returns its truth for a message. Raises `RuleFailed`."""
