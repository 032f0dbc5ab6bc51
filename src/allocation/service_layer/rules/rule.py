"""Filters, actions, and the copies that a subscription's rules make of a message."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from allocation.service_layer.rules.values import (
    BadRule,
    Properties,
    RuleFailed,
    Test,
    Truth,
    Value,
    kind_of,
    literal,
    system_name,
)

LONGEST_TEXT = 1024  # characters of a filter, and of an action
LONGEST_NAME = 50  # characters
MOST_STATEMENTS = 32  # of an action
LONGEST_SHOWN = 60  # characters of a value, in an explanation of a filter
RULE_NAME = "RuleName"

_SYSTEM = "sys."
_CORRELATED = ("ContentType", "CorrelationId", "MessageId", "ReplyTo", "ReplyToSessionId", "SessionId", "Subject", "To")


@dataclass(frozen=True, slots=True)
class Term:
    """One of the conditions that a filter joins by AND or OR, as it was written, with the properties that it reads."""

    text: str
    test: Test
    reads: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Filter:
    """Which messages a rule wants. Called with a message's properties, it returns its truth. Raises `RuleFailed`."""

    text: str
    test: Test
    terms: tuple[Term, ...] = ()

    def __call__(self, properties: Properties) -> Truth:
        return self.test(properties)


@dataclass(frozen=True, slots=True)
class Action:
    """What is changed, statement by statement; each sees what the statements before it did."""

    text: str
    statements: tuple[Callable[[Properties], None], ...]

    def __call__(self, properties: Properties) -> Properties:
        """A changed copy. Raises `RuleFailed`."""
        copy = properties.copy()
        for statement in self.statements:
            statement(copy)
        return copy


class RuleParser(ABC):
    """Reads the text of rules. Callers may not assume that a rule with newid() gives the same result twice."""

    @abstractmethod
    def filter(self, text: str) -> Filter:
        """A filter, ready to be used. Raises `BadRule`."""

    @abstractmethod
    def action(self, text: str) -> Action:
        """An action, ready to be used. Raises `BadRule`."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A filter with a name, and perhaps an action. Raises `BadRule` for a name that Service Bus would not accept."""

    name: str
    filter: Filter
    action: Action | None = None

    def __post_init__(self) -> None:
        if not 1 <= len(self.name) <= LONGEST_NAME:
            advice = f"Choose a name of 1 to {LONGEST_NAME} characters"
            raise BadRule(f"the name of a rule has {len(self.name)} characters", advice)


EVERYTHING = Filter("1=1", lambda _: True)
DEFAULT = Rule("$Default", EVERYTHING)
"""The rule of a subscription that was given none."""


def apply_rules(rules: Iterable[Rule], properties: Properties) -> list[Properties]:
    """The copies of a message that a subscription gets.

    All rules without an action together give one copy, unchanged, if one of them matches. Each rule with an action that
    matches gives one more, changed by that action alone, with the rule's name as its property RuleName. No match: no
    copy. Raises `RuleFailed`, with the rule's name, if a rule that is evaluated fails; a rule without an action is not
    evaluated once another such rule has matched.
    """
    plain, copies = False, []
    for rule in rules:
        try:
            if rule.action is None:
                plain = plain or rule.filter(properties) is True
            elif rule.filter(properties) is True:
                copies.append(rule.action(properties))
                copies[-1].set(RULE_NAME, rule.name)
        except RuleFailed as failure:
            raise RuleFailed(f"Rule {rule.name}: {failure}") from failure
    return [properties, *copies] if plain else copies


def correlation_filter(user: Mapping[str, Value], system: Mapping[str, str] | None = None) -> Filter:
    """A filter that requires all of these to be equal: cheaper than a text, and the same on Service Bus. A number never
    equals a text.

    Raises `BadRule` if there is nothing to compare with, or for a system property that such a filter cannot have.
    """
    if null := [name for name, value in {**user, **(system or {})}.items() if value is None]:
        raise BadRule(f"a correlation filter requires {null[0]} to equal NULL", "Use a text with IS NULL")
    wanted = [Term(f"sys.{n} = {literal(v)}", _equals(_correlated(n), v, True)) for n, v in (system or {}).items()]
    wanted += [Term(f"[{n.replace(']', ']]')}] = {literal(v)}", _equals(n.lower(), v, False)) for n, v in user.items()]
    if not wanted:
        raise BadRule("a correlation filter names no property", "Name at least one")
    tests = [term.test for term in wanted]
    text = " AND ".join(term.text for term in wanted)
    return Filter(text, lambda properties: all(test(properties) for test in tests), tuple(wanted))


def scoped(written: Iterable[tuple[str, Value]]) -> tuple[dict[str, Value], dict[str, str]]:
    """What a correlation filter, as it was written, requires of user properties and of system properties.

    The latter are written as `sys.NAME`, in upper or lower case; they are returned under the name that Service Bus has
    for them, as texts. Raises `BadRule` for one that such a filter cannot have, and for one that is to equal two
    values.
    """
    user: dict[str, Value] = {}
    system: dict[str, str] = {}
    for name, value in written:
        if not name.lower().startswith(_SYSTEM):
            user[name] = value
            continue
        known, wanted = _correlated(name[len(_SYSTEM) :]), str(value)
        if system.setdefault(known, wanted) != wanted:
            raise BadRule(f"a correlation filter requires sys.{known} to equal two values", "Name it only once")
    return user, system


def _correlated(name: str) -> str:
    known = system_name(name)
    if known not in _CORRELATED:
        raise BadRule(f"a correlation filter cannot look at sys.{name}", f"It can look at {', '.join(_CORRELATED)}")
    return known


def _equals(name: str, wanted: Value, of_system: bool) -> Test:
    def test(properties: Properties) -> Truth:
        value = (properties.system if of_system else properties.user).get(name)
        return type(value) is type(wanted) and value == wanted

    return test


@dataclass(frozen=True, slots=True)
class Finding:
    """The truth of a term of a filter, and the reason, if that is not obvious."""

    term: str
    truth: Truth
    why: str = ""


def explain(filter: Filter, properties: Properties) -> Sequence[Finding]:
    """The truth of each term, to explain a filter. A term that cannot be evaluated says so, because the filter may not
    evaluate it at all."""
    return [_found(term, properties) for term in filter.terms]


def _found(term: Term, properties: Properties) -> Finding:
    try:
        truth = term.test(properties)
    except RuleFailed as failure:
        return Finding(term.text, None, f"it cannot be evaluated: {failure}")
    return Finding(term.text, truth, _why(term, truth, properties))


def _why(term: Term, truth: Truth, properties: Properties) -> str:
    if truth:
        return ""
    values = {name: _value(name, properties) for name in term.reads}
    if truth is False:
        return ", ".join(f"{name} is {_shortened(value)}" for name, value in values.items())
    missing = [name for name, value in values.items() if value is None]
    if missing:
        return f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not there"
    kinds = [f"{name} is {kind_of(value)}" for name, value in values.items()]
    return f"values of two kinds, or NULL: {', '.join(kinds)}" if kinds else "it compares with NULL"


def _shortened(value: Value) -> str:
    if value is None:
        return "not there"
    text = literal(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."


def _value(name: str, properties: Properties) -> Value:
    if name.startswith(_SYSTEM):
        return properties.system.get(name.removeprefix(_SYSTEM))
    return properties.user.get(name.lower())
