"""What has to be there at a broker before it is used: our queues and topics, and the subscriptions of others."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from allocation.service_layer.rules.rule import Rule
from allocation.service_layer.rules.values import Value


@dataclass(frozen=True, slots=True)
class Correlated:
    """A filter that requires all of these properties to be equal, for brokers that have a cheaper form for that than a
    text: user properties, and system properties (named as in SYSTEM_PROPERTIES)."""

    user: Mapping[str, Value]
    system: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class WantedRule:
    """A rule of ours. `correlated` is its filter in that other form, if it was given in it."""

    rule: Rule
    correlated: Correlated | None = None


@dataclass(frozen=True, slots=True)
class WantedSubscription:
    """A subscription to one of our topics, with all of its rules; none: it gets everything. `by_sku`: each sku's
    messages are a session, in order, for a consumer that receives by sessions; else order is not kept."""

    topic: str
    name: str
    rules: Sequence[WantedRule] = ()
    by_sku: bool = True


class Provisioner(ABC):
    """Creates at a broker what is missing. Callers may not assume that what exists is changed, except the rules of the
    subscriptions that they name: these are as wanted afterwards."""

    @abstractmethod
    def provision(self, subscriptions: Sequence[WantedSubscription]) -> Iterator[str]:
        """Yields a sentence for each step, when it is done. What was done before a failure stays done.

        Raises `Unavailable` if the broker cannot be reached, `Rejected` if it refuses something."""
