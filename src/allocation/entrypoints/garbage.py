"""Look for reference cycles rarely: a command makes many objects and no cycles.

Python looks every 700 objects by default, which measured as a third of an import's time.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

OBJECTS = 50_000


def collect_rarely() -> None:
    """For the rest of this process. What is loaded by now is left out of the looking for good."""
    gc.freeze()
    gc.set_threshold(OBJECTS, *gc.get_threshold()[1:])


@contextmanager
def rare_collection() -> Iterator[None]:
    """For as long as it lasts."""
    before = gc.get_threshold()
    gc.set_threshold(OBJECTS, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
