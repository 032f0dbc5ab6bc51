"""What the words of a driver mean to us."""

import sqlite3

import psycopg
import pytest
from psycopg import errors

from allocation.adapters.sql.errors import translate
from allocation.service_layer.errors import Conflict, ConnectionLost

GONE = "server closed the connection unexpectedly\n\tThis probably means the server terminated abnormally"


@pytest.mark.parametrize(
    ("error", "meaning"),
    [
        (psycopg.OperationalError(GONE), ConnectionLost),
        (psycopg.DatabaseError(GONE), ConnectionLost),  # as the result of a statement in a pipeline
        (errors.AdminShutdown("terminating connection"), ConnectionLost),
        (errors.SerializationFailure("could not serialize"), Conflict),
        (errors.UniqueViolation("duplicate key"), Conflict),
        (errors.UndefinedTable("no such table"), type(None)),
        (psycopg.ProgrammingError("the query has 1 placeholder"), type(None)),
        (psycopg.InterfaceError("the cursor is closed"), type(None)),
        (psycopg.OperationalError("sending query and params failed: number of parameters must be"), type(None)),
        (sqlite3.OperationalError("database is locked"), Conflict),
        (sqlite3.OperationalError("no such table: event_log"), type(None)),
    ],
)
def test_an_error_is_told_in_the_words_of_the_service_layer(error: Exception, meaning: type) -> None:
    assert type(translate(error)) is meaning
