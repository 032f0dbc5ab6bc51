"""The tables read with plain SQL, and everything about them that cannot be.

Nothing of the adapters is used: rows come from the drivers, events from the JSON in the log. `faults_of` says each
difference in a sentence; a sound database has none.
"""

import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from itertools import zip_longest
from typing import Any
from zlib import crc32

import psycopg
from psycopg.rows import dict_row
from sqlalchemy.engine import make_url

from allocation.domain import events
from allocation.domain.errors import CorruptLog
from allocation.domain.model import Product
from tests.servers.postgres import for_libpq

Row = Mapping[str, Any]

QUERIES = {
    "products": "SELECT sku, version_number FROM products",
    "batches": "SELECT reference, sku, purchased_quantity, allocated_quantity, eta, created_quantity, created_eta, "
    "is_open FROM batches",
    "lines": "SELECT orderid, sku, qty, batchref, since FROM order_lines",
    "heads": "SELECT log_partition, seq, last_at FROM log_head",
    "log": "SELECT * FROM event_log ORDER BY log_partition, position",
    "inbox": "SELECT id, source, log_partition, position, correlation_id FROM inbox",
}


@dataclass(frozen=True, slots=True)
class Tables:
    """Everything that is stored, as of one moment; `log` in order of position."""

    products: list[Row]
    batches: list[Row]
    lines: list[Row]
    heads: list[Row]
    log: list[Row]
    inbox: list[Row]


def read_tables(url: str) -> Tables:
    """One snapshot of the database at an URL of SQLAlchemy."""
    if url.startswith("sqlite"):
        return Tables(**_from_sqlite(str(make_url(url).database)))
    with psycopg.connect(for_libpq(url), row_factory=dict_row) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        found: dict[str, Any] = {name: list(connection.execute(q.encode())) for name, q in QUERIES.items()}
        return Tables(**found)


def _from_sqlite(path: str) -> dict[str, Any]:
    connection = sqlite3.connect(path, isolation_level=None, timeout=30)
    connection.row_factory = sqlite3.Row
    try:
        connection.execute("BEGIN")  # from the first SELECT on it sees one state
        return {name: list(map(dict, connection.execute(query))) for name, query in QUERIES.items()}
    finally:
        connection.close()


def faults_of(tables: Tables) -> list[str]:
    """Everything wrong: with the log in itself, between log and tables, between log and inbox, and with the stock."""
    return [
        *_faults_of_the_log(tables),
        *_faults_against_the_log(tables),
        *_faults_of_the_inbox(tables),
        *_faults_of_the_stock(tables),
    ]


def assert_sound(url: str) -> Tables:
    """The tables, after a look that nothing is wrong with them."""
    tables = read_tables(url)
    faults = faults_of(tables)
    assert not faults, f"{len(faults)} faults:\n" + "\n".join(faults[:20])
    return tables


def faults_of_feed(feed: Sequence[Mapping[str, Any]], tables: Tables) -> list[str]:
    """Where the event feed, as it was read page by page, is not the log: partition by partition, event by event."""
    told: dict[int, list[tuple[Any, ...]]] = defaultdict(list)
    for e in feed:
        fields = (e["id"], e["subject"], e["productversion"], e["type"].removeprefix("allocation."), e["data"])
        told[e["partition"]].append((int(e["sequence"]), *fields, e["correlationid"], e.get("causationid")))
    logged: dict[int, list[tuple[Any, ...]]] = defaultdict(list)
    for row in tables.log:
        fields = (row["id"], row["sku"], row["version"], row["type"], json.loads(row["data"]))
        logged[row["log_partition"]].append((row["position"], *fields, row["correlation_id"], row["causation_id"]))
    return [
        f"feed, partition {partition}, event {n + 1}: told {a}, the log has {b}"
        for partition in sorted(told.keys() | logged.keys())
        for n, (a, b) in enumerate(zip_longest(told[partition], logged[partition]))
        if a != b
    ]


def event_of(row: Row) -> events.Event:
    """A row of the log as the domain's event."""
    fields = json.loads(row["data"])
    if fields.get("eta") is not None:
        fields["eta"] = date.fromisoformat(fields["eta"])
    event: events.Event = getattr(events, row["type"])(**fields)
    return event


def _faults_of_the_log(tables: Tables) -> Iterator[str]:
    """Positions and versions run 1, 2, 3, ...; time does not go back; each event is in its sku's partition, once."""
    heads = {row["log_partition"]: row for row in tables.heads}
    positions: dict[int, int] = dict.fromkeys(heads, 0)
    moments: dict[int, datetime] = dict.fromkeys(heads, datetime(1970, 1, 1, tzinfo=UTC))
    versions: dict[str, int] = defaultdict(int)
    ids: set[str] = set()
    for row in tables.log:
        place, partition, sku, at = _place(row), row["log_partition"], row["sku"], _moment(row["at"])
        if partition != crc32(sku.encode()) % len(heads):
            yield f"log {place}: {sku} belongs into another partition"
            positions.setdefault(partition, 0)
        positions[partition] += 1
        if row["position"] != positions[partition]:
            yield f"log {place}: position {positions[partition]} is missing before it"
            positions[partition] = row["position"]
        versions[sku] += 1
        if row["version"] != versions[sku]:
            yield f"log {place}: {sku} has version {row['version']} where {versions[sku]} is due"
            versions[sku] = row["version"]
        if at < moments.get(partition, at):
            yield f"log {place}: its time is before that of the event before it"
        moments[partition] = at
        if row["id"] in ids:
            yield f"log {place}: the id {row['id']} is there twice"
        ids.add(row["id"])
    for partition, head in heads.items():
        if head["seq"] != positions[partition]:
            yield f"log_head {partition} says {head['seq']}, the log ends at {positions[partition]}"
        if _moment(head["last_at"]) != moments[partition]:
            yield f"log_head {partition} says {head['last_at']}, the log ends at {moments[partition]}"


