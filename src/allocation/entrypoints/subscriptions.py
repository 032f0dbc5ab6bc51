"""`allocation subscriptions`: who reads the log, and how far they have come."""

from __future__ import annotations

import click
import msgspec

from allocation.entrypoints import opened
from allocation.entrypoints.console import console, print_json, table
from allocation.service_layer.envelope import LogPosition

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


@click.group(short_help="Who reads the log, and how far they have come: list, rewind.")
def subscriptions() -> None:
    """Named readers of the log, each with a cursor of its own: mail, brokers, read models."""


@subscriptions.command("list")
@as_json
def list_subscriptions(as_json: bool) -> None:
    """Every subscription: its place in the log, how far behind it is, its lanes, and who delivers."""
    with opened.application() as application:
        cursors, lanes = application.subscriptions.cursors(), application.subscriptions.lanes()
        now = application.clock.now()
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
            c.owner[-12:] if c.leased_until > now else "nobody",
        )
        for c in cursors
    ]
    console().print(table("subscription", "place", ">events behind", ">lanes", "delivered by", rows=rows))


@subscriptions.command()
@click.argument("name")
@click.option("--to", "places", multiple=True, metavar="POSITION", help="Behind this position, as in 0-17; of several")
@click.option("--yes", is_flag=True, help="Do not ask.")
def rewind(name: str, places: tuple[str, ...], yes: bool) -> None:
    """Deliver again, from the beginning of the log or from behind a position.

    For a destination that has lost what it was given: a broker restored from an old copy, a new reader. Whoever
    listens there gets everything once more, under the same ids. The worker need not be stopped.

    \b
    Example:
      allocation subscriptions rewind publish_facts:redis+streams --to 0-1500
    """
    after = [_position(place) for place in places]
    with opened.application() as application:
        known = {s.name: s for s in application.worker.subscriptions}
        if name in known and known[name].from_the_beginning:
            raise click.ClickException(f"{name} writes a read model, which would count twice: it is never rewound.")
        if name not in {c.subscription for c in application.subscriptions.cursors()}:
            raise click.ClickException(f"There is no subscription {name}: `allocation subscriptions list` shows all.")
        if not yes:
            click.confirm(f"Deliver again to {name}, from {', '.join(places) or 'the beginning'}?", abort=True)
        moved = application.subscriptions.rewind(name, after)
    click.echo(f"{name} goes back." if moved else f"{name} has not come so far yet; nothing changed.")


def _position(text: str) -> LogPosition:
    partition, _, seq = text.partition("-")
    if not (partition.isascii() and partition.isdigit() and seq.isascii() and seq.isdigit()):
        raise click.BadParameter(f"{text!r} is no position; one looks like 0-17.", param_hint="--to")
    return LogPosition(int(partition), int(seq))
