"""`python -m allocation.entrypoints.contracts`: check the committed document, or write it (`--write`).

Exit code 1 if the messages break a promise of the document, or if the document is out of date.
"""

from __future__ import annotations

import json
from pathlib import Path

import click

from allocation.entrypoints.contracts.asyncapi import Json, asyncapi_document
from allocation.entrypoints.contracts.compatibility import breaking_changes

DOCUMENT = Path("docs/asyncapi.json")


@click.command()
@click.option("--write", is_flag=True, help="Update the document, unless that would break a promise.")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path), default=DOCUMENT)
def main(write: bool, file: Path) -> None:
    """Compare the messages with the document in FILE, which says what was promised to other programs."""
    present = asyncapi_document()
    promised: Json | None = json.loads(file.read_text()) if file.exists() else None
    if promised is not None and (broken := breaking_changes(promised, present)):
        raise click.ClickException("\n  ".join([f"These changes break what {file} promised:", *broken]))
    if write:
        file.write_text(as_text(present))
        click.echo(f"{file} was written.")
    elif promised != present:
        raise click.ClickException(f"{file} is out of date: `make contracts` updates it.")
    else:
        click.echo(f"{file} is up to date: {len(present['components']['messages'])} messages.")


def as_text(document: Json) -> str:
    """The document as it is committed: indented, in the order of the code."""
    return json.dumps(document, indent=2) + "\n"


if __name__ == "__main__":
    main()