def _faults_against_the_log(tables: Tables) -> Iterator[str]:
    """Each row of the state tables is what the log folds to."""
    folded: dict[str, Product] = {}
    for row in tables.log:
        product = folded.setdefault(row["sku"], Product(row["sku"]))
        try:
            product.apply(event_of(row))
        except CorruptLog as corrupt:
            yield f"log {_place(row)}: {corrupt}"
    batches = [batch for product in folded.values() for batch in product.batches]
    lines = [line for product in folded.values() for line in product.lines.values()]
    yield from _differences(
        "product", {p.sku: p.version_number for p in folded.values()}, _by(tables.products, "sku", "version_number")
    )
    yield from _differences(
        "batch",
        {
            b.reference: (
                b.sku,
                b.purchased_quantity,
                b.allocated_quantity,
                b.eta,
                *b.created_as,
                b.available_quantity > 0,
            )
            for b in batches
        },
        {row["reference"]: _batch_fields(row) for row in tables.batches},
    )
    yield from _differences(
        "order line",
        {(x.orderid, x.sku): (x.qty, x.batchref, x.since) for x in lines},
        {(row["orderid"], row["sku"]): (row["qty"], row["batchref"], row["since"]) for row in tables.lines},
    )


def _faults_of_the_inbox(tables: Tables) -> Iterator[str]:
    """Each event has its command, and each command's position is that of the last of its events."""
    ends: dict[str, set[tuple[int, int]]] = defaultdict(set)
    for row in tables.inbox:
        if row["position"] is not None:
            ends[row["id"]].add((row["log_partition"], row["position"]))
    last: dict[str, tuple[int, int]] = {}
    for row in tables.log:
        if row["causation_id"] not in ends:
            yield f"log {_place(row)}: its command {row['causation_id']} is not in the inbox"
        last[row["causation_id"]] = (row["log_partition"], row["position"])
    for command, places in ends.items():
        if places != {last.get(command)}:
            yield f"inbox {command} ends at {sorted(places)}, in the log at {last.get(command)}"


def _faults_of_the_stock(tables: Tables) -> Iterator[str]:
    """The state tables by themselves: nothing is oversold, and nobody waits who could be served."""
    promised: dict[str, int] = defaultdict(int)
    for row in tables.lines:
        if row["batchref"] is not None:
            promised[row["batchref"]] += row["qty"]
    free: dict[str, tuple[int, str]] = {}
    for row in tables.batches:
        ref, sku, bought = row["reference"], row["sku"], row["purchased_quantity"]
        taken = promised.pop(ref, 0)
        if taken != row["allocated_quantity"]:
            yield f"batch {ref} says {row['allocated_quantity']} allocated, its lines have {taken}"
        if not 0 <= max(taken, row["allocated_quantity"]) <= bought:
            yield f"batch {ref} is oversold: {max(taken, row['allocated_quantity'])} of {bought}"
        free[sku] = max(free.get(sku, (0, "")), (bought - taken, ref))
    for ref, taken in promised.items():
        yield f"batch {ref} does not exist, and {taken} are promised from it"
    for row in tables.lines:
        most, ref = free.get(row["sku"], (0, ""))
        if row["batchref"] is None and row["qty"] <= most:
            yield f"order {row['orderid']} waits for {row['qty']} of {row['sku']}, and batch {ref} has {most}"


def _differences(what: str, folded: Mapping[Any, Any], stored: Mapping[Any, Any]) -> Iterator[str]:
    for key in sorted(folded.keys() | stored.keys()):
        if folded.get(key) != stored.get(key):
            yield f"{what} {key}: the log says {folded.get(key)}, the table {stored.get(key)}"


def _batch_fields(row: Row) -> tuple[Any, ...]:
    quantities = (row["sku"], row["purchased_quantity"], row["allocated_quantity"])
    return (*quantities, _day(row["eta"]), row["created_quantity"], _day(row["created_eta"]), bool(row["is_open"]))


def _by(rows: Iterable[Row], key: str, value: str) -> dict[Any, Any]:
    return {row[key]: row[value] for row in rows}


def _place(row: Row) -> str:
    return f"{row['log_partition']}-{row['position']}"


def _day(value: str | date | None) -> date | None:
    return date.fromisoformat(value) if isinstance(value, str) else value


def _moment(value: str | datetime) -> datetime:
    return datetime.fromisoformat(value) if isinstance(value, str) else value
