"""Rules against laws, and against small interpreters that share nothing with them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from fractions import Fraction
from types import FrameType
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from allocation.adapters.rule_parser import LarkRuleParser
from allocation.service_layer.rules.rule import Filter
from allocation.service_layer.rules.values import BadRule, Properties, RuleFailed, Truth
from tests.fakes import CountingIds
from tests.thoroughness import examples

PARSER = LarkRuleParser(CountingIds())

NAMES = ("Qty", "packs", "price", "sku", "Ref", "urgent", "colour", "nothing")
values = {
    **dict.fromkeys(("Qty", "packs"), st.integers(-3, 3)),
    "price": st.sampled_from([-1.0, 0.0, 0.5, 2.0]),
    **dict.fromkeys(("sku", "Ref"), st.sampled_from(["", "a", "A", "b", "a%"])),
    "urgent": st.booleans(),
    "nothing": st.none(),
}
always_there = {name: values[name] for name in ("Qty", "price", "sku", "urgent")}
messages = st.fixed_dictionaries(  # colour is never there
    always_there, optional={name: values[name] for name in ("packs", "Ref", "nothing")}
)

# --- an interpreter of trees, and how a tree is written ---------------------------------------------------------------

Tree = tuple[Any, ...]

constants = st.one_of(
    st.integers(0, 3), st.sampled_from([0.0, 0.5, 2.0]), st.sampled_from(["", "a", "b"]), st.booleans(), st.none()
).map(lambda value: ("constant", value))
names = st.sampled_from(NAMES).map(lambda name: ("property", name))
numbers = st.one_of(
    st.integers(0, 3).map(lambda value: ("constant", value)),
    st.sampled_from(["Qty", "packs", "price", "colour"]).map(lambda name: ("property", name)),
)
sums = st.recursive(numbers, lambda inner: st.tuples(st.sampled_from("+-*"), inner, inner), max_leaves=4)
operands = st.one_of(names, names, sums, constants)
tests = st.one_of(
    st.tuples(st.sampled_from(["=", "<>", "<", "<=", ">", ">="]), operands, operands),
    st.tuples(st.sampled_from(["IN", "NOT IN"]), operands, st.lists(operands, min_size=1, max_size=3)),
    st.tuples(st.sampled_from(["IS NULL", "IS NOT NULL", "EXISTS"]), names),
)
trees = st.recursive(
    tests,
    lambda inner: st.one_of(st.tuples(st.just("NOT"), inner), st.tuples(st.sampled_from(["AND", "OR"]), inner, inner)),
    max_leaves=8,
)


def written(tree: Tree) -> str:
    """The text of a tree, with every parenthesis that could be needed."""
    kind, *parts = tree
    match kind:
        case "constant":
            [value] = parts
            return "NULL" if value is None else f"'{value}'" if isinstance(value, str) else str(value)
        case "property":
            return str(parts[0])
        case "IN" | "NOT IN":
            return f"({written(parts[0])}) {kind} ({', '.join(map(written, parts[1]))})"
        case "IS NULL" | "IS NOT NULL":
            return f"{written(parts[0])} {kind}"
        case "EXISTS":
            return f"EXISTS({written(parts[0])})"
        case "NOT":
            return f"NOT ({written(parts[0])})"
    return f"({written(parts[0])}) {kind} ({written(parts[1])})"


def valued(tree: Tree, message: dict[str, Any]) -> Any:
    kind, *parts = tree
    if kind == "constant":
        return parts[0]
    if kind == "property":
        return message.get(parts[0])
    a, b = (valued(part, message) for part in parts)
    if a is None or b is None:
        return None
    return a + b if kind == "+" else a - b if kind == "-" else a * b


def of_one_kind(a: Any, b: Any) -> bool:
    kinds = {"number" if type(x) in (int, float) else type(x) for x in (a, b)}
    return a is not None and b is not None and len(kinds) == 1


def truth(tree: Tree, message: dict[str, Any]) -> int:
    """1 true, 0 unknown, -1 false: so AND is the least, OR the greatest, and NOT the opposite."""
    kind, *parts = tree
    if kind == "AND":
        return min(truth(part, message) for part in parts)
    if kind == "OR":
        return max(truth(part, message) for part in parts)
    if kind.startswith("NOT"):
        return -truth((kind[4:], *parts) if kind == "NOT IN" else parts[0], message)
    if kind == "EXISTS":
        return 1 if parts[0][1] in message else -1
    if kind.startswith("IS"):
        return 1 if (valued(parts[0], message) is None) == (kind == "IS NULL") else -1
    if kind == "IN":
        return max(truth(("=", parts[0], item), message) for item in parts[1])
    a, b = (valued(part, message) for part in parts)
    if not of_one_kind(a, b) or (isinstance(a, bool) and kind not in ("=", "<>")):
        return 0
    return 1 if {"=": a == b, "<>": a != b, "<": a < b, "<=": a <= b, ">": a > b, ">=": a >= b}[kind] else -1


def found(text: str, message: dict[str, Any]) -> Truth:
    return PARSER.filter(text)(Properties(message))


@examples(250)
@given(trees, messages)
def test_a_filter_says_what_an_interpreter_of_its_tree_says(tree: Tree, message: dict[str, Any]) -> None:
    text = written(tree)
    if len(text) <= 1024:
        assert found(text, message) is {1: True, 0: None, -1: False}[truth(tree, message)], text


# --- laws -------------------------------------------------------------------------------------------------------------


@examples(100)
@given(trees, trees, messages)
def test_de_morgans_laws_hold_with_unknown_too(a: Tree, b: Tree, message: dict[str, Any]) -> None:
    x, y = written(a), written(b)
    if len(x) + len(y) < 900:
        assert found(f"NOT (({x}) AND ({y}))", message) is found(f"NOT ({x}) OR NOT ({y})", message)
        assert found(f"NOT (({x}) OR ({y}))", message) is found(f"NOT ({x}) AND NOT ({y})", message)


@examples(100)
@given(trees, messages)
def test_neither_a_condition_nor_its_opposite_matches_where_it_is_unknown(tree: Tree, message: dict[str, Any]) -> None:
    text = written(tree)
    if len(text) < 900:
        either = found(f"({text}) OR NOT ({text})", message)
        assert either is (None if found(text, message) is None else True)


@examples(100)
@given(trees, messages, st.randoms())
def test_the_case_of_names_and_words_means_nothing(tree: Tree, message: dict[str, Any], dice: Any) -> None:
    text = written(tree)
    pieces = text.split("'")
    for n in range(0, len(pieces), 2):  # what stands between quotes keeps its case
        pieces[n] = "".join(dice.choice([c.lower(), c.upper()]) for c in pieces[n])
    if len(text) <= 1024:
        assert found("'".join(pieces), message) is found(text, message)


# --- LIKE -------------------------------------------------------------------------------------------------------------


def matches(text: str, pattern: str) -> bool:
    """LIKE with ! as its escape character, by the book: one row of a table for each piece of the pattern."""
    pieces, at = [], 0
    while at < len(pattern):
        step = 2 if pattern[at] == "!" else 1
        pieces.append(pattern[at : at + step])
        at += step
    row = [True] + [False] * len(text)
    for piece in pieces:
        if piece == "%":
            row = [any(row[: n + 1]) for n in range(len(row))]
        else:
            row = [False] + [row[n] and (piece == "_" or piece[-1] == text[n]) for n in range(len(text))]
    return row[-1]


@examples(100)
@given(st.text("ab%_!\n", max_size=8), st.text("ab%_!", max_size=8))
@example("aab", "%a%ab%")
@example("aabbb", "%b%a_%")
@example("ab", "%_b%b")
@example("aa", "a!%")
@example("aa", "a!_")
def test_like_matches_as_the_book_says(text: str, pattern: str) -> None:
    whole = pattern.replace("!!", "").endswith("!")
    for constant in (True, False):
        filter = f"note LIKE '{pattern}' ESCAPE '!'" if constant else "note LIKE pattern ESCAPE '!'"
        message = {"note": text, "pattern": pattern}
        if whole:
            with pytest.raises((BadRule, RuleFailed), match="escape character"):
                found(filter, message)
        else:
            assert found(filter, message) is matches(text, pattern)


def test_a_pattern_of_many_wildcards_takes_no_years() -> None:
    """With a plain `.*` for each % this would not come back."""
    text = "a" * 5000
    assert found(f"note LIKE '{'%a' * 400}b%'", {"note": text}) is False
    assert found(f"note LIKE '{'%a' * 400}%'", {"note": text}) is True


@pytest.mark.parametrize(
    "filter",
    [
        f"note LIKE '%{'a' * 122}b%'",
        f"note LIKE '%{'a_' * 61}b%'",
        f"note LIKE '%{'a' * 61}b{'a' * 61}%'",
        "note LIKE pattern ESCAPE mark",
    ],
)
def test_no_pattern_costs_many_times_what_a_comparison_does(filter: str) -> None:
    """Trying a piece at each place of the text would cost hundreds of times as much, and so would making an automaton
    of each pattern that comes with a message."""
    like, equal = PARSER.filter(filter), PARSER.filter("note = 'b'")
    marks = [chr(0x4E00 + n) for n in range(20)]
    seen = [Properties({"note": "a" * 1000, "pattern": f"%{'a' * 83}b%{'a' * 83}c%", "mark": mark}) for mark in marks]
    assert instructions(like, seen) < 100 * instructions(equal, seen)


def instructions(test: Filter, seen: list[Properties]) -> int:
    """How many instructions of Python the filter takes: the same on any machine, however busy."""
    count = 0

    def trace(frame: FrameType, event: str, _: object) -> Callable[..., object]:
        nonlocal count
        frame.f_trace_opcodes = True
        count += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        for properties in seen:
            test(properties)
    finally:
        sys.settrace(before)
    return count


# --- arithmetic -------------------------------------------------------------------------------------------------------

wide = st.integers(-(2**63), 2**63 - 1)


def computed(expression: str, a: int, b: int) -> int:
    """By way of an action, which shows the value."""
    value = PARSER.action(f"SET result = {expression}")(Properties({"a": a, "b": b})).user["result"]
    assert type(value) is int
    return value


@examples(100)
@given(wide, wide)
@example(-(2**63), -1)
@example(7, -2)
def test_integers_divide_towards_zero_and_never_wrap(a: int, b: int) -> None:
    exact = {"a + b": Fraction(a) + b, "a - b": Fraction(a) - b, "a * b": Fraction(a) * b, "-a": Fraction(-a)}
    if b:
        exact["a / b"] = Fraction(int(Fraction(a, b)))
    for expression, result in exact.items():
        if -(2**63) <= result < 2**63:
            assert computed(expression, a, b) == result
        else:
            with pytest.raises(RuleFailed, match="64-bit"):
                computed(expression, a, b)
    if b and (a, b) != (-(2**63), -1):
        assert computed("a / b * b + a % b", a, b) == a


# --- whatever is sent -------------------------------------------------------------------------------------------------


def refusal(read: Callable[[str], object], text: str) -> BadRule | None:
    try:
        read(text)
    except BadRule as bad:
        return bad
    return None


@examples(100)
@given(st.one_of(st.text(max_size=60), st.text("()'[]\"=<>!+-*/%,;.@ aA0_NOTinlike\n", max_size=60)))
def test_any_text_is_a_rule_or_is_refused_with_a_place_in_it(text: str) -> None:
    for read in (PARSER.filter, PARSER.action):
        bad = refusal(read, text)
        assert bad is None or (bad.position is not None and 0 <= bad.position <= len(text))


@pytest.mark.parametrize(
    ("before", "core", "after"),
    [
        ("NOT (", "qty = 1", ")"),
        ("-(", "1", ") = 1"),
        ("(", "1", ") = 1"),
        ("1+(", "1", ") = 1"),
        ("p(", "sku", ") = 'sku'"),
    ],
)
def test_however_deep_a_text_nests_it_is_worked_out_or_refused(before: str, core: str, after: str) -> None:
    for depth in (10, 45, 60, 300):
        text = before * depth + core + ")" * (depth - 1) + after
        bad = refusal(PARSER.filter, text)
        if bad is None:
            assert found(text, {"qty": 1, "sku": "sku"}) is not None
        else:
            assert "Nest them less deeply" in str(bad) or len(text) > 1024


def test_a_long_row_of_terms_is_no_deep_one() -> None:
    assert found("1" + "+1" * 500 + " = 501", {}) is True
    assert found(" OR ".join(["q=1"] * 140), {"q": 2}) is False
