"""Is every answer true? Compares what clients were told with the log and the tables.

A request's events are those that its Idempotency-Key caused; without a key, those of its correlation id.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any
from urllib.parse import unquote

from tests.e2e.crowd import UNAVAILABLE, Entry
from tests.e2e.truth import Row, Tables

OUTCOME_UNKNOWN = "/docs#problem-outcome-unknown"
ALLOCATE = ("/v1/allocations", "/allocate")


class Log:
    """The log, ready to be asked what became of a request."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self._by_cause: dict[str, list[Row]] = defaultdict(list)
        self._by_correlation: dict[str, list[Row]] = defaultdict(list)
        self.facts: set[tuple[Any, ...]] = set()
        self.eta_at: dict[str, str | None] = {}
        self.waited: set[tuple[str, str]] = set()
        etas: dict[str, str | None] = {}
        for row in rows:
            data = json.loads(row["data"])
            self._by_cause[row["causation_id"]].append(row)
            self._by_correlation[row["correlation_id"]].append(row)
            self.facts.add((row["type"], *sorted((name, str(value)) for name, value in data.items())))
            if "eta" in data:
                etas[data["ref"]] = data["eta"]
            if row["type"] == "Allocated":
                self.eta_at[place(row)] = etas.get(data["batchref"])
            elif row["type"] in ("Backordered", "Deallocated"):
                self.waited.add((data["orderid"], data["sku"]))

    def events_of(self, entry: Entry) -> list[Row]:
        key = entry.request.key
        return self._by_correlation[entry.correlation_id] if key is None else self._by_cause[key]

    def sent_under(self, correlation_id: str) -> list[Row]:
        return self._by_correlation[correlation_id]

    def has(self, kind: str, **data: object) -> bool:
        return (kind, *sorted((name, str(value)) for name, value in data.items())) in self.facts


def lies_in(journal: Sequence[Entry], tables: Tables) -> list[str]:
    """Every answer that the database does not bear out, in a sentence."""
    log = Log(tables.log)
    return [
        *(f"{entry}\n  {lie}" for entry in journal for lie in _lies_of(entry, log)),
        *_lies_under_one_key(journal),
        *_lies_about_lines(journal, tables),
    ]


def assert_true(journal: Sequence[Entry], tables: Tables) -> None:
    lies = lies_in(journal, tables)
    assert not lies, f"{len(lies)} answers are not true:\n" + "\n".join(lies[:20])


def assert_expected(journal: Sequence[Entry], *also: int | None) -> None:
    """Each was answered with one of the statuses that are right for it, or with one of `also` (None: no answer)."""
    wrong = [entry for entry in journal if entry.status not in (*entry.request.expected, *also)]
    assert not wrong, f"{len(wrong)} unexpected answers:\n" + "\n".join(map(str, wrong[:20]))


def place(row: Row) -> str:
    return f"{row['log_partition']}-{row['position']}"


def _lies_of(entry: Entry, log: Log) -> Iterator[str]:
    request, status = entry.request, entry.status
    if status is None or request.method == "GET":
        return
    if status >= 400:
        unknown = status == UNAVAILABLE and entry.body["type"] == OUTCOME_UNKNOWN
        if not unknown and (found := log.sent_under(entry.correlation_id)):
            yield f"told that nothing was done, but the log has {_told(found)}"
        return
    found = log.events_of(entry)
    answered = entry.body["position"] if entry.body else entry.headers.get("log-position")
    if answered != (place(found[-1]) if found else None):
        yield f"told position {answered}, but the log has {_told(found)}"
        return
    if request.path in ALLOCATE:
        yield from _lies_about_a_promise(entry, found, log)
    elif request.method == "DELETE":
        _, orderid, sku = map(unquote, request.path.rsplit("/", 2))
        mine = [row for row in found if row["type"] == "Cancelled" and _data(row)["orderid"] == orderid]
        if len(mine) != 1 or mine[0]["sku"] != sku:
            yield f"told that the line is cancelled, but the log has {_told(found)}"
    else:
        yield from _lies_about_a_batch(entry, found, log)


