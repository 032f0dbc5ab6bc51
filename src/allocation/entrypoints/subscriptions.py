"""`allocation subscriptions`: who reads the log, and how far they have come."""

from __future__ import annotations

import sys
from contextlib import suppress
from select import select
from typing import TYPE_CHECKING, BinaryIO

import click
import msgspec

from allocation.entrypoints import opened
from allocation.entrypoints.bounded import not_json, read_whole
from allocation.entrypoints.console import as_json, console, print_json, table
from allocation.entrypoints.importing.rows import shown
from allocation.entrypoints.moments import parse_at
from allocation.entrypoints.topology import PULLED_BY, deliverer
from allocation.service_layer.envelope import LogPosition
from allocation.service_layer.errors import UnknownSubscription

if TYPE_CHECKING:  # imported when a command runs, as in `cli`
    from allocation.bootstrap import Application


AT_A_TIME = 5
"""Events: about as many as surely fit into a pipe that has room (4 KiB), so no lock runs while its reader is busy."""


@click.group(short_help="Who reads the log, and how far; define one, pull from it.")
def subscriptions() -> None:
    """Named readers of the log, each with a cursor of its own: mail, brokers, read models, and those you define."""


@subscriptions.command("list")
@as_json
def list_subscriptions(as_json: bool) -> None:
    """Every subscription: its place in the log, how far behind it is, its lanes, and who delivers."""
    with opened.application() as application:
        cursors, lanes = application.subscriptions.cursors(), application.subscriptions.lanes()
        pulled = {name for name, one in application.subscribers.by_name().items() if one.delivery == "pull"}
        now, nobody = application.clock.now(), f"nobody now; start {deliverer(application.settings)}"
    behind = {(c.subscription, c.partition): 0 for c in cursors}
    for lane in lanes:
        behind[lane.subscription, lane.partition] = behind.get((lane.subscription, lane.partition), 0) + 1
    if as_json:
        told = [msgspec.to_builtins(c) | {"lag_events": c.lag_events} for c in cursors]
        print_json({"subscriptions": [t | {"lanes": behind[t["subscription"], t["partition"]]} for t in told]})
        return
    rows = [
        (
            c.subscription,
            f"{c.partition}-{c.seq}",
            c.lag_events,
            behind[c.subscription, c.partition],
            PULLED_BY if c.subscription in pulled else c.owner[-12:] if c.leased_until > now else nobody,
        )
        for c in cursors
    ]
    console().print(table("subscription", "place", ">events behind", ">lanes", "delivered by", rows=rows))
    if not rows:
        console().print(
            f"No subscription has read the log yet: `{deliverer(application.settings)}` adds them when it runs."
        )


@subscriptions.command()
@click.argument("name")
@click.option(
    "--to",
    "places",
    multiple=True,
    metavar="POSITION",
    help="Start after this position, as in 0-17; give one per partition of the log. The others start at the beginning.",
)
@click.option("--yes", is_flag=True, help="Do not ask.")
def rewind(name: str, places: tuple[str, ...], yes: bool) -> None:
    """Deliver again, from the beginning of the log or from after a position.

    For a destination that has lost what it was given, such as a broker restored from an old copy, or for a new reader.
    Its readers get everything once more, under the same ids. A key that is parked further on goes back as well, and is
    tried again; a discard that has not been carried out yet is dropped. The worker need not be stopped.

    \b
    Example:
      allocation subscriptions rewind publish_facts:redis+streams --to 0-1500
    """
    with opened.application() as application:
        after = [_position(place, application.settings.log_partitions) for place in places]
        if len({position.partition for position in after}) < len(after):
            raise click.BadParameter("give each partition only once.", param_hint="--to")
        known = {s.name: s for s in application.worker.subscriptions}
        if name in known and known[name].from_the_beginning:
            raise click.ClickException(f"{name} writes a read model, which would count twice: it is never rewound.")
        if name not in {c.subscription for c in application.subscriptions.cursors()}:
            raise UnknownSubscription(name)
        if not yes:
            click.confirm(f"Deliver again to {name}, from {', '.join(places) or 'the beginning'}?", abort=True)
        moved = application.subscriptions.rewind(name, after)
    click.echo(f"{name} was moved back." if moved else f"{name} has not read that far yet; nothing changed.")


