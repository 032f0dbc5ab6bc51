"""`allocation rules`: try a rule on an event before a subscription uses it."""

from __future__ import annotations

import math
import re
import sys
from datetime import datetime
from typing import TYPE_CHECKING

import click

from allocation.entrypoints.console import as_json, console, print_json, table

if TYPE_CHECKING:  # imported when a command runs, as in `cli`
    from collections.abc import Sequence

    from allocation.service_layer.rules.rule import Finding
    from allocation.service_layer.rules.values import BadRule, Properties, Truth, Value

_NAMES: dict[Truth, str] = {True: "true", False: "false", None: "unknown"}


@click.group(short_help="Try a subscription rule on an event.")
def rules() -> None:
    """Rules of subscriptions: filters and actions, in the SQL of Azure Service Bus. The same text works there.

    A filter sees an event's properties, never its body: orderid, sku, qty, batchref, ref, eta, type, time, version,
    partition, sequence, correlation_id and others, and sys.MessageId, sys.SessionId (the sku), sys.Subject (the type).
    The type is the event's name, as in Allocated, without the prefix `allocation.` that it has in a CloudEvent.
    """


@rules.command("try", short_help="Whether a filter matches an event, and what an action does to it.")
@click.argument("filter_text", metavar="FILTER")
@click.argument("action_text", metavar="[ACTION]", required=False)
@click.option(
    "--name",
    default="$Default",
    show_default=True,
    help="The rule's name, which is set on the copies that its action makes.",
)
@as_json
def try_rule(filter_text: str, action_text: str | None, name: str, as_json: bool) -> None:
    """Try a rule on the event on stdin: whether it matches, the result of each condition, and the copy's properties.

    The event is a CloudEvent as `allocation events --json` prints it and /v1/events returns it, or a plain JSON object
    of properties, with system properties named "sys.MessageId" and so on. A filter is true, false, or unknown, for
    example if it compares with a property that the event does not have; only true matches. Put texts in single quotes.

    \b
    Examples:
      allocation events --limit 1 --json | allocation rules try "sku LIKE 'RED-%' AND qty >= 10"
      echo '{"qty": 12, "price": 2.5}' |
          allocation rules try "qty > 10" "SET total = qty * price; REMOVE price"
    """
    from allocation.bootstrap import rule_parser
    from allocation.entrypoints.rule_input import MOST_BYTES, UnreadableEvent, read_properties
    from allocation.service_layer.rules.rule import Rule, apply_rules, explain
    from allocation.service_layer.rules.values import BadRule, RuleFailed

    parser = rule_parser()
    try:
        action = None if action_text is None else parser.action(action_text)
        rule = Rule(name, parser.filter(filter_text), action)
    except BadRule as bad:
        raise click.UsageError(_pointed(bad)) from bad
    if sys.stdin.isatty():
        raise click.UsageError(
            "The event comes on stdin: allocation events --limit 1 --json | allocation rules try ..."
        )
    try:
        properties = read_properties(sys.stdin.buffer.read(MOST_BYTES + 1))
    except UnreadableEvent as unreadable:
        raise click.UsageError(str(unreadable)) from unreadable
    try:
        findings, truth = explain(rule.filter, properties), rule.filter(properties)
        copies = apply_rules([rule], properties)
    except RuleFailed as failure:
        raise click.ClickException(f"The rule cannot be evaluated for this event. {failure}.") from failure
    copy = copies[0] if copies else None
    if as_json:
        _print_as_json(truth, findings, copy)
    else:
        _print(truth, findings, properties, copy)
        for name in _named_in_double_quotes(filter_text, properties):
            click.echo(f"Put a text in single quotes; in double quotes, {name} is a name.")


def _pointed(bad: BadRule) -> str:
    """The error message, and below it the text with the place marked."""
    if bad.position is None:
        return str(bad)
    begin = max(0, bad.position - 60)
    line = "".join(" " if x.isspace() else x for x in bad.text[begin : bad.position + 15])
    return f"{bad}\n\n  {line}\n  {' ' * (bad.position - begin)}^"


def _named_in_double_quotes(text: str, properties: Properties) -> list[str]:
    """Names in double quotes that are no property of the event; they may have been meant as texts."""
    there = {name.lower() for name in properties.named()}
    names = re.findall(r'"((?:[^"]|"")+)"', re.sub(r"'[^']*'", "", text))
    return [name for name in dict.fromkeys(names) if name.lower() not in there]


def _print(truth: Truth, findings: Sequence[Finding], properties: Properties, copy: Properties | None) -> None:
    from allocation.service_layer.rules.values import literal

    told = {True: "true: the rule matches.", False: "false: no match.", None: "unknown: no match; only true matches."}
    click.echo(told[truth])
    console().print(table("condition", "is", "since", rows=[(x.term, _NAMES[x.truth], x.why) for x in findings]))
    if copy is None:
        return
    before, after = properties.as_rules_name_them(), copy.as_rules_name_them()
    rows = [
        (name, literal(after[name]) if name in after else "", _change(name, before, after)) for name in before | after
    ]
    click.echo()
    console().print(table("property", "of the copy", "by the action", rows=rows))


def _change(name: str, before: dict[str, Value], after: dict[str, Value]) -> str:
    if name not in after:
        return "removed"
    if name not in before:
        return "added"
    was, stays = before[name], after[name]
    return "" if type(was) is type(stays) and was == stays else "changed"


def _print_as_json(truth: Truth, findings: Sequence[Finding], copy: Properties | None) -> None:
    conditions = [{"condition": x.term, "is": _NAMES[x.truth], "since": x.why} for x in findings]
    shown = None if copy is None else {name: _for_json(value) for name, value in copy.as_rules_name_them().items()}
    print_json({"verdict": _NAMES[truth], "matches": truth is True, "conditions": conditions, "properties": shown})


def _for_json(value: Value) -> Value:
    """A value as text where JSON cannot represent it: times, and doubles that are infinite or NaN."""
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
