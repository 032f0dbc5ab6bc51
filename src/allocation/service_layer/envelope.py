"""What surrounds a message: identity, cause, and its place in the log.

`correlation_id` is the same for everything that follows from one request; `causation_id` is the id of the message that
directly led to this one (for an event, its command). `traceparent` is W3C Trace Context, section 3.2.

Envelopes are named tuples: a frozen dataclass with as many fields takes far longer to make, and an import makes
millions.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import NamedTuple, Protocol
from zlib import crc32

from allocation.domain.commands import Command
from allocation.domain.events import Event

_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}(-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2})(-|\Z)")


class Clock(Protocol):
    """Tells the time. Callers may not assume that two calls differ, nor that time never steps back."""

    def now(self) -> datetime:
        """The present moment, in UTC, with its time zone."""


class Ids(Protocol):
    """Mints ids that are unique across all processes. Callers may not read anything out of them."""

    def new(self) -> str:
        """One id, as 32 lower-case hexadecimal digits."""

    def several(self, count: int) -> list[str]:
        """`count` ids, cheaper than calling `new` as often."""


class CommandEnvelope(NamedTuple):
    """A command on its way in.

    `source` names the way it came in (a route, `import`, a queue), `client` who sent it. With `brought_id`, the id is
    the sender's own: a command with the same id from the same source gets the same answer, and is never done twice.
    """

    command: Command
    id: str
    time: datetime
    correlation_id: str
    source: str = "local"
    client: str = ""
    brought_id: bool = False
    causation_id: str | None = None
    traceparent: str | None = None

    @property
    def key(self) -> tuple[str, str]:
        """The key under which the inbox keeps it."""
        return (self.source, self.id)


class LogPosition(NamedTuple):
    """Where an event stands: the partition of the log, and its number there (1, 2, 3, ... without a gap)."""

    partition: int
    seq: int

    def __str__(self) -> str:
        return f"{self.partition}-{self.seq}"


BEYOND = 10**18 - 1
"""A number after which no partition has any event, for a cursor that leaves a partition out."""


class EventEnvelope(NamedTuple):
    """An event as the log holds it. `version` is the product's version that the event made."""

    event: Event
    id: str
    time: datetime
    position: LogPosition
    version: int
    correlation_id: str
    causation_id: str | None
    traceparent: str | None = None
    schema_version: int = 1

    @property
    def key(self) -> str:
        """What order is kept by: events of one key are seen in order, those of different keys need not be."""
        return self.event.sku


def valid_traceparent(given: str | None) -> str | None:
    """W3C Trace Context, section 3.2. Of a later version, the part that this version knows; None if it is not valid."""
    found = _TRACEPARENT.match(given) if given is not None else None
    if given is None or found is None or (given.startswith("00") and found[2]):
        return None
    return f"00{found[1]}"


def partition_of(key: str, partitions: int) -> int:
    """The log partition that a key lives in: the same in every process, for good."""
    return crc32(key.encode(errors="surrogatepass")) % partitions if partitions > 1 else 0


def message_of(logged: EventEnvelope) -> dict[str, object]:
    """An event as other programs get it: its own fields, and those of the envelope that a consumer needs to drop
    duplicates, to see that it missed a version, and to find the cause."""
    fields = {name: getattr(logged.event, name) for name in logged.event.__dataclass_fields__}
    return {
        **fields,
        "id": logged.id,
        "type": type(logged.event).__name__,
        "time": logged.time.isoformat(),
        "position": str(logged.position),
        "version": logged.version,
        "correlation_id": logged.correlation_id,
        "causation_id": logged.causation_id,
    }
