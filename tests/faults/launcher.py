"""`python -m tests.faults.launcher serve|worker|consumer`: the real command, which can be struck at named points.

It changes timing only, not behaviour: what it wraps does the same as ever, and a process that nobody strikes does what
`allocation serve|worker|consumer` does. The one difference is that a commit which is armed is sent apart from the
statements before it, so that there is a moment between them.
"""

import os
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, event

from allocation.adapters.brokers.redis_streams_receiver import RedisStreamsReceiver
from allocation.adapters.sql.dialects import Outcome, PostgresDialect, SqliteDialect, Step
from allocation.adapters.sql.subscriptions import SqlSubscriptionStore
from allocation.entrypoints.cli import main as allocation
from allocation.service_layer.messagebus import MessageBus
from tests.faults.trigger import (
    AFTER_COMMIT,
    BEFORE_ACKNOWLEDGEMENT,
    BEFORE_COMMIT,
    BEFORE_CURSOR,
    VARIABLE,
    Trigger,
    point,
)

ROLES = {"serve": "web", "worker": "worker", "consumer": "consumer"}


def at_commits_of_commands(trigger: Trigger, role: str) -> None:
    """Before: everything is written, nothing committed. After: committed, nobody told."""
    before, after = point(role, BEFORE_COMMIT), point(role, AFTER_COMMIT)

    def striking(run: Callable[..., list[Outcome]]) -> Callable[..., list[Outcome]]:
        def wrapped(self: Any, connection: Connection, asked: Iterable[Step]) -> list[Outcome]:
            steps = list(asked)
            if not steps or steps[-1].sql != "COMMIT":
                return run(self, connection, steps)
            if trigger.is_armed(before):
                outcomes = run(self, connection, steps[:-1])
                trigger.pass_by(before)
                return [*outcomes, *run(self, connection, steps[-1:])]
            outcomes = run(self, connection, steps)
            trigger.pass_by(after)
            return outcomes

        return wrapped

    for dialect in (SqliteDialect, PostgresDialect):
        dialect.run = striking(dialect.run)  # type: ignore[method-assign]  # that is what this file is for


def around_deliveries(trigger: Trigger) -> None:
    """Between a delivery and the cursor, and on both sides of the commit that moves the cursor."""
    settle, react = SqlSubscriptionStore.settle, MessageBus.react
    here = threading.local()

    def settling(self: Any, lease: Any, *rest: Any) -> Any:
        here.subscription = lease.subscription
        try:
            return settle(self, lease, *rest)
        finally:
            here.subscription = ""

    def reacting(self: Any, name: str, *rest: Any) -> Any:
        outcomes = react(self, name, *rest)
        if any(outcome is None for outcome in outcomes):
            trigger.pass_by(point("worker", BEFORE_CURSOR, name))
        return outcomes

    def at(moment: str) -> Callable[..., None]:
        def passing(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
            if statement == "COMMIT" and (subscription := getattr(here, "subscription", "")):
                trigger.pass_by(point("worker", moment, subscription))

        return passing

    event.listen(Engine, "before_cursor_execute", at(BEFORE_COMMIT))
    event.listen(Engine, "after_cursor_execute", at(AFTER_COMMIT))
    SqlSubscriptionStore.settle = settling  # type: ignore[method-assign]  # as above
    MessageBus.react = reacting  # type: ignore[method-assign]  # as above


def before_acknowledgements(trigger: Trigger) -> None:
    """What was received is handled and committed, and the broker does not know."""
    accept = RedisStreamsReceiver.accept

    def accepting(self: Any, deliveries: Sequence[Any]) -> None:
        if deliveries:
            trigger.pass_by(point("consumer", BEFORE_ACKNOWLEDGEMENT))
        accept(self, deliveries)

    RedisStreamsReceiver.accept = accepting  # type: ignore[method-assign]  # as above


def main(arguments: Sequence[str]) -> None:
    trigger = Trigger(Path(os.environ[VARIABLE]))
    at_commits_of_commands(trigger, ROLES[arguments[0]])
    around_deliveries(trigger)
    before_acknowledgements(trigger)
    allocation(list(arguments))


if __name__ == "__main__":
    main(sys.argv[1:])
