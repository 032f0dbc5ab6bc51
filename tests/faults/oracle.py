"""What must be so after the commit, computed from the rows of the log alone: plain SQL, plain JSON, nothing of ours.

To be asked once everything has drained. What the log and the state tables hold is judged by `tests.e2e.truth`.
"""

import json
import sqlite3
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import psycopg
from psycopg.rows import dict_row
from sqlalchemy.engine import make_url

from tests.e2e.truth import Row, Tables
from tests.servers.postgres import for_libpq

QUERIES = {
    "cursors": "SELECT s.name, s.log_partition, s.position, s.owner, s.epoch, h.seq FROM subscriptions s "
    "JOIN log_head h ON h.log_partition = s.log_partition ORDER BY s.name, s.log_partition",
    "lanes": "SELECT subscription, key, attempts, reason FROM lanes",
    "discards": "SELECT subscription, log_partition, position FROM discards",
    "dead_letters": "SELECT source, body, reason FROM dead_letters",
    "movements": "SELECT sku, day, received, allocated, deallocated, backordered, cancelled FROM movements",
    "stock_levels": "SELECT sku, version, log_partition, position, available FROM stock_levels",
}
PATIENCE_SECONDS = 90.0
_LOOK_SECONDS = 0.02
COUNTED = {
    "BatchCreated": "received",
    "Allocated": "allocated",
    "Deallocated": "deallocated",
    "Backordered": "backordered",
    "Cancelled": "cancelled",
}


@dataclass(frozen=True, slots=True)
class AfterTheCommit:
    """Everything that reactions have left in the database, as of one moment."""

    cursors: list[Row]
    lanes: list[Row]
    discards: list[Row]
    dead_letters: list[Row]
    movements: list[Row]
    stock_levels: list[Row]


def read_after_the_commit(url: str) -> AfterTheCommit:
    return AfterTheCommit(**{name: rows(url, query) for name, query in QUERIES.items()})


def rows(url: str, query: str) -> list[Row]:
    """The answer to one question to the database at an URL of SQLAlchemy."""
    if url.startswith("sqlite"):
        connection = sqlite3.connect(str(make_url(url).database), timeout=30)
        connection.row_factory = sqlite3.Row
        try:
            return [dict(row) for row in connection.execute(query)]
        finally:
            connection.close()
    with psycopg.connect(for_libpq(url), row_factory=dict_row, connect_timeout=10) as connected:
        return list(connected.execute(query.encode()))


def lagging(url: str) -> list[str]:
    """The cursors that have not come to the log's head, and the lanes that are behind."""
    behind = [
        f"{row['name']} is at {row['position']} of {row['seq']}"
        for row in rows(url, QUERIES["cursors"])
        if row["position"] != row["seq"]
    ]
    return behind + [f"{row['subscription']}, {row['key']}: {row['reason']}" for row in rows(url, QUERIES["lanes"])]


def await_head(url: str, patience_seconds: float = PATIENCE_SECONDS) -> None:
    """Until every event has been delivered to every subscription. Raises `TimeoutError` with who lags behind."""
    deadline = time.monotonic() + patience_seconds
    while behind := lagging(url):
        if time.monotonic() > deadline:
            raise TimeoutError("; ".join(behind))
        time.sleep(_LOOK_SECONDS)


def await_overtaken(url: str, subscription: str, patience_seconds: float = PATIENCE_SECONDS) -> None:
    """The owner of its lease is stopped, with a delivery that its cursor does not know of: until the cursor is behind
    all that was in the log, another worker must have taken over. Raises `TimeoutError`."""

    def cursor() -> Row:
        [found] = [row for row in rows(url, QUERIES["cursors"]) if row["name"] == subscription]
        return found

    begin, deadline = cursor(), time.monotonic() + patience_seconds
    while (now := cursor())["position"] < begin["seq"]:
        if time.monotonic() > deadline:
            raise TimeoutError(f"nobody took over: {begin}, {now}")
        time.sleep(_LOOK_SECONDS)


def faults_after_the_commit(tables: Tables, after: AfterTheCommit) -> list[str]:
    """Each event had its effect on the read models once; nothing was left behind, skipped or parked."""
    faults = [
        f"{row['name']} is at {row['position']} of {row['seq']}"
        for row in after.cursors
        if row["position"] != row["seq"]
    ]
    faults += [f"left behind: {row}" for row in (*after.lanes, *after.discards, *after.dead_letters)]
    return [*faults, *_faults_of_movements(tables, after), *_faults_of_levels(tables, after)]


def _faults_of_movements(tables: Tables, after: AfterTheCommit) -> Iterator[str]:
    """Sums are what the events add up to: one that was counted twice, or not at all, shows."""
    moved: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for row in tables.log:
        if (name := COUNTED.get(row["type"])) is not None:
            moved[row["sku"], _day_in_utc(row["at"])][name] += json.loads(row["data"])["qty"]
    expected = {key: {name: sums[name] for name in COUNTED.values()} for key, sums in moved.items()}
    stored = {(row["sku"], str(row["day"])): {name: row[name] for name in COUNTED.values()} for row in after.movements}
    yield from _differences("movements of", expected, stored)


def _faults_of_levels(tables: Tables, after: AfterTheCommit) -> Iterator[str]:
    """A level is of the sku's last version, told at its last event, and says what the batches have free by day."""
    places = {row["sku"]: (row["log_partition"], row["position"]) for row in tables.log}
    expected = {sku: (places[sku], level) for sku, level in _levels(tables).items()}
    stored = {
        row["sku"]: (
            (row["log_partition"], row["position"]),
            (row["version"], _by_day(json.loads(row["available"]))),
        )
        for row in after.stock_levels
    }
    yield from _differences("stock level of", expected, stored)