def _lies_about_a_promise(entry: Entry, found: Sequence[Row], log: Log) -> Iterator[str]:
    sent, told = entry.request.body, entry.body
    assert sent is not None
    line = {name: sent[name] for name in ("orderid", "sku", "qty")}
    if {name: told[name] for name in line} != line:
        yield "told of another line"
    if told["status"] == "allocated":
        placed = line | {"batchref": told["batchref"]}
        if not log.has("Allocated", **placed):
            yield "told of a batch that the line never was on"
        if found and [(row["type"], _data(row)) for row in found] != [("Allocated", placed)]:
            yield f"told that it was placed now, but the log has {_told(found)}"
        elif found and told["eta"] != log.eta_at[place(found[0])]:
            yield f"told ETA {told['eta']}, but the batch had {log.eta_at[place(found[0])]}"
    else:
        if [row["type"] for row in found] not in ([], ["Backordered", "OutOfStock"]):
            yield f"told that it waits from now on, but the log has {_told(found)}"
        if (line["orderid"], line["sku"]) not in log.waited or (found and _data(found[0]) != line):
            yield f"told that it waits, but the log has {_told(found)}"


def _lies_about_a_batch(entry: Entry, found: Sequence[Row], log: Log) -> Iterator[str]:
    sent, told = entry.request.body, entry.body
    assert sent is not None
    if found and told["version"] != found[-1]["version"]:
        yield f"told version {told['version']}, but the log has {_told(found)}"
    if entry.request.method == "POST":
        if not log.has("BatchCreated", **sent):
            yield "told that the batch is there, but it never was"
        if found and (found[0]["type"], _data(found[0])) != ("BatchCreated", dict(sent)):
            yield f"told that the batch was taken in now, but the log has {_told(found)}"
        return
    if any(told[name] != sent[name] for name in sent):
        yield "told that the batch is as it was before"
    changes = [row["type"] for row in found if row["type"] in ("BatchQuantityChanged", "BatchEtaChanged")]
    if len(changes) != len(set(changes)) or bool(found) != bool(changes):
        yield f"told of one change, but the log has {_told(found)}"


def _lies_under_one_key(journal: Sequence[Entry]) -> Iterator[str]:
    """Whoever sends the same key gets the same answer, however often and from wherever."""
    first: dict[str, Entry] = {}
    for entry in journal:
        if entry.request.key is None or not entry.is_done:
            continue
        known = first.setdefault(entry.request.key, entry)
        told, before = ({**(e.body or {}), "correlation_id": ""} for e in (entry, known))
        if (entry.status, told) != (known.status, before):
            yield f"{entry}\n  told otherwise under the same key before: {known}"


def _lies_about_lines(journal: Sequence[Entry], tables: Tables) -> Iterator[str]:
    """A line is there if the last that its clients were told of it says so."""
    there = {(row["orderid"], row["sku"]) for row in tables.lines}
    last: dict[tuple[str, str], tuple[bool | None, Entry]] = {}
    for entry in journal:
        if (told := _line_told(entry)) is not None:
            last[told[0]] = (told[1], entry)
    for line, (expected, entry) in last.items():
        if expected is not None and expected != (line in there):
            found = "there" if line in there else "not there"
            yield f"{entry}\n  the last that was told of this line, but it is {found}"


def _line_told(entry: Entry) -> tuple[tuple[str, str], bool | None] | None:
    """Of which line the answer tells, and whether it is there (None: nobody knows)."""
    request = entry.request
    if request.method == "POST" and request.path in ALLOCATE and request.body is not None:
        line = (request.body["orderid"], request.body["sku"])
        if not entry.is_done:
            return line, None
        return line, entry.status is not None and (
            entry.status < 400 or entry.body["type"] == "/docs#problem-line-exists"
        )
    if request.method == "DELETE":
        _, orderid, sku = map(unquote, request.path.rsplit("/", 2))
        return (orderid, sku), False if entry.is_done else None
    return None


def _data(row: Row) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(row["data"])
    return data


def _told(rows: Sequence[Row]) -> str:
    return str([f"{place(row)} {row['type']} {row['data']}" for row in rows]) if rows else "nothing"
