"""The copies of a message that a subscription's rules make, as messages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from allocation.service_layer.broker import Message
from allocation.service_layer.rules.of_messages import fields_of, properties_of
from allocation.service_layer.rules.rule import EVERYTHING, RULE_NAME, Rule, apply_rules
from allocation.service_layer.rules.values import Properties, Value

RULE_EXTENSION = "rulename"


def copies_of(rules: Sequence[Rule], message: Message) -> list[Message]:
    """What a subscriber gets of a message: nothing, itself, and a copy for each rule with an action that matches.

    What an action changed is changed in the copy's `data`: set, or removed, under the property's name (`sys.NAME` for a
    system property). Identity and position in the log stay, except the id: a copy is a message of its own, and
    consumers drop ids that they have seen; so its id ends in `:` and the rule's name, which is in `rulename`, too.

    Raises `RuleFailed` as `apply_rules` does.
    """
    if len(rules) == 1 and rules[0].filter is EVERYTHING and rules[0].action is None:
        return [message]
    before = properties_of(message)
    return [
        message if copy is before else _changed(message, before.copy(), copy) for copy in apply_rules(rules, before)
    ]


def _changed(message: Message, before: Properties, copy: Properties) -> Message:
    rule = str(copy.user[RULE_NAME.lower()])
    copy.remove(RULE_NAME)
    was, now = before.as_rules_name_them(), copy.as_rules_name_them()
    fields = fields_of(message.data)
    spelled = {name.lower(): name for name in fields}  # a field that is no property, as it is None, has a spelling, too
    data = {name: value for name, value in fields.items() if name not in was or name in now}
    changed = {name: value for name, value in now.items() if name not in was or not _same(was[name], value)}
    data |= {spelled.get(name.lower(), name): value for name, value in changed.items()}
    extensions = {**message.extensions, RULE_EXTENSION: rule}
    return replace(message, id=f"{message.id}:{rule}", data=data, extensions=extensions)


def _same(a: Value, b: Value) -> bool:
    return type(a) is type(b) and a == b
