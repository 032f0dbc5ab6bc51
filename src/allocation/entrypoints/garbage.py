"""Look for reference cycles rarely: a command makes many objects and no cycles.

Python looks every 700 objects by default, which measured as a third of an import's time. Looking costs by what is
alive, and finds nothing: it is put off until more is alive than a group of commands needs.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

OBJECTS = 50_000
"""More than the groups of a server hold at once."""
OBJECTS_IN_BULK = 500_000
"""More than a group of thousands does."""


def collect_rarely() -> None:
    """For the rest of this process. What is loaded by now is left out of the looking for good."""
    gc.freeze()
    gc.set_threshold(OBJECTS, *gc.get_threshold()[1:])


@contextmanager
def rare_collection() -> Iterator[None]:
    """For as long as it lasts, for work in bulk."""
    before = gc.get_threshold()
    gc.set_threshold(OBJECTS_IN_BULK, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
