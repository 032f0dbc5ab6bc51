"""The text of rules, read with lark: `rule_grammar.lark` has the grammar, `service_layer.rules` the meaning."""

from __future__ import annotations

import sys
from functools import cache
from typing import cast
from uuid import UUID

from lark import Lark, Token, Tree
from lark.exceptions import UnexpectedInput

from allocation.adapters.rule_faults import bad_rule
from allocation.service_layer.envelope import Ids
from allocation.service_layer.rules import conditions, statements
from allocation.service_layer.rules.arithmetic import LEAST, MOST, computed, negated, unchanged
from allocation.service_layer.rules.rule import LONGEST_TEXT, MOST_STATEMENTS, Action, Filter, RuleParser, Term
from allocation.service_layer.rules.values import (
    SET_BY_THE_BROKER,
    SYSTEM_PROPERTIES,
    BadRule,
    Properties,
    Read,
    RuleFailed,
    Test,
    Value,
    system_name,
)

DEEPEST = 50  # conditions and expressions within each other, so that no rule exhausts the stack of who works it out

Node = Tree[Token]


class LarkRuleParser(RuleParser):
    """`ids` are what newid() gives."""

    def __init__(self, ids: Ids) -> None:
        self._ids = ids

    def filter(self, text: str) -> Filter:
        root = _parsed(text, "filter")
        compiler = _Compiler(text, self._ids)
        [condition] = compiler.nodes(root)
        joined = condition.data in ("conjunction", "disjunction")
        terms = tuple(compiler.term(node) for node in (compiler.nodes(condition) if joined else [condition]))
        return Filter(text, compiler.test(condition), terms)

    def action(self, text: str) -> Action:
        root = _parsed(text, "action")
        compiler = _Compiler(text, self._ids)
        listed = compiler.nodes(root)
        if len(listed) > MOST_STATEMENTS:
            problem = f"the action has {len(listed)} statements"
            raise BadRule(
                problem, f"It may have at most {MOST_STATEMENTS}", text, listed[MOST_STATEMENTS].meta.start_pos
            )
        return Action(text, tuple(compiler.statement(node) for node in listed))


@cache
def _grammar() -> Lark:
    return Lark.open(
        "rule_grammar.lark",
        rel_to=__file__,
        parser="lalr",
        lexer="basic",
        start=["filter", "action"],
        propagate_positions=True,
        maybe_placeholders=False,
    )


def _parsed(text: str, start: str) -> Node:
    if len(text) > LONGEST_TEXT:
        problem = f"the text has {len(text):,} characters"
        raise BadRule(problem, f"Service Bus accepts {LONGEST_TEXT:,}: split it into several rules", text, LONGEST_TEXT)
    try:
        tree = _grammar().parse(text, start=start)
    except UnexpectedInput as unexpected:
        raise bad_rule(text, unexpected) from unexpected
    level = [tree]
    for _ in range(DEEPEST):
        level = [child for node in level for child in node.children if isinstance(child, Tree)]
        if not level:
            return tree
    problem = f"conditions and expressions are nested more than {DEEPEST} deep"
    raise BadRule(problem, "Nest them less deeply", text, level[0].meta.start_pos)


