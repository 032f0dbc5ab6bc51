"""Conditions of rules, in three-valued logic: each function makes one, out of expressions or other conditions.

They are closures, composed once when a rule is made, so that evaluating one walks no tree. A comparison with NULL, or
between values of two kinds (a text and a number), is UNKNOWN; an integer and a double are of one kind.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

from allocation.service_layer.rules.patterns import matcher
from allocation.service_layer.rules.values import Properties, Read, Test, Truth, Value

_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "<>": operator.ne,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_EQUALITIES = (operator.eq, operator.ne)


def both(conditions: Sequence[Test]) -> Test:
    """AND. What comes after a false condition is not evaluated."""

    def test(properties: Properties) -> Truth:
        truth: Truth = True
        for condition in conditions:
            found = condition(properties)
            if found is False:
                return False
            if found is None:
                truth = None
        return truth

    return test


def either(conditions: Sequence[Test]) -> Test:
    """OR. What comes after a true condition is not evaluated."""

    def test(properties: Properties) -> Truth:
        truth: Truth = False
        for condition in conditions:
            found = condition(properties)
            if found is True:
                return True
            if found is None:
                truth = None
        return truth

    return test


def opposite(condition: Test) -> Test:
    """NOT. The opposite of UNKNOWN is UNKNOWN."""

    def test(properties: Properties) -> Truth:
        truth = condition(properties)
        return None if truth is None else not truth

    return test


def comparison(symbol: str, left: Read, right: Read) -> Test:
    """= <> != < <= > >=. Texts compare by their characters, and case matters."""
    compares = _COMPARISONS[symbol]
    return lambda properties: _compared(compares, left(properties), right(properties))


def comparison_with(symbol: str, left: Read, constant: Value) -> Test:
    """`comparison` with a constant on the right: the common case, and faster."""
    compares, kind = _COMPARISONS[symbol], type(constant)
    if constant is None or kind is bool:
        return comparison(symbol, left, lambda _: constant)

    def test(properties: Properties) -> Truth:
        value = left(properties)
        return compares(value, constant) if type(value) is kind else _compared(compares, value, constant)

    return test


def _compared(compares: Callable[[Any, Any], bool], a: Value, b: Value) -> Truth:
    if a is None or b is None:
        return None
    if type(a) is type(b):
        return None if type(a) is bool and compares not in _EQUALITIES else compares(a, b)
    if {type(a), type(b)} == {int, float}:
        return compares(float(a), float(b))  # type: ignore[arg-type]  # the line above has looked
    return None


def is_null(read: Read) -> Test:
    """IS NULL: never UNKNOWN."""
    return lambda properties: read(properties) is None


def exists(name: str, of_system: bool) -> Test:
    """EXISTS: whether a property is there, even if it is NULL; a system property exists if it is set."""
    if of_system:
        return lambda properties: properties.system.get(name) is not None
    name = name.lower()
    return lambda properties: name in properties.user


def among(value: Read, listed: Sequence[Read]) -> Test:
    """IN: equal to one of them. UNKNOWN if it is equal to none, but compares as UNKNOWN with one."""

    def test(properties: Properties) -> Truth:
        sought = value(properties)
        truth: Truth = None if sought is None else False
        for item in listed if sought is not None else ():
            found = _compared(operator.eq, sought, item(properties))
            if found is True:
                return True
            if found is None:
                truth = None
        return truth

    return test


def among_texts(value: Read, texts: frozenset[str]) -> Test:
    """`among` with a list that consists of constant texts."""

    def test(properties: Properties) -> Truth:
        sought = value(properties)
        return sought in texts if type(sought) is str else None

    return test


def like(value: Read, pattern: Read, escape: Read | None) -> Test:
    """LIKE with a pattern, or an escape character, that may differ from message to message."""

    def test(properties: Properties) -> Truth:
        sought, wanted = value(properties), pattern(properties)
        escaping = None if escape is None else escape(properties)
        if wanted is None or (escape is not None and escaping is None):
            return None
        matches = matcher(wanted, escaping)
        return matches(sought) if type(sought) is str else None

    return test


def like_constant(value: Read, pattern: Value, escape: Value) -> Test:
    """`like` with a constant pattern. Raises `RuleFailed` at once if the pattern is not valid."""
    matches = matcher(pattern, escape)

    def test(properties: Properties) -> Truth:
        sought = value(properties)
        return matches(sought) if type(sought) is str else None

    return test
