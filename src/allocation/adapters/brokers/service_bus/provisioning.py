"""Creates queues, topics and subscriptions at Service Bus, through its administration client.

The rules of subscriptions are ours word for word: a SQL filter, or a correlation filter, and a SQL action. New rules
are created before old ones are removed, so that no message is missed; `$Default`, which lets everything through, goes
last.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from azure.core.exceptions import AzureError, HttpResponseError, ResourceExistsError
from azure.core.pipeline.transport import RequestsTransport
from azure.servicebus.management import (
    CorrelationRuleFilter,
    RuleProperties,
    ServiceBusAdministrationClient,
    SqlRuleAction,
    SqlRuleFilter,
)

from allocation.adapters.brokers.service_bus.address import Address, entity_of
from allocation.service_layer.broker import COMMANDS, FACTS, STOCK_LEVEL
from allocation.service_layer.errors import Rejected, Unavailable
from allocation.service_layer.provisioning import Provisioner, WantedRule, WantedSubscription
from allocation.service_layer.rules.rule import DEFAULT

LOCK, WINDOW = timedelta(minutes=1), timedelta(minutes=10)
MOST_DELIVERIES = 1_000
"""A lost session lock counts as a delivery of every prefetched message; the consumer parks the one that is to blame."""
PASSING = (401, 403, 408, 429)

_CORRELATION = {
    "ContentType": "content_type",
    "CorrelationId": "correlation_id",
    "MessageId": "message_id",
    "ReplyTo": "reply_to",
    "ReplyToSessionId": "reply_to_session_id",
    "SessionId": "session_id",
    "Subject": "label",
    "To": "to",
}
_EMULATOR = re.compile(r"UseDevelopmentEmulator=true", re.IGNORECASE)
_ENDPOINT = re.compile(r"(Endpoint=sb://[^:/;]+)(?::\d+)?", re.IGNORECASE)


class ServiceBusProvisioner(Provisioner):
    def __init__(self, address: Address, namespace: str) -> None:
        self._address, self._namespace = address, namespace

    def provision(self, subscriptions: Sequence[WantedSubscription]) -> Iterator[str]:
        with client_of(self._address) as client:
            yield from self._ours(client)
            for wanted in subscriptions:
                yield from self._subscription(client, wanted)

    def _ours(self, client: ServiceBusAdministrationClient) -> Iterator[str]:
        queue = entity_of(self._namespace, COMMANDS)
        made = _made(
            f"queue {queue}",
            client.create_queue,
            queue,
            lock_duration=LOCK,
            requires_session=True,
            requires_duplicate_detection=True,
            duplicate_detection_history_time_window=WINDOW,
            dead_lettering_on_message_expiration=True,
            max_delivery_count=MOST_DELIVERIES,
        )
        yield made
        for topic in (FACTS, STOCK_LEVEL):
            name = entity_of(self._namespace, topic)
            yield _made(
                f"topic {name}",
                client.create_topic,
                name,
                requires_duplicate_detection=True,
                duplicate_detection_history_time_window=WINDOW,
            )

    def _subscription(self, client: ServiceBusAdministrationClient, wanted: WantedSubscription) -> Iterator[str]:
        topic = entity_of(self._namespace, wanted.topic)
        yield _made(
            f"subscription {topic}/{wanted.name}",
            client.create_subscription,
            topic,
            wanted.name,
            lock_duration=LOCK,
            requires_session=wanted.by_sku,
            dead_lettering_on_message_expiration=True,
            dead_lettering_on_filter_evaluation_exceptions=True,
        )
        yield from self._rules(client, (topic, wanted.name), wanted.rules or [WantedRule(DEFAULT)])

    def _rules(
        self, client: ServiceBusAdministrationClient, place: tuple[str, str], wanted: Sequence[WantedRule]
    ) -> Iterator[str]:
        subscription = "/".join(place)
        with translated(f"the rules of {subscription}"):
            there = {rule.name: rule for rule in client.list_rules(*place)}
        for one in wanted:
            name, parts = one.rule.name, _parts(one)
            with translated(f"rule {name} of {subscription}"):
                if name not in there:
                    client.create_rule(*place, name, **parts)
                    done = "created"
                elif _said(there[name]) != _said(rule := _anew(there[name], parts)):
                    client.update_rule(*place, rule)
                    done = "changed"
                else:
                    done = "exists already"
            yield f"rule {name} of {subscription}: {done}"
        others = there.keys() - {one.rule.name for one in wanted}
        for name in sorted(others, key=lambda name: (name == DEFAULT.name, name)):
            with translated(f"rule {name} of {subscription}"):
                client.delete_rule(*place, name)
            yield f"rule {name} of {subscription}: removed"


def _made(what: str, create: Any, *names: str, **settings: Any) -> str:
    with translated(what):
        try:
            create(*names, **settings)
        except ResourceExistsError:
            return f"{what}: exists already"
    return f"{what}: created"


def _parts(wanted: WantedRule) -> dict[str, Any]:
    action = wanted.rule.action
    parts: dict[str, Any] = {"action": None if action is None else SqlRuleAction(action.text)}
    if wanted.correlated is None:
        return parts | {"filter": SqlRuleFilter(wanted.rule.filter.text)}
    system = {_CORRELATION[name]: value for name, value in wanted.correlated.system.items()}
    user: dict[str, Any] = dict(wanted.correlated.user)
    return parts | {"filter": CorrelationRuleFilter(**system, properties=user)}


def _anew(there: RuleProperties, parts: dict[str, Any]) -> RuleProperties:
    """The rule with these parts. If the client is given them beside the old rule, it writes the old rule's values."""
    return RuleProperties(there.name, created_at_utc=there.created_at_utc, **parts)


