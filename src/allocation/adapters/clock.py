"""Time and ids from the machine."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime

from allocation.service_layer.envelope import Clock, Ids
from allocation.service_layer.waiting import Timer


class SystemClock(Clock):
    def now(self) -> datetime:
        return datetime.now(UTC)


class SystemTimer(Timer):
    def seconds(self) -> float:
        return time.monotonic()

    def pause(self, seconds: float) -> None:
        time.sleep(seconds)


class TimeOrderedIds(Ids):
    """UUIDs of version 7 (RFC 9562, section 5.7) without hyphens: 48 bits of milliseconds, then random bits.

    Being ordered by time they land side by side in an index.
    """

    def new(self) -> str:
        return self.several(1)[0]

    def several(self, count: int) -> list[str]:
        random = int.from_bytes(os.urandom(10))
        stamp = (time.time_ns() // 1_000_000) << 80
        head = stamp | 0x7 << 76 | random >> 68 << 64 | 0x2 << 62 | random & 0x3FFF_FFFF_FFFF_FFFF
        # The last seven digits count on from a random start: one that has seven, and room for 67 million behind it.
        same, first = f"{head >> 28:025x}", 0x800_0000 | random & 0x3FF_FFFF
        return [f"{same}{n:x}" for n in range(first, first + count)]