def faults_of_told_levels(last: Mapping[str, Mapping[str, Any]], tables: Tables) -> list[str]:
    """The last word on each sku, as it was told to other programs, is its level."""
    told = {sku: (data["version"], _by_day(data["available"])) for sku, data in last.items()}
    return list(_differences("told stock level of", _levels(tables), told))


def _levels(tables: Tables) -> dict[str, tuple[int, dict[str | None, tuple[int, int]]]]:
    """Of each sku its version, and by day how many pieces are free, and how many in one batch."""
    free: dict[str, dict[str | None, list[int]]] = {row["sku"]: defaultdict(list) for row in tables.log}
    for batch in tables.batches:
        if left := batch["purchased_quantity"] - batch["allocated_quantity"]:
            free[batch["sku"]][None if batch["eta"] is None else str(batch["eta"])].append(left)
    versions = {row["sku"]: row["version"] for row in tables.log}
    return {
        sku: (versions[sku], {day: (sum(left), max(left)) for day, left in days.items()}) for sku, days in free.items()
    }


def _by_day(available: Iterable[Mapping[str, Any]]) -> dict[str | None, tuple[int, int]]:
    return {told["eta"]: (told["qty"], told["largest"]) for told in available}


@dataclass(frozen=True, slots=True)
class Seen:
    """A fact as a consumer got it."""

    id: str
    sku: str
    version: int
    type: str
    data: Mapping[str, Any]


def without_duplicates(seen: Iterable[Seen]) -> Iterator[Seen]:
    """As a consumer does it: a version of a sku that it has passed is dropped."""
    passed: dict[str, int] = {}
    for fact in seen:
        if fact.version > passed.get(fact.sku, 0):
            passed[fact.sku] = fact.version
            yield fact


def faults_of_facts(seen: Sequence[Seen], tables: Tables) -> list[str]:
    """Without duplicates, versions 1 to n of each sku in order, without a gap, each as the log has it."""
    logged = {(row["sku"], row["version"]): row for row in tables.log}
    last: dict[str, int] = defaultdict(int)
    faults = []
    for fact in without_duplicates(seen):
        last[fact.sku] += 1
        if fact.version != last[fact.sku]:
            faults.append(f"{fact.sku}: version {fact.version} came where {last[fact.sku]} was due")
            last[fact.sku] = fact.version
    for fact in seen:
        row = logged.get((fact.sku, fact.version))
        told = (fact.id, fact.type, dict(fact.data))
        if row is None or told != (row["id"], row["type"], json.loads(row["data"])):
            faults.append(f"{fact.sku}: version {fact.version} was told as {told}, the log has {row}")
    ends = {row["sku"]: row["version"] for row in tables.log}
    faults += [
        f"{sku}: {end - last[sku]} events at its end never came" for sku, end in ends.items() if end != last[sku]
    ]
    return faults


@dataclass(frozen=True, slots=True)
class Sent:
    """A change of quantity that was sent to a broker. `is_accepted`: the broker said that it has it."""

    id: str
    source: str
    ref: str
    qty: int
    is_accepted: bool = True


def faults_of_commands(sent: Iterable[Sent], tables: Tables) -> list[str]:
    """What the broker accepted was handled, under its id, once: its change is in the log once, or changed nothing."""
    inbox = {row["id"]: row for row in tables.inbox}
    events: dict[str, list[Row]] = defaultdict(list)
    for row in tables.log:
        events[row["causation_id"]].append(row)
    faults = []
    for command in sent:
        handled = inbox.get(command.id)
        changes = [json.loads(row["data"]) for row in events[command.id] if row["type"] == "BatchQuantityChanged"]
        right = {"ref": command.ref, "qty": command.qty}
        if handled is None:
            if command.is_accepted or events[command.id]:
                faults.append(f"{command} was not handled")
        elif handled["source"] != command.source or len(changes) != (handled["position"] is not None):
            faults.append(f"{command} was handled as {handled}, with {changes}")
        elif changes and right.items() - changes[0].items():
            faults.append(f"{command} led to {changes}")
    return faults


def faults_of_mail(message_ids: Iterable[str], tables: Tables) -> list[str]:
    """Each `OutOfStock` led to a mail, under its own id each time; nothing else did."""
    due = {row["id"] for row in tables.log if row["type"] == "OutOfStock"}
    sent = set(message_ids)
    return [f"never mailed: {id}" for id in due - sent] + [f"mailed without cause: {id}" for id in sent - due]


def faults_of_told_lines(heard: Sequence[Mapping[str, Any]], tables: Tables) -> list[str]:
    """What was heard on `line_allocated` is what happened. Nothing is said of what is missing or of order: pub/sub
    forgets what it says to nobody, and after a crash the next owner says it again."""
    logged = {row["id"]: row for row in tables.log if row["type"] == "Allocated"}
    faults = []
    for message in heard:
        row = logged.get(message["id"])
        if row is None or json.loads(row["data"]).items() - message.items() or row["version"] != message["version"]:
            faults.append(f"told {message}, the log has {row}")
    return faults


def assert_none(faults: Sequence[str]) -> None:
    """Raises `AssertionError` with the first of them."""
    if faults:
        raise AssertionError(f"{len(faults)} faults: " + "\n".join(faults[:20]))


def _differences(what: str, expected: Mapping[Any, Any], stored: Mapping[Any, Any]) -> Iterator[str]:
    for key in sorted(expected.keys() | stored.keys()):
        if expected.get(key) != stored.get(key):
            yield f"{what} {key}: the log adds up to {expected.get(key)}, the table says {stored.get(key)}"


def _day_in_utc(moment: str | datetime) -> str:
    at = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    return at.astimezone(UTC).date().isoformat()