class _Compiler:
    """Makes closures of one text's tree, from the leaves up."""

    def __init__(self, text: str, ids: Ids) -> None:
        self._text, self._ids = text, ids

    def nodes(self, node: Node) -> list[Node]:
        return [child for child in node.children if isinstance(child, Tree)]

    def term(self, node: Node) -> Term:
        """A condition with its text, and the names of what it reads, each once."""
        names = dict.fromkeys(
            f"sys.{name}" if of_system else name for of_system, name in map(self._name, node.find_data("property"))
        )
        return Term(self._text[node.meta.start_pos : node.meta.end_pos], self.test(node), tuple(names))

    # --- conditions

    def test(self, node: Node) -> Test:
        if node.data.startswith("not_"):
            return conditions.opposite(self._test(node.data.removeprefix("not_"), node))
        return self._test(node.data, node)

    def _test(self, kind: str, node: Node) -> Test:
        children = self.nodes(node)
        match kind:
            case "disjunction":
                return conditions.either([self.test(child) for child in children])
            case "conjunction":
                return conditions.both([self.test(child) for child in children])
            case "opposite":
                return conditions.opposite(self.test(children[0]))
            case "comparison":
                return self._comparison(children[0], str(node.children[1]), children[1])
            case "is_null":
                return conditions.is_null(self.read(children[0]))
            case "is_not_null":
                return conditions.opposite(conditions.is_null(self.read(children[0])))
            case "exists":
                of_system, name = self._name(children[0])
                return conditions.exists(name, of_system)
            case "among":
                return self._among(children[0], self.nodes(children[1]))
            case _:
                return self._like(*children)

    def _comparison(self, left: Node, symbol: str, right: Node) -> Test:
        if right.data == "constant":
            return conditions.comparison_with(symbol, self.read(left), self._constant(right))
        return conditions.comparison(symbol, self.read(left), self.read(right))

    def _among(self, value: Node, listed: list[Node]) -> Test:
        constants = [self._constant(item) for item in listed if item.data == "constant"]
        texts = frozenset(item for item in constants if isinstance(item, str))
        if len(constants) == len(listed) and all(isinstance(item, str) for item in constants):
            return conditions.among_texts(self.read(value), texts)
        return conditions.among(self.read(value), [self.read(item) for item in listed])

    def _like(self, value: Node, pattern: Node, escape: Node | None = None) -> Test:
        fixed = pattern.data == "constant" and (escape is None or escape.data == "constant")
        if not fixed:
            read_escape = None if escape is None else self.read(escape)
            return conditions.like(self.read(value), self.read(pattern), read_escape)
        constant, escaping = self._constant(pattern), None if escape is None else self._constant(escape)
        advice = "Write a text, as in LIKE 'RED-%' or LIKE '10!%' ESCAPE '!'; IS NULL asks whether there is none"
        if constant is None or (escape is not None and escaping is None):
            raise self._bad("NULL is not a pattern", advice, pattern)
        try:
            return conditions.like_constant(self.read(value), constant, escaping)
        except RuleFailed as failure:
            raise self._bad(str(failure), advice, pattern) from failure

    # --- values

    def read(self, node: Node) -> Read:
        match node.data:
            case "constant":
                constant = self._constant(node)
                return lambda _: constant
            case "property":
                return self._property(node)
            case "call":
                return self._call(node)
            case "signed":
                return self._signed(node)
        first, *rest = node.children
        steps = zip(rest[::2], rest[1::2], strict=True)
        return computed(self.read(cast(Node, first)), [(str(s), self.read(cast(Node, x))) for s, x in steps])

    def _constant(self, node: Node) -> Value:
        [token] = cast(list[Token], node.children)
        match token.type:
            case "NULL":
                return None
            case "TRUE" | "FALSE":
                return token.type == "TRUE"
            case "TEXT":
                return token[1:-1].replace("''", "'")
        return self._number(token, MOST)

    def _number(self, token: Token, most: int) -> int | float:
        whole = token.isdigit()
        number = int(token) if whole else float(token)
        if number > (most if whole else sys.float_info.max):
            kind = "a 64-bit integer" if whole else "a double"
            raise self._bad(f"{token} does not fit into {kind}", "Write a smaller number", token)
        return number

    def _signed(self, node: Node) -> Read:
        sign, operand = str(node.children[0]), self.nodes(node)[0]
        inner = operand.children[0]
        if sign == "-" and isinstance(inner, Token) and inner.type == "NUMBER" and operand.data == "constant":
            constant = -self._number(inner, -LEAST)  # the least integer has no positive twin to be made of
            return lambda _: constant
        return (negated if sign == "-" else unchanged)(self.read(operand))

    def _property(self, node: Node) -> Read:
        of_system, name = self._name(node)
        if of_system:
            return lambda properties: properties.system.get(name)
        name = name.lower()
        return lambda properties: properties.user.get(name)

    def _name(self, node: Node) -> tuple[bool, str]:
        """Whether it is a system property, and its name."""
        *scopes, token = cast(list[Token], node.children)
        name = str(token)
        if token.type == "BRACKETED":
            name = name[1:-1].replace("]]", "]")
        elif token.type == "QUOTED":
            name = name[1:-1].replace('""', '"')
        scope = scopes[0].lower() if scopes else "user"
        if scope not in ("user", "sys"):
            advice = f"Write sys.{name} or user.{name}; in brackets, [{scope}.{name}] is a name with a dot in it"
            raise self._bad(f"there is no scope {scope}", advice, scopes[0])
        if scope == "user":
            return False, name
        known = system_name(name)
        if known is None:
            advice = f"Use {', '.join(SYSTEM_PROPERTIES)}; without sys. it is a property of the message's own"
            raise self._bad(f"messages have no system property {name}", advice, token)
        return True, known

    def _call(self, node: Node) -> Read:
        function, arguments = cast(Token, node.children[0]), self.nodes(node)
        match function.lower(), len(arguments):
            case "newid", 0:
                ids = self._ids
                return lambda _: str(UUID(hex=ids.new()))
            case (("property" | "p"), 1):
                return _looked_up(self.read(arguments[0]))
        values = "1 value" if len(arguments) == 1 else f"{len(arguments)} values"
        problem = f"there is no function {function} that takes {values}"
        raise self._bad(problem, "The functions are newid() and property(name), which may be written p(name)", function)

    # --- statements

    def statement(self, node: Node) -> statements.Statement:
        target, *value = self.nodes(node)
        of_system, name = self._name(target)
        if of_system and name in SET_BY_THE_BROKER:
            raise self._bad(f"sys.{name} is set by the broker", "Set a property of your own", target)
        if node.data == "set":
            read = self.read(value[0])
            return statements.set_system(name, read) if of_system else statements.set_user(name, read)
        return statements.remove_system(name) if of_system else statements.remove_user(name)

    def _bad(self, problem: str, advice: str, at: Node | Token) -> BadRule:
        return BadRule(problem, advice, self._text, at.start_pos if isinstance(at, Token) else at.meta.start_pos)


def _looked_up(name: Read) -> Read:
    """property(name): of the user properties, that one whose name is computed."""

    def read(properties: Properties) -> Value:
        computed_name = name(properties)
        if computed_name is not None and not isinstance(computed_name, str):
            raise RuleFailed(f"property() needs a name as a text, not {computed_name!r}")
        return None if computed_name is None else properties.user.get(computed_name.lower())

    return read
