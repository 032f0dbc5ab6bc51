"""What a group of commands names, so that an adapter can lock and read it in a fixed number of statements."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from allocation.domain.commands import Allocate, Command, CreateBatch, Deallocate


@dataclass(slots=True)
class Needs:
    """`skus` are to be locked, those in `new_skus` to be made if absent; `lines` are (orderid, sku) of order lines;
    `refs` are batches named by reference, of which `homeless` ones came without their sku."""

    skus: set[str] = field(default_factory=set)
    new_skus: set[str] = field(default_factory=set)
    refs: set[str] = field(default_factory=set)
    homeless: set[str] = field(default_factory=set)
    lines: set[tuple[str, str]] = field(default_factory=set)


def needs_of(commands: Iterable[Command]) -> Needs:
    """One pass over the commands of a group."""
    needs = Needs()
    for command in commands:
        match command:
            case Allocate() | Deallocate():
                needs.skus.add(command.sku)
                needs.lines.add((command.orderid, command.sku))
            case CreateBatch():
                needs.skus.add(command.sku)
                needs.new_skus.add(command.sku)
                needs.refs.add(command.ref)
            case _:
                needs.refs.add(command.ref)
                needs.homeless.add(command.ref)
    return needs
