"""What a group of commands names, so that an adapter can lock and read it in a fixed number of statements."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import assert_never

from allocation.domain.commands import (
    Allocate,
    ChangeBatch,
    ChangeBatchEta,
    ChangeBatchQuantity,
    Command,
    CreateBatch,
    Deallocate,
    is_id,
)


@dataclass(slots=True)
class Needs:
    """`skus` are to be locked, those in `new_skus` to be created if missing; `lines` are (orderid, sku) of order lines;
    `refs` are batches named by reference, `homeless` those of them that came without their sku; `freed` are skus whose
    stock may become free for waiting lines."""

    skus: set[str] = field(default_factory=set)
    new_skus: set[str] = field(default_factory=set)
    refs: set[str] = field(default_factory=set)
    homeless: set[str] = field(default_factory=set)
    lines: set[tuple[str, str]] = field(default_factory=set)
    freed: set[str] = field(default_factory=set)


def needs_of(commands: Iterable[Command]) -> Needs:
    """One pass over the commands of a group.

    A string that is not a valid id is left out, because a database may fail on it (NUL, lone surrogates, a key too long
    for an index); the handler will refuse it.
    """
    needs = Needs()
    for command in commands:
        match command:
            case Allocate() | Deallocate():
                if is_id(command.orderid) and is_id(command.sku):
                    needs.skus.add(command.sku)
                    needs.lines.add((command.orderid, command.sku))
                    if isinstance(command, Deallocate):
                        needs.freed.add(command.sku)
            case CreateBatch():
                if is_id(command.ref) and is_id(command.sku):
                    needs.skus.add(command.sku)
                    needs.new_skus.add(command.sku)
                    needs.freed.add(command.sku)
                    needs.refs.add(command.ref)
            case ChangeBatchQuantity() | ChangeBatchEta() | ChangeBatch():
                if is_id(command.ref):
                    needs.refs.add(command.ref)
                    needs.homeless.add(command.ref)
            case _:
                assert_never(command)
    return needs


def key_of(command: Command) -> str:
    """Whose partition of the log is the door of a command: the product's, or the batch's where that is all it names."""
    if isinstance(command, _OF_A_PRODUCT):
        return command.sku
    if isinstance(command, _OF_A_BATCH):
        return command.ref
    assert_never(command)


_OF_A_PRODUCT = (Allocate, Deallocate, CreateBatch)
_OF_A_BATCH = (ChangeBatchQuantity, ChangeBatchEta, ChangeBatch)
