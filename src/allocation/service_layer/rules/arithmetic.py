"""Arithmetic of rules: 64-bit integers and doubles, as in C#.

Two integers give an integer; division drops the fraction, and a remainder has the sign of the dividend. An integer
combined with a double becomes a double. NULL makes everything NULL. Doubles never fail: they become infinite, or NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from allocation.service_layer.rules.values import Properties, Read, RuleFailed, Value, kind_of

LEAST, MOST = -(2**63), 2**63 - 1
Step = tuple[str, Read]


def computed(first: Read, steps: Sequence[Step]) -> Read:
    """`first`, then each operator of `steps` with its operand, from left to right."""
    operations = [(symbol, _OPERATIONS[symbol], operand) for symbol, operand in steps]

    def read(properties: Properties) -> Value:
        value = first(properties)
        for symbol, (whole, real), operand in operations:
            other = operand(properties)
            if value is None or other is None:
                value = None
            elif type(value) is int and type(other) is int:
                value = _fitting(whole(value, other))
            else:
                value = real(_real(value, symbol), _real(other, symbol))
        return value

    return read


def negated(operand: Read) -> Read:
    """The operand with the other sign."""

    def read(properties: Properties) -> Value:
        value = operand(properties)
        if value is None:
            return None
        return _fitting(-value) if type(value) is int else -_real(value, "-")

    return read


def unchanged(operand: Read) -> Read:
    """The operand after a plus sign: it still has to be a number."""

    def read(properties: Properties) -> Value:
        value = operand(properties)
        return value if value is None or type(value) is int else _real(value, "+")

    return read


def _real(value: Value, symbol: str) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    raise RuleFailed(f"{symbol} needs numbers, but {value!r} is {kind_of(value)}")


def _fitting(value: int) -> int:
    if not LEAST <= value <= MOST:
        raise RuleFailed(f"The result {value} does not fit into a 64-bit integer")
    return value


def _quotient(a: int, b: int) -> int:
    if b == 0:
        raise RuleFailed(f"{a} is divided by zero")
    return abs(a) // abs(b) * (1 if (a < 0) is (b < 0) else -1)


def _remainder(a: int, b: int) -> int:
    return a - b * _quotient(a, b)


def _real_quotient(a: float, b: float) -> float:
    if b != 0:
        return a / b
    return math.nan if a == 0 or math.isnan(a) else math.copysign(math.inf, a) * math.copysign(1, b)


def _real_remainder(a: float, b: float) -> float:
    return math.nan if b == 0 or math.isinf(a) else math.fmod(a, b)


_OPERATIONS: dict[str, tuple[Callable[[int, int], int], Callable[[float, float], float]]] = {
    "+": (lambda a, b: a + b, lambda a, b: a + b),
    "-": (lambda a, b: a - b, lambda a, b: a - b),
    "*": (lambda a, b: a * b, lambda a, b: a * b),
    "/": (_quotient, _real_quotient),
    "%": (_remainder, _real_remainder),
}
