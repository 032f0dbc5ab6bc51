"""One transaction on SQLite or PostgreSQL, in an order that neither deadlocks nor lies about positions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Any, Self

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_exponential_jitter

from allocation.adapters.serialization import decode_command, decode_outcome
from allocation.adapters.sql.engine import dialect_of
from allocation.adapters.sql.errors import translated
from allocation.adapters.sql.projector import project
from allocation.adapters.sql.repository import Pages, Reader, SqlRepository
from allocation.adapters.sql.statements import Statements
from allocation.adapters.sql.writing import Writer
from allocation.service_layer.envelope import Clock, CommandEnvelope, Ids, LogPosition
from allocation.service_layer.errors import ConnectionLost, OutcomeUnknown, Unavailable
from allocation.service_layer.needs import needs_of
from allocation.service_layer.unit_of_work import Handled, UnitOfWork


@dataclass(frozen=True, slots=True)
class Database:
    """What every unit of work of one database shares."""

    engine: Engine
    statements: Statements
    writer: Writer
    clock: Clock
    pages: Pages
    patience_seconds: float = 10.0

    @classmethod
    def of(
        cls,
        engine: Engine,
        ids: Ids,
        clock: Clock,
        partitions: int,
        pages: Pages | None = None,
        patience_seconds: float = 10.0,
    ) -> Database:
        """`patience_seconds`: how long to look for a database that went away while it committed."""
        dialect = dialect_of(engine)
        writer = Writer(dialect, ids, partitions)
        return cls(engine, Statements(dialect), writer, clock, pages or Pages(), patience_seconds)


class SqlUnitOfWork(UnitOfWork):
    products: SqlRepository

    def __init__(self, database: Database) -> None:
        self._database = database
        self._open = False

    def __enter__(self) -> Self:
        with translated():
            self._connection: Connection = self._database.engine.connect()
            try:
                self._connection.exec_driver_sql(self._database.statements.dialect.begin)
            except BaseException:
                self._connection.close()
                raise
        self._open = True
        database = self._database
        self.products = SqlRepository(Reader(self._connection, database.statements, database.pages))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._open and not self._connection.invalidated:
                self._connection.exec_driver_sql("ROLLBACK")
        except DBAPIError:
            # The connection is gone, and the transaction with it; a pool must not hand it out again.
            self._connection.invalidate()
        finally:
            self._open = False
            self._connection.close()

    def begin(self, envelopes: Sequence[CommandEnvelope]) -> dict[tuple[str, str], Handled]:
        with translated():
            self.products.load(needs_of(envelope.command for envelope in envelopes))
            brought = [envelope.key for envelope in envelopes if envelope.brought_id]
            if not brought:
                return {}
            rows = self._database.statements.inbox(self._connection, list(dict.fromkeys(brought)))
        return {(row[0], row[1]): _handled(row) for row in rows}

    def commit(self, handled: Sequence[Handled]) -> None:
        database, connection = self._database, self._connection
        rows = project(pair for done in handled for pair in done.events)
        with translated():
            if rows.versions:
                database.writer.write_state(connection, rows, self.products.versions)
            database.writer.delete_unused(connection, self.products.inserted - rows.versions.keys())
            first = database.writer.write_log(connection, handled, database.clock.now())
        try:
            self._open = False
            connection.exec_driver_sql("COMMIT")
        except DBAPIError as error:
            connection.invalidate()
            self._find_out(first, handled[0].envelope.key, error)

    def _find_out(self, first: tuple[LogPosition, str] | None, key: tuple[str, str], error: DBAPIError) -> None:
        """An error at COMMIT is not a failure: ask the log whether it happened. Returns if it did."""
        patiently = Retrying(
            retry=retry_if_exception_type(Unavailable),
            stop=stop_after_delay(self._database.patience_seconds),
            wait=wait_exponential_jitter(multiplier=0.05, max=1.0),
            reraise=True,
        )
        try:
            happened = patiently(self._stands, first, key)
        except Unavailable as still_away:
            raise OutcomeUnknown(
                "The database went away while it committed: the command may be done. Send the same again to find out; "
                "it is done at most once."
            ) from still_away
        if not happened:
            raise ConnectionLost("The connection was lost before the commit; nothing was done") from error

    def _stands(self, first: tuple[LogPosition, str] | None, key: tuple[str, str]) -> bool:
        """Whether our first event has its place in the log (without events: our first command is in the inbox)."""
        statements, writer = self._database.statements, self._database.writer
        with translated(), self._database.engine.connect() as connection:
            connection.exec_driver_sql(statements.dialect.begin)
            try:
                if first is None:
                    return bool(statements.inbox(connection, [key]))
                position, event_id = first
                # The lock waits for our lost transaction, should the server still be busy with it.
                writer.lock_head(connection, position.partition)
                return statements.event_id(connection, position) == event_id
            finally:
                connection.exec_driver_sql("ROLLBACK")


def _handled(row: Sequence[Any]) -> Handled:
    source, message_id, client, kind, body, outcome, partition, position, at, correlation, causation, trace = row
    result, refusal = decode_outcome(outcome)
    envelope = CommandEnvelope(
        decode_command(kind, body),
        message_id,
        datetime.fromisoformat(at) if isinstance(at, str) else at,
        correlation,
        source,
        client,
        brought_id=True,
        causation_id=causation,
        traceparent=trace,
    )
    placed = None if position is None else LogPosition(partition, position)
    return Handled(envelope, result, refusal, changed=placed is not None, position=placed)
