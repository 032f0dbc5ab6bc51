"""Look for reference cycles rarely: a command makes many objects, but no cycles.

By default Python looks every 700 objects, which took a third of an import's time when measured. The cost of looking
depends on how many objects are alive, and it finds nothing; so it is put off until more objects are alive than a group
of commands needs.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

OBJECTS = 50_000
"""More objects than the groups of a server hold at once."""
OBJECTS_IN_BULK = 500_000
"""More objects than a group of thousands of commands holds."""


def collect_rarely() -> None:
    """Collect rarely for the rest of this process. Objects that exist by now are never looked at again."""
    gc.freeze()
    gc.set_threshold(OBJECTS, *gc.get_threshold()[1:])


@contextmanager
def rare_collection() -> Iterator[None]:
    """Collect rarely within this context, for bulk work."""
    before = gc.get_threshold()
    gc.set_threshold(OBJECTS_IN_BULK, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
