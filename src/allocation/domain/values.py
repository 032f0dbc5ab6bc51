"""Values: what is told apart by what it says, and never changes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True)
def value(kind: type[T]) -> type[T]:
    """A dataclass with slots that is equal and hashed by its fields; nobody changes one.

    The type checker refuses a change (PEP 681, `frozen_default`), the interpreter does not. One that it guards
    (`frozen=True`) sets each field by a call, which is most of what making it costs, and an import makes millions.
    """
    return dataclass(slots=True, unsafe_hash=True)(kind)
