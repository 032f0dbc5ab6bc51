"""`allocation lanes`: what could not be delivered, and what to do about it."""

from __future__ import annotations

import getpass
import shlex
from typing import TYPE_CHECKING

import click
import msgspec

from allocation.entrypoints import opened
from allocation.entrypoints.console import as_json, console, print_json, table

if TYPE_CHECKING:  # imported when a command runs, as in `cli`
    from allocation.bootstrap import Application
    from allocation.service_layer.envelope import EventEnvelope
    from allocation.service_layer.subscriptions import Lane

NO_LANES = (
    "No lanes: no refused event is waiting. Events that wait for a destination that cannot be reached are counted in "
    "`allocation subscriptions list`; the log of the program that delivers them says why."
)
SUBSCRIPTION, KEY = click.argument("subscription"), click.argument("key")


@click.group(short_help="What could not be delivered: list, show, retry, discard.")
def lanes() -> None:
    """Keys (skus) that lag behind a subscription because its destination refuses one of their events.

    A lane is retried with growing pauses, then parked. Its later events wait behind the refused one; other keys
    continue. The worker carries out what is decided here; it need not be stopped.
    """


@lanes.command("list")
@as_json
def list_lanes(as_json: bool) -> None:
    """Every lane: its next event, the attempts so far, when the next one is due, and why the last one failed."""
    with opened.application() as application:
        found = application.subscriptions.lanes()
    if as_json:
        print_json({"lanes": msgspec.to_builtins(found)})
    elif not found:
        click.echo(NO_LANES)
    else:
        rows = [(x.subscription, x.key, _place(x), x.attempts, _due(x), x.reason) for x in found]
        console().print(table("subscription", "key", "next event", ">attempts", "next try", "reason", rows=rows))


@lanes.command()
@SUBSCRIPTION
@KEY
@as_json
def show(subscription: str, key: str, as_json: bool) -> None:
    """One lane, with the event that was refused."""
    with opened.application() as application:
        lane = _lane(application, subscription, key)
        event = _next_event(application, lane)
    if as_json:
        print_json({"lane": msgspec.to_builtins(lane), "event": msgspec.to_builtins(event)})
        return
    _print(lane, event)


@lanes.command()
@SUBSCRIPTION
@KEY
def retry(subscription: str, key: str) -> None:
    """Try a lane again now, and count its attempts from zero."""
    with opened.application() as application:
        if not application.subscriptions.set_due(subscription, key):
            raise _no_lane(subscription, key)
    click.echo(f"{key} will be tried again at once in {subscription}.")


def _own_name() -> str | None:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run as a user without a name: --who is needed then
        return None


@lanes.command()
@SUBSCRIPTION
@KEY
@click.option(
    "--event", "place", metavar="POSITION", help="The position of the next event, as `list` and `show` print it."
)
@click.option("--why", required=True, help="The reason; kept permanently, with your name.")
@click.option("--who", default=_own_name, show_default="you", help="Who made this decision.")
def discard(subscription: str, key: str, place: str | None, why: str, who: str | None) -> None:
    """Skip the refused event, and go on with the next one of its key. This is the only way an event is ever skipped.

    Giving the command twice skips the event once. Without --event nothing is skipped: the next event is shown, and the
    command that skips it.

    \b
    Example:
      allocation lanes discard send_out_of_stock_notification RED-CHAIR --event 0-17 --why "told them by telephone"
    """
    if who is None:
        raise click.UsageError("This system has no user name for you: give your name with --who.")
    with opened.application() as application:
        lane = _lane(application, subscription, key)
        event = _next_event(application, lane)
        if event is None and place in (None, _place(lane)):
            raise click.ClickException(f"{key} has no event in {subscription} that could be skipped.")
        if place is None:
            _print(lane, event)
            words = ["allocation", "lanes", "discard", subscription, key, "--event", _place(lane), "--why", why]
            command = shlex.join(words + (["--who", who] if who != _own_name() else []))
            raise click.ClickException(f"Nothing is skipped yet. To skip this event:\n  {command}")
        is_next = place == _place(lane)
        if not (is_next and application.subscriptions.set_due(subscription, key, (who, why), lane.next_seq)):
            raise click.ClickException(
                f"{place} is not the next event of {key} in {subscription}: `allocation lanes show` shows the next one."
            )
    click.echo(f"{place} of {key} will be skipped in {subscription}.")


def _lane(application: Application, subscription: str, key: str) -> Lane:
    lane = next((x for x in application.subscriptions.lanes(subscription) if x.key == key), None)
    if lane is None:
        raise _no_lane(subscription, key)
    return lane


def _no_lane(subscription: str, key: str) -> click.ClickException:
    return click.ClickException(f"{key} has no lane in {subscription}: `allocation lanes list` shows all.")


def _next_event(application: Application, lane: Lane) -> EventEnvelope | None:
    """The event the lane waits with. The lane's place may be before it, after a rewind or when an event is done."""
    from allocation.service_layer.pull_locks import HEAD

    return next(iter(application.subscriptions.read_key(lane, HEAD, 1)), None)


def _print(lane: Lane, event: EventEnvelope | None) -> None:
    facts: list[tuple[str, object]] = [("next event", _place(lane)), ("reason", lane.reason)]
    facts += [("attempts", lane.attempts), ("next try", _due(lane))]
    if event is not None:
        facts += [("event", event.event), ("event id", event.id), ("caused by", event.causation_id)]
        facts += [("correlation", event.correlation_id), ("trace", event.traceparent or ""), ("time", event.time)]
    console().print(table("what", "is", rows=facts))


def _place(lane: Lane) -> str:
    return f"{lane.partition}-{lane.next_seq}"


def _due(lane: Lane) -> str:
    return "parked" if lane.due_at is None else f"{lane.due_at:%Y-%m-%d %H:%M:%S}"
