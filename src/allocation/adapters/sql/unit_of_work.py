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
from allocation.adapters.sql.dialects import Step
from allocation.adapters.sql.engine import dialect_of
from allocation.adapters.sql.errors import translated
from allocation.adapters.sql.projector import project
from allocation.adapters.sql.repository import Pages, Session, SqlRepository
from allocation.adapters.sql.statements import Statements
from allocation.adapters.sql.writing import Place, Writer
from allocation.service_layer.envelope import Clock, CommandEnvelope, Ids, LogPosition
from allocation.service_layer.errors import Conflict, ConnectionLost, OutcomeUnknown, Unavailable
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

    def __enter__(self) -> Self:
        with translated():
            self._connection: Connection = self._database.engine.connect()
        self._session = Session(self._connection, self._database.statements, self._database.pages)
        self.products = SqlRepository(self._session)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if not self._connection.invalidated and self._session.begun:
                self._connection.exec_driver_sql("ROLLBACK")
        except DBAPIError:
            # The connection is gone, and the transaction with it; a pool must not hand it out again.
            self._connection.invalidate()
        finally:
            self._connection.close()

    def begin(self, envelopes: Sequence[CommandEnvelope]) -> dict[tuple[str, str], Handled]:
        self.products.load(needs_of(envelope.command for envelope in envelopes))
        brought = {envelope.key for envelope in envelopes if envelope.brought_id}
        if not brought:
            return {}
        return {(row[0], row[1]): _handled(row) for row in self._session.rows(self._database.statements.inbox(brought))}

    def commit(self, handled: Sequence[Handled]) -> None:
        writer, session, now = self._database.writer, self._session, self._database.clock.now()
        rows = project(pair for done in handled for pair in done.events)
        state = writer.state(rows, self.products.versions) if rows.versions else []
        if unused := self.products.inserted - rows.versions.keys():
            state.append((writer.delete_unused(unused), None))
        taken = writer.positions(handled, now)
        outcomes = session.run(*(step for step, _ in state), *(step for _, step in taken.values()))
        for (_, wanted), outcome in zip(state, outcomes, strict=False):
            if wanted is not None and outcome.count != wanted:
                raise Conflict(f"{wanted - outcome.count} of {wanted} rows are not as they were loaded")
        places = {
            partition: Place(partition, outcome.rows[0][0] - count, outcome.rows[0][1])
            for (partition, (count, _)), outcome in zip(taken.items(), outcomes[len(state) :], strict=True)
        }
        steps, first = writer.log(handled, places, now)
        try:
            session.run(*steps, Step("COMMIT"))
        except ConnectionLost as error:
            self._connection.invalidate()
            self._find_out(first, handled[0].envelope.key, error)
        session.begun = False

    def _find_out(self, first: tuple[LogPosition, str] | None, key: tuple[str, str], error: ConnectionLost) -> None:
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
        database = self._database
        with translated(), database.engine.connect() as connection:
            session = Session(connection, database.statements, database.pages)
            try:
                if first is None:
                    return bool(session.rows(database.statements.inbox([key])))
                position, event_id = first
                # The lock waits for our lost transaction, should the server still be busy with it.
                _, found = session.run(
                    database.writer.wait_for(position.partition), database.statements.event_id(position)
                )
                return [tuple(row) for row in found.rows] == [(event_id,)]
            finally:
                if not connection.invalidated:
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
