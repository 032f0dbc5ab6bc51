"""Bugs to plant, each with the test that must see it. `python -m tests.planted` runs them all.

A test that was never seen red proves nothing. Each plant is a change to a copy of the source; its test is run against
that copy, and a plant that survives is a failure. `python -m tests.planted WORD ...` runs those whose name or test
holds one of the words, or whose register (a module here) is called so.
"""

from dataclasses import dataclass
from importlib import import_module
from pkgutil import iter_modules


@dataclass(frozen=True)
class Edit:
    """In `file` (below src/allocation), `old` stands exactly once and becomes `new`."""

    file: str
    old: str
    new: str


@dataclass(frozen=True)
class Plant:
    """A bug by name, and the test (a pytest node below tests/) that must go red over it."""

    name: str
    test: str
    edits: tuple[Edit, ...]


def plant(name: str, test: str, file: str, old: str, new: str) -> Plant:
    return Plant(name, test, (Edit(file, old, new),))


def registers() -> dict[str, list[Plant]]:
    """Every register of this folder, by its module's name."""
    names = [module.name for module in iter_modules(__path__) if not module.name.startswith("_")]
    return {name: import_module(f"{__name__}.{name}").PLANTS for name in names}
