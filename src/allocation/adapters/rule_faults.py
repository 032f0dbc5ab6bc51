"""What is wrong with a text that is not a rule: where, what could stand there, and what was probably meant."""

from __future__ import annotations

import re

from lark import Token
from lark.exceptions import UnexpectedInput, UnexpectedToken

from allocation.service_layer.rules.values import BadRule

_WORDS = {
    "NAME": "a property",
    "NUMBER": "a number",
    "TEXT": "a 'text'",
    "EQUALS": "=",
    "COMPARISON": "<> < <= > >=",
    "SIGN": "+ -",
    "TIMES": "* / %",
    "_LPAR": "(",
    "_RPAR": ")",
    "_COMMA": ",",
    "_SEMICOLON": ";",
    "_DOT": ".",
    "$END": "the end",
}
_UNSAID = {"BRACKETED", "QUOTED", "TRUE", "FALSE"}  # further ways to write a property or a constant
_NAMES = {"NAME", "BRACKETED"}
_END_OF_A_CONDITION = {"_AND", "_OR", "_RPAR", "$END"}

_SLIPS = (  # by the text at a place where no word of the language begins
    (r"'", "The text has no closing '; a quote within a text is written ''"),
    (r"\"", 'The name has no closing "'),
    (r"\[", "The name has no closing ]"),
    (r"@", "Rules cannot have parameters: write the value itself"),
    (r"&", "Write AND"),
    (r"\|", "Write OR"),
    (r"!", "Write NOT, or <> for unequal"),
    (r"_", "A name that begins with _ goes in brackets, as in [_name]"),
    (r"[0-9]", "Write numbers as 5, 2.5 or 1E9; a name that begins with a digit goes in brackets, as in [7up]"),
)


def bad_rule(text: str, unexpected: UnexpectedInput) -> BadRule:
    """The parser's complaint, for the author of the text."""
    token = unexpected.token if isinstance(unexpected, UnexpectedToken) else None
    if token is not None and token.type == "$END":
        position, found = len(text), "the text ends"
    else:
        position = unexpected.pos_in_stream  # type: ignore[assignment]  # declared None; every instance has one
        found = f"{text[position] if token is None else str(token)!r} does not go here"
    expected = _expected(unexpected)
    problem = found if not expected else f"{found}; expected {_listed(expected)}"
    return BadRule(problem, _advice(text, position, token, expected), text, position)


def _expected(unexpected: UnexpectedInput) -> set[str]:
    if not isinstance(unexpected, UnexpectedToken):
        return set()
    return set(unexpected.accepts)


def _listed(expected: set[str]) -> str:
    named = [_WORDS[name] for name in _WORDS if name in expected]
    named += sorted(name.lstrip("_") for name in expected - _WORDS.keys() - _UNSAID)
    return " or ".join([", ".join(named[:-1]), named[-1]] if len(named) > 1 else named)


def _advice(text: str, position: int, found: Token | None, expected: set[str]) -> str:
    if found is None:
        return next((x for slip, x in _SLIPS if re.compile(slip).match(text, position)), "Leave it out")
    if not text.strip():
        is_action = "_SET" in expected
        return "Write a statement, as in SET a = 1" if is_action else "Write 1=1 for a filter that matches everything"
    if found.type == "EQUALS" and text[position - 1] == "=":
        return "Write one ="
    if found.type in _END_OF_A_CONDITION and "COMPARISON" in expected:
        return "A value alone is not a condition: compare it, as in urgent = TRUE"
    if found[:1].isalpha() and found.type != "NAME" and expected & _NAMES:
        return f"{found} is a keyword: a property of that name is written [{found}]"
    if "_AND" in expected:
        return "Join conditions with AND or OR"
    return "Close the parenthesis" if expected == {"_RPAR"} else "Write one of these"
