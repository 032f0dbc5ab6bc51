"""The floor: allocation in bulk as somebody would write it by hand for speed alone, with the same reads and rows.

No framework, no objects, no events folded into rows: plain dicts decide, and the rows to write are
plain tuples. What a service of this shape costs beyond its rows is the distance to here. `floor_postgres` and
`floor_sqlite` hold the statements. It works on one connection, one group after the other.
"""

import os
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import count
from typing import Protocol

import msgspec

PAGE = 16
"""Open batches read of each sku at first, as many as the service reads."""

Line = tuple[str, str, int]
"""An order line to allocate: order, sku, quantity."""

OpenBatch = tuple[str, str, int, str | None]
"""An open batch as read: reference, sku, free quantity, ETA."""

encode = msgspec.json.Encoder().encode


Decision = tuple[str, str, int, str | None, str | None, int, str]
"""Of one line: order, sku, quantity, batch (None: it waits), the batch's ETA, since, and the id of its command."""


class Group:
    """What a group of lines led to. Rows are made when they are asked for: a store may send some while it makes the
    next."""

    def __init__(self, decided: list[Decision], taken: list[tuple[str, int]], versions: list[tuple[str, int, int]]):
        self.decided = decided
        self.correlation_id = fresh_ids(1)[0]
        self.batches = taken  # reference, quantity taken
        self.products = versions  # sku, version as loaded, new version
        self.at = datetime.now(UTC)
        self.event_count = len(decided) + sum(batchref is None for _, _, _, batchref, *_ in decided)

    def lines(self) -> list[tuple]:
        """Rows (orderid, sku, qty, batchref, since)."""
        return [(orderid, sku, qty, ref, since) for orderid, sku, qty, ref, _, since, _ in self.decided]

    def events(self) -> list[tuple]:
        """Rows (place in the group, sku, version, id, type, data, id of the command)."""
        ids = iter(fresh_ids(self.event_count))
        places = count(1)
        rows = []
        for orderid, sku, qty, ref, _, since, cause in self.decided:
            data = {"orderid": orderid, "sku": sku, "qty": qty}
            kind = "Backordered" if ref is None else "Allocated"
            if ref is not None:
                data["batchref"] = ref
            rows.append((next(places), sku, since, next(ids), kind, encode(data).decode(), cause))
            if ref is None:
                told = encode({"sku": sku}).decode()
                rows.append((next(places), sku, since + 1, next(ids), "OutOfStock", told, cause))
        return rows

    def inbox(self) -> list[tuple]:
        """Rows (id, body, outcome, place of the last event)."""
        rows, place = [], 0
        for orderid, sku, qty, ref, eta, _, command in self.decided:
            body = {"orderid": orderid, "sku": sku, "qty": qty, "if_short": "wait"}
            status = "waiting" if ref is None else "allocated"
            promise = {"orderid": orderid, "sku": sku, "qty": qty, "status": status, "batchref": ref, "eta": eta}
            place += 2 if ref is None else 1
            outcome = {"result": "Promise", "fields": promise}
            rows.append((command, encode(body).decode(), encode(outcome).decode(), place))
        return rows


class Store(Protocol):
    """One open connection to a database that has the service's tables."""

    def read(self, skus: list[str], lines: Sequence[Line]) -> tuple[dict[str, int], list[OpenBatch], set]:
        """Begin; lock the products and read their versions, their first open batches by preference, and which of the
        lines are there already."""

    def next_open(self, sku: str) -> list[OpenBatch]:
        """All open batches of a sku, by preference."""

    def write(self, group: Group) -> None:
        """Write everything and commit."""


class Floor:
    """Allocates groups of lines; those that fit nowhere wait."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def allocate(self, lines: Sequence[Line]) -> list[str | None]:
        """The batch of each new line, or None: it waits. Lines that are there already are passed over."""
        skus = sorted({sku for _, sku, _ in lines})
        versions, found, known = self._store.read(skus, lines)
        batches: dict[str, list[list]] = {sku: [] for sku in skus}
        for ref, sku, free, eta in found:
            batches[sku].append([ref, free, eta, 0])
        loaded = dict(versions)
        decided: list[Decision] = []
        for (orderid, sku, qty), command in zip(lines, fresh_ids(len(lines)), strict=True):
            if (orderid, sku) in known:
                continue
            open_batches = batches[sku]
            since = versions[sku] = versions[sku] + 1
            batch = next((b for b in open_batches if b[1] >= qty), None)
            if batch is None and len(open_batches) >= PAGE:
                batch = self._read_on(sku, qty, open_batches)
            if batch is None:
                versions[sku] += 1  # two events
                decided.append((orderid, sku, qty, None, None, since, command))
            else:
                batch[1] -= qty
                batch[3] += qty
                decided.append((orderid, sku, qty, batch[0], batch[2], since, command))
        taken = [(b[0], b[3]) for some in batches.values() for b in some if b[3]]
        raised = [(sku, loaded[sku], version) for sku, version in versions.items() if version != loaded[sku]]
        self._store.write(Group(decided, taken, raised))
        return [decision[3] for decision in decided]

    def _read_on(self, sku: str, qty: int, batches: list[list]) -> list | None:
        known = {b[0] for b in batches}
        batches += [[ref, free, eta, 0] for ref, _, free, eta in self._store.next_open(sku) if ref not in known]
        return next((b for b in batches if b[1] >= qty), None)


def fresh_ids(count: int) -> list[str]:
    """Ids that sort by time, as the service's do."""
    base = (time.time_ns() // 1_000_000) << 80 | 0x7 << 76 | int.from_bytes(os.urandom(8)) | 1 << 63
    return [f"{base + n:032x}" for n in range(count)]
