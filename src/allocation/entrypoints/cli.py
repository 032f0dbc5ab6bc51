"""The `allocation` command. Exit codes: 0 success, 1 refused or failed, 2 wrong usage."""

from __future__ import annotations

import os
import sys
from errno import EACCES, EDQUOT, EFBIG, EIO, EISDIR, ENAMETOOLONG, ENOENT, ENOSPC, ENOTDIR, EROFS
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from allocation.adapters.schemas import BadMessage
from allocation.config import load_settings
from allocation.domain.errors import CorruptLog
from allocation.entrypoints import opened, past
from allocation.entrypoints.console import as_json, print_json
from allocation.entrypoints.dead_letters import dead_letters
from allocation.entrypoints.importing.command import import_
from allocation.entrypoints.importing.rows import UnreadableFile, printable, shown
from allocation.entrypoints.lanes import lanes
from allocation.entrypoints.reading import (
    movements_json,
    print_movements,
    print_order,
    print_product,
    print_settings,
    product_json,
)
from allocation.entrypoints.rules import rules
from allocation.entrypoints.settings_table import explain
from allocation.entrypoints.subscriptions import subscriptions
from allocation.entrypoints.topology import topology
from allocation.entrypoints.verifying import rebuild, verify
from allocation.service_layer.errors import SetupError, Unavailable, UnknownPosition, UnknownSubscription

if TYPE_CHECKING:  # so that `--help` does not wait for a database library to load
    from allocation.service_layer.history.ports import At


_OF_FILES = {EACCES, EDQUOT, EFBIG, EIO, EISDIR, ENAMETOOLONG, ENOENT, ENOSPC, ENOTDIR, EROFS}
"""Errors that come from a file or its disk. Any other system error is shown with its traceback."""


