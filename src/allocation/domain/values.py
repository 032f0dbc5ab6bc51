"""Values: two are equal if their fields are equal, and they never change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True)
def value(kind: type[T]) -> type[T]:
    """A dataclass with slots, compared and hashed by its fields; it must not be changed.

    The type checker refuses a change (PEP 681, `frozen_default`), the interpreter does not. A dataclass that the
    interpreter guards (`frozen=True`) sets each field by a call, which is most of the cost of making one, and an import
    makes millions.
    """
    return dataclass(slots=True, unsafe_hash=True)(kind)
