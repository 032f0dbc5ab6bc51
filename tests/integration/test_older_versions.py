"""A database written by an earlier version of the program, read by a later one: by its feed, its walk, its commands.

The versions are invented (see `tests/unit/test_schemas.py`): events have one so far.
"""

import json

import pytest

from allocation.adapters import serialization
from allocation.adapters.sql.tables import event_log
from allocation.bootstrap import Application
from allocation.domain.commands import Allocate, CreateBatch, Deallocate
from allocation.domain.events import Allocated
from allocation.entrypoints.http.events import cloud_event
from allocation.service_layer.verify import Walk
from tests.integration.damage import execute, rows_of
from tests.unit.test_schemas import INVENTED

CHAIR = "RED-CHAIR"


def test_a_log_with_older_events_is_read_verified_and_written_on(
    application: Application, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for command in (CreateBatch("b1", CHAIR, 10), Allocate("o1", CHAIR, 6), Allocate("o2", CHAIR, 3)):
        application.bus.handle(command)
    older = json.dumps({"order": "o1", "sku": CHAIR, "pieces": 6, "batch": "b1"})
    execute(
        database_url,
        f"UPDATE event_log SET data = '{older}' WHERE position = 2",
        "UPDATE event_log SET schema_version = 3 WHERE position = 3",
    )
    monkeypatch.setattr(serialization, "EVENTS", INVENTED)
    assert [d for step in Walk(application.books, 1).run() for d in step.differences] == []
    application.bus.handle(Deallocate("o1", CHAIR))
    written = sorted((row[1], row[6]) for row in rows_of(database_url, [event_log])["event_log"])
    assert written == [(1, 1), (2, 1), (3, 3), (4, 3), (5, 1)]
    past = application.history
    assert list(past.facts(0, 1, 2)) == [(Allocated("o1", CHAIR, 6, "b1"), 2, 2)]
    feed = application.views.events([], 10).events
    assert feed[1].event == Allocated("o1", CHAIR, 6, "b1")
    told = [(type(e.event).__name__, cloud_event(e).schemaversion) for e in feed]
    assert told == [("BatchCreated", 1), ("Allocated", 3), ("Allocated", 3), ("Deallocated", 3), ("Cancelled", 1)]
    assert [d for step in Walk(application.books, 1).run() for d in step.differences] == []


def test_an_event_of_a_newer_version_is_told_and_not_guessed_at(application: Application, database_url: str) -> None:
    application.bus.handle(CreateBatch("b1", CHAIR, 10))
    execute(database_url, "UPDATE event_log SET schema_version = 2")
    [difference] = [d for step in Walk(application.books, 1).run() for d in step.differences]
    assert "BatchCreated of schema version 2 is not supported: this program knows up to 1" in str(difference)