def _said(rule: RuleProperties) -> tuple[object, ...]:
    """What a rule says, for comparison. A number does not equal a boolean, nor an integer a double."""
    filter: Any = rule.filter
    action = getattr(rule.action, "sql_expression", None)
    if isinstance(filter, CorrelationRuleFilter):
        system = {name: value for name in _CORRELATION.values() if (value := getattr(filter, name)) is not None}
        user = {name: (type(value), value) for name, value in (filter.properties or {}).items()}
        return "correlation", system, user, action
    return "sql", getattr(filter, "sql_expression", None), action


def client_of(address: Address) -> ServiceBusAdministrationClient:
    """The emulator speaks plain HTTP, on a port of its own, which is missing from its connection string."""
    quick: dict[str, Any] = {"retry_total": 2, "connection_timeout": address.patience_seconds}
    if not _EMULATOR.search(address.connection):
        return ServiceBusAdministrationClient.from_connection_string(address.connection, **quick)
    connection = _ENDPOINT.sub(rf"\g<1>:{address.admin_port}", address.connection)
    return ServiceBusAdministrationClient.from_connection_string(connection, transport=PlainHttp(), **quick)


class PlainHttp(RequestsTransport):  # type: ignore[misc]  # it is untyped
    """For the emulator: the administration client knows only `https://` URLs."""

    def send(self, request: Any, **settings: Any) -> Any:
        request.url = request.url.replace("https://", "http://", 1)
        return super().send(request, **settings)


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Translates failures of the administration client."""
    try:
        yield
    except HttpResponseError as failure:
        words, status = " ".join(str(failure.message).split())[:500], failure.status_code or 0
        if 400 <= status < 500 and status not in PASSING:
            raise Rejected(f"Service Bus rejected {what}: {words}") from failure
        raise Unavailable(f"Service Bus cannot provide {what} now: {words}") from failure
    except AzureError as failure:
        words = " ".join(str(failure).split())[:300]
        raise Unavailable(f"Service Bus does not answer for {what}: {words}") from failure
