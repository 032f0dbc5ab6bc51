"""One transaction on SQLite or PostgreSQL, in an order that prevents deadlocks and wrong positions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Any, Self

from sqlalchemy import Connection, Engine
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_exponential_jitter

from allocation.adapters.serialization import decode_command, decode_outcome
from allocation.adapters.sql.appending import Appender, Appending
from allocation.adapters.sql.dialects import Step
from allocation.adapters.sql.engine import dialect_of, roll_back, turn_to_write
from allocation.adapters.sql.errors import translated
from allocation.adapters.sql.hot_products import HotProducts
from allocation.adapters.sql.projector import project
from allocation.adapters.sql.repository import Pages, Session, SqlRepository
from allocation.adapters.sql.statements import Statements
from allocation.adapters.sql.writing import Writer
from allocation.service_layer.envelope import Clock, CommandEnvelope, Ids, LogPosition
from allocation.service_layer.errors import ConnectionLost, OutcomeUnknown, Unavailable
from allocation.service_layer.needs import needs_of
from allocation.service_layer.unit_of_work import Handled, UnitOfWork


@dataclass(frozen=True, slots=True)
class Database:
    """What all units of work on one database share."""

    engine: Engine
    statements: Statements
    writer: Writer
    appender: Appender
    clock: Clock
    pages: Pages
    hot: HotProducts
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
        hot_products: int = 0,
    ) -> Database:
        """`patience_seconds`: how long to retry a database that became unreachable during a commit; `hot_products`: how
        many products are kept in memory between transactions."""
        dialect = dialect_of(engine)
        writer, appender = Writer(dialect), Appender(dialect, ids, partitions)
        hot = HotProducts(hot_products, clock)
        return cls(engine, Statements(dialect), writer, appender, clock, pages or Pages(), hot, patience_seconds)


class SqlUnitOfWork(UnitOfWork):
    products: SqlRepository

    def __init__(self, database: Database) -> None:
        self._database = database
        self._asked: Appending | None = None
        """What is being committed, once COMMIT has been requested."""
        self._written: dict[str, int] | None = None

    def __enter__(self) -> Self:
        with ExitStack() as entering:
            entering.enter_context(turn_to_write(self._database.engine))
            with translated():
                self._connection: Connection = self._database.engine.connect()
            self._turn = entering.pop_all()
        self._session = Session(self._connection, self._database.statements, self._database.pages)
        self.products = SqlRepository(self._session, self._database.hot)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._written is not None:
                self.products.keep_hot(self._written)
            if self._session.begun:
                roll_back(self._connection)
        finally:
            self._connection.close()
            self._turn.close()

    def begin(self, envelopes: Sequence[CommandEnvelope]) -> dict[tuple[str, str], Handled]:
        brought = {envelope.key for envelope in envelopes if envelope.brought_id}
        inbox = [self._database.statements.inbox(brought)] if brought else []
        found = self.products.load(needs_of(envelope.command for envelope in envelopes), behind=inbox)
        return {(row[0], row[1]): handled_from(row) for outcome in found for row in outcome.rows}

    def commit(self, handled: Sequence[Handled]) -> None:
        versions = {event.sku: version for done in handled for event, version in done.events}
        try:
            self._session.run(self._writing(handled, versions))
        except ConnectionLost as error:
            if self._asked is None:
                raise  # nothing can have been committed, and the log entries to ask for are not made yet
            self._asked.heads.seqs = self._find_out(self._asked, handled[0].envelope.key, error)
        else:
            self._written = versions
        self._session.begun = False
        if self._asked is not None:
            self._asked.tell()

    def _writing(self, handled: Sequence[Handled], versions: Mapping[str, int]) -> Iterator[Step]:
        """No step is made before its turn: the server works on one step while the next is made."""
        writer, products = self._database.writer, self.products
        yield from writer.versions(products.versions, versions)
        rows = project(pair for done in handled for pair in done.events)
        yield from writer.state(rows, products.stored(rows.lines.keys()))
        yield from writer.delete_unused(products.inserted - versions.keys())
        appending = self._database.appender.append(handled, self._database.clock.now())
        yield from appending.steps()
        self._asked = appending
        yield Step("COMMIT")

    def _find_out(self, appending: Appending, key: tuple[str, str], error: ConnectionLost) -> dict[int, int]:
        """An error at COMMIT does not mean that it failed: ask the log whether it happened. Returns the new heads if it
        did."""
        patiently = Retrying(
            retry=retry_if_exception_type(Unavailable),
            stop=stop_after_delay(self._database.patience_seconds),
            wait=wait_exponential_jitter(multiplier=0.05, max=1.0),
            reraise=True,
        )
        try:
            heads = patiently(self._heads_if_committed, appending, key)
        except Unavailable as still_away:
            raise OutcomeUnknown(
                "The database went away while it committed: the command may have been done. Send it again to find out; "
                "it is done at most once."
            ) from still_away
        if heads is None:
            raise ConnectionLost("The connection was lost before the commit; nothing was done") from error
        return heads

    def _heads_if_committed(self, appending: Appending, key: tuple[str, str]) -> dict[int, int] | None:
        """The heads that our events lead to, if they are in the log (without events: if our command is in the
        inbox)."""
        database = self._database
        with translated(), database.engine.connect() as connection:
            session = Session(connection, database.statements, database.pages)
            try:
                samples = appending.samples()
                if not samples:
                    return {} if session.rows(database.statements.inbox([key])) else None
                # These locks wait for our lost transaction, in case the server is still busy with it.
                session.run(database.appender.wait_for(partition) for partition in samples)
                heads = {}
                for partition, sample in samples.items():
                    found = session.rows(database.statements.logged(sample.sku, sample.version, sample.id))
                    if not found:
                        return None
                    heads[partition] = found[0][0] + sample.behind
                return heads
            finally:
                roll_back(connection)


def handled_from(row: Sequence[Any]) -> Handled:
    """From a row of the inbox, its columns in the order of `Statements.inbox`."""
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
