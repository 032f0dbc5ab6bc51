"""`allocation topology provision`: create at a broker what is missing, and subscriptions with our rules."""

from __future__ import annotations

import sys
from typing import Annotated, BinaryIO

import click
import msgspec

from allocation.entrypoints.bounded import read_whole
from allocation.service_layer.broker import FACTS, STOCK_LEVEL
from allocation.service_layer.errors import Rejected, SetupError
from allocation.service_layer.provisioning import Correlated, WantedRule, WantedSubscription
from allocation.service_layer.rules.arithmetic import LEAST, MOST
from allocation.service_layer.rules.rule import Rule, RuleParser, correlation_filter, scoped
from allocation.service_layer.rules.values import BadRule

Integer = Annotated[int, msgspec.Meta(ge=LEAST, le=MOST)]


class RuleSaid(msgspec.Struct, forbid_unknown_fields=True):
    """A rule in the file. Its filter is a text, or the properties that an event must have."""

    filter: str | dict[str, str | Integer | float | bool] = "1=1"
    action: str | None = None


class SubscriptionSaid(msgspec.Struct, forbid_unknown_fields=True):
    """A subscription in the file. The name is at most 50 characters long (Service Bus)."""

    topic: str = FACTS
    by_sku: bool = True
    rules: dict[str, RuleSaid] = {}  # safe: a Struct copies a mutable default


Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,48}[A-Za-z0-9])?$")]


def subscriptions_in(text: bytes, parser: RuleParser) -> list[WantedSubscription]:
    """Raises `SetupError`, whose message says what is wrong with the file, and where."""
    try:
        said = msgspec.json.decode(text, type=dict[Name, SubscriptionSaid])
    except (msgspec.DecodeError, UnicodeError, RecursionError) as wrong:
        raise SetupError(f"The subscriptions cannot be read: {wrong}") from wrong
    return [_subscription(name, one, parser) for name, one in said.items()]


def _subscription(name: str, said: SubscriptionSaid, parser: RuleParser) -> WantedSubscription:
    if said.topic not in (FACTS, STOCK_LEVEL):
        raise SetupError(f"Subscription {name}: there is no topic {said.topic}, only {FACTS} and {STOCK_LEVEL}")
    rules = []
    for rule, content in said.rules.items():
        try:
            rules.append(_rule(rule, content, parser))
        except BadRule as bad:
            raise SetupError(f"Subscription {name}, rule {rule}: {bad}") from bad
    return WantedSubscription(said.topic, name, rules, said.by_sku)


def _rule(name: str, said: RuleSaid, parser: RuleParser) -> WantedRule:
    action = None if said.action is None else parser.action(said.action)
    if isinstance(said.filter, str):
        return WantedRule(Rule(name, parser.filter(said.filter), action))
    user, system = scoped(said.filter.items())
    return WantedRule(Rule(name, correlation_filter(user, system), action), Correlated(user, system))


@click.command(short_help="Create queues, topics and subscriptions at Azure Service Bus.")
@click.argument("file", type=click.File("rb"), required=False)
def provision(file: BinaryIO | None) -> None:
    """Create what is missing at Azure Service Bus: the queue of commands, the topics, and the subscriptions in FILE.

    FILE is JSON (- reads stdin): subscriptions by name, each with a topic (facts, if it is left out) and rules by name.
    A filter is a text, or an object of the properties that an event must have; an action is a text. Try both with
    `allocation rules try`. "by_sku": false makes a subscription without sessions, which does not keep the order.

    Afterwards a subscription has the rules in FILE, and no others; without rules it gets everything. Anything else that
    already exists is left as it is.

    \b
    Example:
      echo '{"big-orders": {"rules": {
                "big":    {"filter": "qty >= 100", "action": "SET priority = 1"},
                "chairs": {"filter": {"sku": "RED-CHAIR", "sys.Subject": "Allocated"}}}}}' |
          ALLOCATION_PUBLISH_TO=servicebus:// allocation topology provision -
    """
    from allocation.bootstrap import provisioners, rule_parser
    from allocation.config import load_settings

    settings, text = load_settings(), b"{}"
    if file is not None:
        advice = "Make fewer subscriptions at a time, or raise ALLOCATION_BODY_LIMIT_BYTES."
        text = read_whole(file, settings.body_limit_bytes, advice)
    wanted = subscriptions_in(text, rule_parser())
    found = provisioners(settings)
    if not found:
        raise SetupError(
            "No broker that can be provisioned is named: ALLOCATION_PUBLISH_TO or ALLOCATION_RECEIVE_FROM has to name "
            "servicebus://"
        )
    try:
        for provisioner in found:
            for step in provisioner.provision(wanted):
                click.echo(step)
                sys.stdout.flush()
    except Rejected as rejected:
        raise click.ClickException(str(rejected)) from rejected
