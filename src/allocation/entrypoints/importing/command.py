"""`allocation import`: its options, and how it ends."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from allocation.domain.commands import IfShort
from allocation.entrypoints import opened
from allocation.entrypoints.console import as_json

_STDIN = "-"
_FILE = click.Path(exists=True, dir_okay=False, readable=True, allow_dash=True)


def _one(_context: click.Context, parameter: click.Parameter, files: tuple[str, ...]) -> str | None:
    """If an option is given twice, click takes the last one and silently ignores the others."""
    if len(files) > 1:
        is_read = parameter.type is _FILE
        raise click.BadParameter("name one file" + ("; import several one after the other." if is_read else "."))
    return files[0] if files else None


@click.command("import")
@click.option(
    "--batches",
    "batches_file",
    type=_FILE,
    multiple=True,
    callback=_one,
    help="Purchased stock: ref,sku,qty,eta (empty eta: on hand).",
)
@click.option("--orders", "orders_file", type=_FILE, multiple=True, callback=_one, help="Order lines: orderid,sku,qty.")
@click.option(
    "--if-short",
    type=click.Choice([x.value for x in IfShort]),
    default=IfShort.WAIT.value,
    show_default=True,
    help="What to do with an order line that no batch has enough stock for.",
)
@click.option(
    "--on-error",
    type=click.Choice(["stop", "skip"]),
    default="stop",
    show_default=True,
    help="At an unreadable or refused row: stop there, or skip it. (Being out of stock is not an error.)",
)
@click.option(
    "--group",
    type=click.IntRange(1, 100_000),
    default=1000,
    show_default=True,
    help="Rows imported per transaction; an average if several run at once.",
)
@click.option(
    "--at-once",
    type=click.IntRange(1, 8),
    help="Transactions that run at once, each on different products.  [default: 2 on PostgreSQL, else 1]",
)
@click.option("--dry-run", is_flag=True, help="Decide everything, but store nothing.")
@click.option(
    "--refused",
    "refused_file",
    type=click.Path(dir_okay=False, writable=True),
    multiple=True,
    callback=_one,
    help="Write every row that was not imported, and the reason, to this CSV file.",
)
@as_json
def import_(
    batches_file: str | None,
    orders_file: str | None,
    if_short: str,
    on_error: Literal["stop", "skip"],
    group: int,
    at_once: int | None,
    dry_run: bool,
    refused_file: str | None,
    as_json: bool,
) -> None:
    """Import batches, then order lines, from CSV or Parquet files.

    The first line of a CSV file names the columns; other columns are ignored. A file named - is stdin, and one named
    *.parquet is Parquet. Files may be of any size. Running the same import again changes nothing, so an interrupted
    import can be finished with the same command. The exception is a line that was cancelled in the meantime: it is
    ordered again.

    The rows of one product are imported in the order of the file. An import that stops has imported all rows before
    the one that it reports; if several transactions run at once, also some rows of other products after it.

    A dry run decides in memory, on the products as they are now, and takes into account what earlier rows would have
    done, but not what others change in the meantime.

    \b
    Examples:
      allocation import --batches batches.csv --orders orders.csv
      zcat orders.csv.gz | allocation import --orders - --on-error skip --refused refused.csv
    """
    from allocation.entrypoints.importing.job import Job

    named = [Path(f) for f in (batches_file, orders_file) if f is not None]
    if not named:
        raise click.UsageError("Name a file to import: --batches FILE, --orders FILE, or both.")
    if batches_file == orders_file == _STDIN:
        raise click.UsageError("Only one of --batches and --orders can be stdin.")
    if refused_file and any(Path(refused_file).resolve() == f.resolve() for f in named):
        raise click.UsageError("--refused would overwrite a file that is to be imported.")
    job = Job(batches_file, orders_file, IfShort(if_short), on_error, group, dry_run, refused_file, as_json, at_once)
    all_good, how_to_go_on = job.run(opened.application)
    if how_to_go_on:
        raise click.ClickException(how_to_go_on)
    if not all_good:
        raise click.exceptions.Exit(1)