class Commands(click.Group):
    """Lists commands in the order in which a new user needs them; reports known failures without a traceback."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        if sys.stdin is None:  # the parent process closed it, so there is no input
            sys.stdin = Path(os.devnull).open()  # noqa: SIM115  # open as long as the process runs
        try:
            return super().invoke(ctx)
        except (SetupError, Unavailable, UnknownPosition, UnreadableFile) as failure:
            raise click.ClickException(str(failure)) from failure
        except UnknownSubscription as unknown:
            raise click.ClickException(f"{unknown}: `allocation subscriptions list` shows all.") from unknown
        except (CorruptLog, BadMessage) as damage:
            raise click.ClickException(f"{damage}. `allocation verify` shows what else is damaged.") from damage
        except UnicodeEncodeError as failure:
            if not any("\udc80" <= c <= "\udcff" for c in failure.object):
                raise
            raise click.UsageError(
                f"{shown(failure.object)} contains bytes that are not UTF-8; no name does."
            ) from failure
        except OSError as failure:
            if failure.errno not in _OF_FILES:
                raise
            where = f"{printable(os.fsdecode(failure.filename))}: " if isinstance(failure.filename, str | bytes) else ""
            raise click.ClickException(f"{where}{failure.strerror}.") from failure


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("allocation"), message="allocation %(version)s")
def main() -> None:
    """Promises stock to order lines, and keeps the promise when the world changes.

    Environment variables named ALLOCATION_... configure it: see `allocation settings`.

    \b
    A first minute:
      allocation demo
      allocation import --batches batches.csv --orders orders.csv
      allocation serve
    """


@main.command(short_help="A day in a small furniture shop, run on the real service.")
def demo() -> None:
    """A day in a small furniture shop: starts the real service, and shows what it promised.

    Uses its own database in a temporary folder; leaves no process running and no files behind.
    """
    from allocation.entrypoints.demo.story import tell

    tell()


@main.command()
@click.option(
    "--cache",
    type=click.Choice(["none", "memory", "redis"]),
    help="Where orders and products are read from, instead of ALLOCATION_CACHE; `allocation worker` needs the same.",
)
def serve(cache: str | None) -> None:
    """Serve HTTP until stopped, with documentation at /docs.

    \b
    Example:
      ALLOCATION_PORT=8000 allocation serve
    """
    from allocation.entrypoints.server import serve as serve_http

    serve_http(load_settings() if cache is None else load_settings(cache=cache))


@main.command()
@click.option(
    "--from",
    "starts",
    multiple=True,
    metavar="NAME=beginning",
    help="Start a new subscription of this name at the beginning of the log. Can be repeated.",
)
def worker(starts: tuple[str, ...]) -> None:
    """Run what reacts to events: mail, brokers, read models. On SIGTERM or Ctrl-C it finishes its deliveries and stops.

    On SQLite, `allocation serve` does this itself. On PostgreSQL, start one or more workers beside it; they share the
    work. A new subscription that sends events to the outside starts with what happens from now on; one that keeps a
    read model starts at the beginning of the log.

    \b
    Example:
      allocation worker --from publish_facts:redis+streams=beginning
    """
    from allocation.entrypoints.worker import run_worker

    if unclear := [start for start in starts if not start.endswith("=beginning")]:
        raise click.BadParameter(f"write NAME=beginning, not {unclear[0]!r}.", param_hint="--from")
    run_worker(load_settings(), {start.removesuffix("=beginning") for start in starts})


@main.command()
def consumer() -> None:
    """Handle commands from brokers. Stops on SIGTERM or Ctrl-C.

    ALLOCATION_RECEIVE_FROM names the brokers. A message is acknowledged once its command is committed. One that cannot
    be handled is kept among the dead letters (`allocation dead-letters`), and the consumer goes on with the next.

    You can start several consumers: they share the work, and keep the order for each key. Redis pub/sub is an
    exception: every consumer of it gets every message, so start only one for it, or give the messages ids.

    \b
    Example:
      ALLOCATION_RECEIVE_FROM=redis+streams://localhost/0 allocation consumer
    """
    from allocation.entrypoints.consumer import run_consumer

    run_consumer(load_settings())


@main.command()
@as_json
def migrate(as_json: bool) -> None:
    """Bring the database's tables up to this version.

    The service also does this when it starts; use this command to do it before a rollout.
    """
    from allocation.bootstrap import migrate as migrate_database

    before, after = migrate_database(load_settings())
    if as_json:
        print_json({"before": before, "after": after, "changed": before != after})
    elif before is None:
        click.echo(f"The database was empty; its tables have been created (revision {after}).")
    elif before == after:
        click.echo(f"Nothing to do: the database is already at revision {after}.")
    else:
        click.echo(f"The database was migrated from revision {before} to {after}.")


main.add_command(import_)


@main.command(short_help="The stock of a product, and which order lines wait for it.")
@click.argument("sku")
@past.at_option
@as_json
def stock(sku: str, at: At, as_json: bool) -> None:
    """What there is of a product: its batches, how much is free and when, and which order lines wait.

    \b
    Examples:
      allocation stock RED-CHAIR
      allocation stock RED-CHAIR --at 2031-05-01T09:30:00Z
    """
    with opened.application() as application:
        product = past.views_at(application, at).product(sku)
    if product is None:
        raise click.ClickException(f"No batch of {sku} was {'bought by then' if at else 'ever bought'}.")
    if as_json:
        print_json(product_json(product))
    else:
        print_product(product)


@main.command(short_help="The movements of a product, day by day.")
@click.argument("sku")
@click.option(
    "--days",
    type=click.IntRange(1, 100_000),
    default=30,
    show_default=True,
    help="How many of the latest days to show.",
)
@as_json
def movements(sku: str, days: int, as_json: bool) -> None:
    """A product's movements by day (UTC), in pieces.

    Columns: received, allocated, deallocated (taken off a batch), backordered (left waiting) and cancelled.

    Received is what batches were announced with. A quantity that was corrected later is not in it: `allocation history`
    shows the correction, and `allocation stock` shows what there is now.

    The worker counts the movements, a moment after they happen.

    \b
    Example:
      allocation movements RED-CHAIR
    """
    with opened.application() as application:
        moved = application.views.movements(sku, days)
        if not moved and application.views.product(sku) is None:
            raise click.ClickException(f"No batch of {sku} was ever bought.")
    if as_json:
        print_json(movements_json(sku, moved))
    else:
        print_movements(sku, moved)


@main.command(short_help="What an order was promised, line by line.")
@click.argument("orderid")
@past.at_option
@as_json
def order(orderid: str, at: At, as_json: bool) -> None:
    """What an order was promised: each line, its batch, and when it can leave.

    \b
    Example:
      allocation order order-17
    """
    with opened.application() as application:
        lines = past.views_at(application, at).order(orderid)
    if not lines:
        raise click.ClickException(f"There {'was' if at else 'is'} no order {orderid}.")
    if as_json:
        print_json({"orderid": orderid, "lines": msgspec.to_builtins(lines)})
    else:
        print_order(orderid, lines)


@main.command(short_help="What happened, in order; with --follow, as it happens.")
@click.option("--follow", is_flag=True, help="Keep printing events as they are committed, until Ctrl-C.")
@click.option("--after", default="", metavar="CURSOR", help="Continue after this cursor, which the last run printed.")
@click.option(
    "--limit",
    type=click.IntRange(1, 10**9),
    help="Stop after this many events.  [default: 100; with --follow, no limit]",
)
@click.option("--sku", help="Only events of this product.")
@as_json
def events(follow: bool, after: str, limit: int | None, sku: str | None, as_json: bool) -> None:
    """What happened, in order, from the log: every change to stock and promises.

    At the end, prints on stderr the cursor to continue from. With --json, each event is a CloudEvent on one line.

    \b
    Examples:
      allocation events --sku RED-CHAIR
      allocation events --follow --json
    """
    from allocation.entrypoints.feed import Feed, ForgedCursor

    with opened.application() as application:
        try:
            feed = Feed(application, after, sku)
        except ForgedCursor:
            raise click.BadParameter("this is not a cursor of this log.", param_hint="--after") from None
        is_any = feed.print(follow, limit or (None if follow else 100), as_json)
    if not is_any and sku and not after and not follow:
        raise click.ClickException(f"Nothing has happened to {sku}.")


@main.command(short_help="Every setting: its meaning, value, default and source.")
@as_json
def settings(as_json: bool) -> None:
    """Every setting: its meaning, its present value, its default, and which of the two is in force.

    Passwords within addresses are masked; keys are masked entirely.
    """
    explained = list(explain(os.environ))
    if as_json:
        print_json(msgspec.to_builtins(explained))
    else:
        print_settings(explained)
    load_settings()


for further in (past.history, past.trace, past.explain, past.shop, past.what_if):
    main.add_command(further)
for further in (topology, subscriptions, lanes, dead_letters, rules, verify, rebuild):
    main.add_command(further)

if __name__ == "__main__":
    main()
