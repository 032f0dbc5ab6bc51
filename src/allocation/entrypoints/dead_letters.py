"""`allocation dead-letters`: what came in and could not be handled, and what to do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import msgspec

from allocation.entrypoints import opened
from allocation.entrypoints.console import as_json, console, print_json, table
from allocation.entrypoints.importing.rows import shown

if TYPE_CHECKING:  # imported when a command runs, as in `cli`
    from allocation.bootstrap import Application
    from allocation.service_layer.ports import DeadLetter

ID = click.argument("id_", metavar="ID")


@click.group("dead-letters", short_help="Received messages that failed: list, show, retry, remove.")
def dead_letters() -> None:
    """Messages from a broker, the book's Redis channel or Azure Event Grid that could not be handled.

    They are kept here with the reason, and no longer wait at the broker, until somebody decides about them. A command
    that was refused is kept, too, with the refusal as its reason.
    """


@dead_letters.command("list")
@click.option(
    "--limit", type=click.IntRange(1, 100_000), default=100, show_default=True, help="How many to list, newest first."
)
@as_json
def list_letters(limit: int, as_json: bool) -> None:
    """The newest first: when and from where each came, why it was not handled, and how it begins.

    \b
    Example:
      allocation dead-letters list --limit 10
    """
    with opened.application() as application:
        found, count = application.dead_letters.newest(limit), application.dead_letters.count()
    if as_json:
        print_json({"dead_letters": msgspec.to_builtins(found), "count": count})
    elif not found:
        click.echo("No dead letters: every message received was handled.")
    else:
        rows = [(x.id, f"{x.time:%Y-%m-%d %H:%M:%S}", x.source, safe(x.reason), shown(x.body)) for x in found]
        console().print(table("id", "time", "source", "reason", "body", rows=rows))
        if count > len(found):
            click.echo(f"{count - len(found):,} more; raise --limit to see them.")


@dead_letters.command()
@ID
@as_json
def show(id_: str, as_json: bool) -> None:
    """One dead letter in full. What its sender put into headers is shown in the body.

    \b
    Example:
      allocation dead-letters show 01a2226a1814729ab7614d45bc31a106
    """
    with opened.application() as application:
        letter = _letter(application, id_)
    if as_json:
        print_json(msgspec.to_builtins(letter))
        return
    facts = [("id", letter.id), ("time", letter.time), ("source", letter.source), ("reason", safe(letter.reason))]
    console().print(table("what", "is", rows=facts))
    click.echo(f"\n{safe(letter.body)}")


@dead_letters.command()
@ID
def retry(id_: str) -> None:
    """Handle one again, as if it came in now. It is removed once it is done; if it is refused again, or still cannot be
    handled, it stays, and the reason is printed.

    It is handled under its own id, if it has one, so if it has been done under that id in the meantime, it is not done
    twice. If it was refused under that id, it is asked for again.

    \b
    Example:
      allocation dead-letters retry 01a2226a1814729ab7614d45bc31a106
    """
    from allocation.entrypoints.handling import again, reason_for

    with opened.application() as application:
        errors = [answer.error for answer in again(application, _letter(application, id_)) if answer.error is not None]
        if errors:
            raise click.ClickException(f"It is still a dead letter: {safe(reason_for(errors[0]))}")
        application.dead_letters.remove(id_)
    click.echo("Handled; it is no longer a dead letter.")


@dead_letters.command()
@ID
def remove(id_: str) -> None:
    """Remove one for good, without handling it.

    \b
    Example:
      allocation dead-letters remove 01a2226a1814729ab7614d45bc31a106
    """
    with opened.application() as application:
        if not application.dead_letters.remove(id_):
            raise _unknown(id_)
    click.echo("It was removed.")


def safe(text: str) -> str:
    """Foreign text, with everything escaped that could move the cursor of a terminal, except newlines and tabs."""
    return "".join(c if c.isprintable() or c in "\n\t" else ascii(c)[1:-1] for c in text)


def _letter(application: Application, id_: str) -> DeadLetter:
    letter = application.dead_letters.letter(id_)
    if letter is None:
        raise _unknown(id_)
    return letter


def _unknown(id_: str) -> click.ClickException:
    return click.ClickException(f"There is no dead letter {shown(id_)}: `allocation dead-letters list` shows all.")