@subscriptions.command()
@click.argument("name")
@click.argument("file", type=click.File("rb"))
@as_json
def define(name: str, file: BinaryIO, as_json: bool) -> None:
    """Define or redefine a subscription by a JSON file (- is stdin), in the format of PUT /v1/subscriptions/<name>.

    The same definition again changes nothing. A subscription that exists keeps its place in the log. The secret of a
    new webhook is printed once, and never shown again.

    \b
    Example:
      echo '{"delivery": "pull", "rules": [{"name": "chairs", "filter": "sku LIKE '\\''%-CHAIR'\\''"}]}' |
          allocation subscriptions define chairs -
    """
    from allocation.entrypoints.http import subscriptions as resource
    from allocation.entrypoints.http.errors import EdgeError, Invalid, Malformed
    from allocation.entrypoints.http.parsing import read_json, validated
    from allocation.service_layer.definitions import DefinitionError

    with opened.application() as application:
        try:
            most_bytes = application.settings.body_limit_bytes
            raw = read_whole(file, most_bytes, "Define it with fewer rules, or raise ALLOCATION_BODY_LIMIT_BYTES.")
            wanted = validated(resource.SubscriptionRequest, read_json(raw))
            defined = resource.define(application, name, wanted)
        except Invalid as invalid:
            raise click.ClickException(
                "\n".join(f"{x.pointer or x.parameter}: {x.detail}" for x in invalid.faults)
            ) from invalid
        except Malformed as wrong:
            raise not_json(wrong) from wrong
        except (EdgeError, DefinitionError) as refused:
            raise click.ClickException(f"{refused}.") from refused
        told = resource.told_defined(application, defined)
    if as_json:
        print_json(msgspec.to_builtins(told))
        return
    click.echo(f"{name} {'is' if defined.is_new else 'existed already, and is now'} defined: {told.delivery}.")
    if told.secret:
        click.echo(f"Its secret, never shown again: {told.secret}")


@subscriptions.command()
@click.argument("name")
def show(name: str) -> None:
    """One subscription as JSON: its rules, where it is pushed to, its place, and why it was stopped."""
    from allocation.entrypoints.http.subscriptions import told

    with opened.application() as application:
        print_json(msgspec.to_builtins(told(application, name)))


@subscriptions.command()
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
def remove(name: str, yes: bool) -> None:
    """Remove a subscription that a user defined, and its place in the log."""
    with opened.application() as application:
        _is_defined(application, name)
        if not yes:
            click.confirm(f"Remove {name}, and its place in the log?", abort=True)
        application.subscribers.remove(name)
    click.echo(f"{name} was removed.")


@subscriptions.command()
@click.argument("name")
@click.option(
    "--most",
    type=click.IntRange(1, 10**9),
    help="Stop after this many events, each with all its copies by rules.  [default: all that are available now]",
)
@click.option("--key", metavar="SKU", help="Only events of this product.")
def pull(name: str, most: int | None, key: str | None) -> None:
    """Print events as lines of JSON, and acknowledge those that were printed.

    A line is printed before its event is acknowledged: if you are interrupted, you get it again within a minute. The
    program that reads the lines may take its time; if a line could not be printed while the lock on its product lasted,
    a message on stderr says so, and the event comes again.

    \b
    Example:
      allocation subscriptions pull chairs | while read -r event; do ...; done
    """
    from allocation.entrypoints.http.pull import delivery_read
    from allocation.service_layer.definitions import DefinitionError
    from allocation.service_layer.pull_locks import Asked

    with opened.application() as application:
        _is_defined(application, name)
        left = most
        while left is None or left > 0:
            wait_for_reader()
            asked = Asked(min(left or AT_A_TIME, AT_A_TIME), AT_A_TIME, key=key)
            try:
                received = application.pulling.receive(name, asked)
            except DefinitionError as refused:
                raise click.ClickException(f"{refused}.") from refused
            if not received.held and received.has_seen_all:
                return
            pulled = 0
            for one in received.held:
                copies = delivery_read(one).events
                for copy in copies:
                    click.echo(msgspec.json.encode(copy))
                pulled += len({copy.sequence for copy in copies})
            outcomes = application.pulling.acknowledge(name, [one.token for one in received.held])
            for one, outcome in zip(received.held, outcomes, strict=True):
                if outcome.is_lost:
                    late = f"{one.key} was printed too late to be acknowledged: its lock had expired. It comes again."
                    click.echo(late, err=True)
            left = None if left is None else left - pulled


def wait_for_reader() -> None:
    """Wait until the program that reads our output has room for more."""
    with suppress(OSError, ValueError):  # stdout is no file, or the system cannot wait for it
        select([], [sys.stdout], [])


def _is_defined(application: Application, name: str) -> None:
    """Raises `UnknownSubscription`, or `ClickException` if the subscription is built in."""
    if name in application.subscribers.by_name():
        return
    if name in {cursor.subscription for cursor in application.subscriptions.cursors()}:
        raise click.ClickException(
            f"{name} is built in; only subscriptions that users define can be pulled from or removed."
        )
    raise UnknownSubscription(name)


def _position(text: str, partitions: int) -> LogPosition:
    """Refuses a partition that does not exist: because of a typo, the one that was meant would go to the beginning."""
    try:
        position = parse_at(text)
    except ValueError:
        position = None
    if not isinstance(position, LogPosition):
        raise click.BadParameter(f"{shown(text)} is not a position; one looks like 0-17.", param_hint="--to")
    if position.partition >= partitions:
        there_are = "it has one, 0" if partitions == 1 else f"its partitions are 0 to {partitions - 1}"
        raise click.BadParameter(f"the log has no partition {position.partition}; {there_are}.", param_hint="--to")
    return position
