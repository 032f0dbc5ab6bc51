"""`python -m tests.capabilities`: writes the table of what each broker can do into docs/brokers.md."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import fields
from importlib import import_module
from pathlib import Path

from allocation.adapters.brokers.registry import BROKERS
from allocation.service_layer.broker import Capabilities

PAGE = Path(__file__).parents[1] / "docs" / "brokers.md"
BEGIN, END = "<!-- capabilities: begin -->\n", "<!-- capabilities: end -->"


def table() -> str:
    """A row for each module, in the order of the registry, with the schemes that lead to it."""
    schemes: dict[str, list[str]] = {}
    for scheme, (module, _) in BROKERS.items():
        schemes.setdefault(module, []).append(f"`{scheme}:`")
    names = [field.name for field in fields(Capabilities)]
    lines = ["| URL | " + " | ".join(name.replace("_", " ") for name in names) + " |", "|---" * (len(names) + 1) + "|"]
    for module, urls in schemes.items():
        declared = import_module(f"allocation.adapters.brokers.{module}").CAPABILITIES
        lines.append(
            f"| {', '.join(urls)} | " + " | ".join("yes" if getattr(declared, n) else "" for n in names) + " |"
        )
    return "\n".join(lines) + "\n"


def page() -> str:
    """The page as it has to be."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    return before + BEGIN + table() + END + rest.partition(END)[2]


def main(arguments: Sequence[str] | None = None) -> None:
    argparse.ArgumentParser(
        prog="python -m tests.capabilities",
        description="Writes the table of what each broker can do into docs/brokers.md.",
    ).parse_args(arguments)
    PAGE.write_text(page())


if __name__ == "__main__":
    main()
