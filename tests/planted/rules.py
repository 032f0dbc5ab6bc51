"""Bugs in the rules of subscriptions: their logic, their names, and the copies they make."""

from tests.planted import Plant, plant

CONDITIONS, VALUES = "service_layer/rules/conditions.py", "service_layer/rules/values.py"
RULE, ARITHMETIC = "service_layer/rules/rule.py", "service_layer/rules/arithmetic.py"
STATEMENTS, GRAMMAR = "service_layer/rules/statements.py", "adapters/rule_grammar.lark"
TABLE = "unit/test_rule_table.py::test_each_expression_is_what_the_table_says"
INTERPRETER = "unit/test_rule_laws.py::test_a_filter_says_what_an_interpreter_of_its_tree_says"
CASE = "unit/test_rule_laws.py::test_the_case_of_names_and_words_means_nothing"
LIKE = "unit/test_rule_laws.py::test_like_matches_as_the_book_says"
COST = "unit/test_rule_laws.py::test_no_pattern_costs_many_times_what_a_comparison_does"
PATTERNS = "service_layer/rules/patterns.py"
COPIES = "unit/test_rules.py::test_three_plain_rules_and_two_with_actions_that_all_match_make_three_copies"

PLANTS: list[Plant] = [
    plant(
        "two-valued logic: NOT UNKNOWN is true",
        TABLE,
        CONDITIONS,
        "        return None if truth is None else not truth\n",
        "        return not truth\n",
    ),
    plant(
        "two-valued logic: UNKNOWN AND TRUE is false",
        TABLE,
        CONDITIONS,
        "            if found is False:\n                return False\n            if found is None:\n"
        "                truth = None\n",
        "            if not found:\n                return False\n",
    ),
    plant(
        "UNKNOWN matches",
        "unit/test_rules.py::test_only_true_matches",
        RULE,
        "plain = plain or rule.filter(properties) is True",
        "plain = plain or rule.filter(properties) is not False",
    ),
    plant(
        "NULL = NULL is true",
        TABLE,
        CONDITIONS,
        "    if a is None or b is None:\n        return None\n    if type(a) is type(b):",
        "    if type(a) is type(b):",
    ),
    plant(
        "a text and a number compare as unequal",
        INTERPRETER,
        CONDITIONS,
        "  # the line above has looked\n    return None\n",
        "  # the line above has looked\n    return compares is operator.ne\n",
    ),
    plant(
        "names of properties are case-sensitive in a filter",
        CASE,
        "adapters/rule_parser.py",
        "        name = name.lower()\n        return lambda properties: properties.user.get(name)\n",
        "        return lambda properties: properties.user.get(name)\n",
    ),
    plant(
        "names of properties are case-sensitive in a message",
        TABLE,
        VALUES,
        "self.user: dict[str, Value] = {name.lower(): value for name, value in user.items()}",
        "self.user: dict[str, Value] = dict(user)",
    ),
    plant(
        "texts are compared in any case",
        TABLE,
        PATTERNS,
        "        return text.startswith(self._piece, at)\n",
        "        return text.lower().startswith(self._piece.lower(), at)\n",
    ),
    plant(
        "IN forgets that it compared with NULL",
        TABLE,
        CONDITIONS,
        "            found = _compared(operator.eq, sought, item(properties))\n            if found is True:\n"
        "                return True\n            if found is None:\n                truth = None\n",
        "            if _compared(operator.eq, sought, item(properties)) is True:\n                return True\n",
    ),
    plant(
        "a pattern need not fit the whole text",
        LIKE,
        PATTERNS,
        "        return lambda text: len(text) == first.length and",
        "        return lambda text: len(text) >= first.length and",
    ),
    plant(
        "an escaped wildcard is one",
        LIKE,
        PATTERNS,
        "            pieces[-1].append(literal)\n",
        '            pieces[-1].append(_ANY if literal == "_" else literal)\n',
    ),
    plant(
        "two pieces of a pattern share characters of the text",
        LIKE,
        PATTERNS,
        "        if at > end or not first",
        "        if not first",
    ),
    plant(
        "a piece with _ is found where the one before it stands",
        LIKE,
        PATTERNS,
        "(1 << end - self.length + 1) - (1 << start)",
        "(1 << end - self.length + 1) - 1",
    ),
    plant(
        "a piece is tried at each place of the text",
        COST,
        PATTERNS,
        "        found = text.find(self._piece, start, end)\n",
        "        found = next((n for n in range(start, end) if text[n : n + self.length] == self._piece), -1)\n",
    ),
    plant(
        "something is compiled of each pattern that comes with a message",
        COST,
        PATTERNS,
        "    first, *others = _pieces(pattern, escape)\n",
        '    first, *others = _pieces(pattern, escape)\n    __import__("re").compile(f"{pattern}|{escape}")\n',
    ),
    plant(
        "OR binds as closely as AND",
        TABLE,
        GRAMMAR,
        "?disjunction: conjunction (_OR conjunction)*\n?conjunction: negation (_AND negation)*\n",
        "?disjunction: conjunction (_AND conjunction)*\n?conjunction: negation (_OR negation)*\n",
    ),
    plant(
        "integers divide downwards",
        "unit/test_rule_laws.py::test_integers_divide_towards_zero_and_never_wrap",
        ARITHMETIC,
        "    return abs(a) // abs(b) * (1 if (a < 0) is (b < 0) else -1)\n",
        "    return a // b\n",
    ),
    plant(
        "integers have more than 64 bits",
        "unit/test_rule_laws.py::test_integers_divide_towards_zero_and_never_wrap",
        ARITHMETIC,
        "    if not LEAST <= value <= MOST:\n",
        "    if value is None:\n",
    ),
    plant(
        "one copy too few: an action takes the place of the plain copy",
        COPIES,
        RULE,
        "    return [properties, *copies] if plain else copies\n",
        "    return copies or ([properties] if plain else [])\n",
    ),
    plant(
        "one copy too many: each plain rule makes its own",
        COPIES,
        RULE,
        "                plain = plain or rule.filter(properties) is True\n",
        "                copies += [properties] if rule.filter(properties) is True else []\n",
    ),
    plant(
        "a copy does not tell its rule",
        COPIES,
        RULE,
        "                copies[-1].set(RULE_NAME, rule.name)\n",
        "",
    ),
    plant(
        "an action changes the message itself",
        "unit/test_rules.py::test_the_message_itself_and_the_other_copies_stay_as_they_were",
        RULE,
        "        copy = properties.copy()\n",
        "        copy = properties\n",
    ),
    plant(
        "an action that is too long is taken",
        "unit/test_rules.py::test_what_is_no_action_is_refused_with_its_place",
        "adapters/rule_parser.py",
        "        if len(listed) > MOST_STATEMENTS:\n",
        "        if len(listed) > 2 * MOST_STATEMENTS:\n",
    ),
    plant(
        "a system property that messages have not got is NULL",
        "unit/test_rule_table.py::test_what_is_no_filter_is_refused_with_its_place_and_advice",
        VALUES,
        "    return _SYSTEM.get(name.lower())\n",
        "    return _SYSTEM.get(name.lower(), name)\n",
    ),
    plant(
        "a correlation filter takes a number for a text",
        "unit/test_rules.py::test_a_correlation_filter_is_equal_to_all_of_it",
        RULE,
        "        return type(value) is type(wanted) and value == wanted\n",
        "        return str(value) == str(wanted)\n",
    ),
    plant(
        "stock on hand has an eta of NULL",
        "unit/test_rules.py::test_stock_on_hand_has_no_eta",
        "service_layer/rules/of_messages.py",
        "for name, value in fields.items() if isinstance(value, str | int | float | date)}",
        "for name, value in fields.items() if not isinstance(value, tuple)}",
    ),
    plant(
        "SET in a double leaves an integer",
        "unit/test_rules.py::test_an_integer_becomes_a_double_where_one_is",
        STATEMENTS,
        "            value = float(value)\n",
        "            pass\n",
    ),
    plant(
        "a condition that is false does not say what the event has",
        "e2e/test_cli_rules.py::test_a_rule_that_does_not_match_says_why_and_shows_no_copy",
        "service_layer/rules/rule.py",
        "    if truth:\n",
        "    if truth is not None:\n",
    ),
    plant(
        "a field that is None gets a twin in another case when it is set",
        "unit/test_rules.py::test_a_field_that_is_set_keeps_its_spelling_whether_or_not_it_was_there",
        "service_layer/rules/copies.py",
        "{spelled.get(name.lower(), name): value for",
        "{name: value for",
    ),
]
