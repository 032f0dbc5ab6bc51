"""Cursors, leases, lanes and dead letters in the database that holds the log."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy import Connection, Engine, Integer, Select, and_, bindparam, delete, func, insert, or_, select, update

from allocation.adapters.serialization import text_of
from allocation.adapters.sql.cursor_rows import make_cursors, writing
from allocation.adapters.sql.engine import dialect_of
from allocation.adapters.sql.errors import translated
from allocation.adapters.sql.lane_rows import behind, lane_from, record, row_of, seen_alone, write_turn
from allocation.adapters.sql.read_models import write
from allocation.adapters.sql.tables import (
    dead_letters,
    discards,
    event_log,
    lanes,
    log_head,
    subscriptions,
    workers,
)
from allocation.adapters.sql.views import logged_from
from allocation.service_layer.envelope import Clock, EventEnvelope, Ids, LogPosition
from allocation.service_layer.errors import LeaseLost
from allocation.service_layer.ports import DeadLetter, DeadLetters
from allocation.service_layer.subscriptions import (
    Cursor,
    Discarded,
    Lane,
    Lease,
    Settlement,
    SubscriptionStore,
    Turn,
    heeding,
)

FORGOTTEN_AFTER = timedelta(hours=1)
"""When the row of a worker that died is removed: long after the server has ended its connection."""

_BEHIND = (
    select(event_log)
    .where(event_log.c.log_partition == bindparam("partition"), event_log.c.position > bindparam("after"))
    .order_by(event_log.c.position)
    .limit(bindparam("most", type_=Integer))
)
_AS_NEW = {
    "attempts": 0,
    "reason": "",
    "discarded_by": None,
    "discarded_why": None,
    "lock_token": None,
    "locked_until": None,
}
"""A lane at an event with which nothing has happened yet."""

PAGES_KEPT = 8
"""How many full pages are kept, so that subscriptions which catch up side by side read and decode the log once: what a
full page holds does not change, and nothing is inserted in between."""


class SqlSubscriptionStore(SubscriptionStore):
    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine, self._clock = engine, clock
        self._full_pages: dict[tuple[int, int, int], list[EventEnvelope]] = {}
        self._dialect = dialect_of(engine)

    def join(self, name: str, from_the_beginning: bool) -> None:
        with writing(self._engine) as connection:
            make_cursors(connection, self._dialect, name, from_the_beginning, self._clock.now())

    def cursors(self) -> list[Cursor]:
        s = subscriptions.c
        query = (
            select(s.name, s.log_partition, s.position, log_head.c.seq, s.owner, s.leased_until)
            .join(log_head, log_head.c.log_partition == s.log_partition)
            .order_by(s.name, s.log_partition)
        )
        with translated(), self._engine.connect() as connection:
            return [Cursor(*row) for row in connection.execute(query)]

    def rewind(self, name: str, after: Sequence[LogPosition]) -> int:
        start, moved, now = {position.partition: position.seq for position in after}, 0, self._clock.now()
        with writing(self._engine) as connection:
            for partition in connection.scalars(select(log_head.c.log_partition).order_by(log_head.c.log_partition)):
                seq, c = start.get(partition, 0), subscriptions.c
                here = and_(c.name == name, c.log_partition == partition)
                # Done in any case: the owner may have come further than the cursor says.
                lost = {"owner": "", "epoch": c.epoch + 1, "leased_until": now}
                connection.execute(update(subscriptions).where(here).values(lost))
                back = connection.execute(
                    update(subscriptions).where(here, c.position > seq).values(position=seq)
                ).rowcount
                # Also where the cursor stays: a puller of one key can take its lane beyond the cursor.
                ahead = and_(lanes.c.subscription == name, lanes.c.log_partition == partition)
                again = {"next_position": seq + 1, "due_at": now, **_AS_NEW}
                back += connection.execute(
                    update(lanes).where(ahead, lanes.c.next_position > seq + 1).values(again)
                ).rowcount
                moved += back > 0
        return moved

    def live(self, owner: str, seconds: float) -> int:
        now = self._clock.now()
        # Not the rows of workers that have just died: one that was stopped in the middle of this holds its row's lock.
        gone = workers.c.lives_until <= now - FORGOTTEN_AFTER
        with writing(self._engine) as connection:
            connection.execute(delete(workers).where(or_(workers.c.owner == owner, gone)))
            connection.execute(insert(workers).values(owner=owner, lives_until=now + timedelta(seconds=seconds)))
            return connection.scalar(select(func.count()).where(workers.c.lives_until > now)) or 1

    def leave(self, owner: str) -> None:
        with writing(self._engine) as connection:
            connection.execute(delete(workers).where(workers.c.owner == owner))

    def lease(
        self, name: str, partition: int, owner: str, seconds: float, patience_seconds: float = 0.0
    ) -> Lease | None:
        now = self._clock.now()
        row = and_(subscriptions.c.name == name, subscriptions.c.log_partition == partition)
        ours = and_(subscriptions.c.owner == owner, subscriptions.c.leased_until > now)
        free = or_(ours, subscriptions.c.leased_until <= now - timedelta(seconds=patience_seconds))
        with writing(self._engine) as connection:
            held = connection.execute(select(subscriptions).where(row, free).with_for_update()).one_or_none()
            if held is None:
                return None
            epoch = held.epoch + 1
            until = now + timedelta(seconds=seconds)
            connection.execute(update(subscriptions).where(row).values(owner=owner, epoch=epoch, leased_until=until))
        return Lease(name, partition, owner, epoch, held.position, until)

    def release(self, lease: Lease) -> None:
        with writing(self._engine) as connection:
            connection.execute(update(subscriptions).where(*_held(lease)).values(leased_until=self._clock.now()))

    def read(self, partition: int, after: int, limit: int) -> list[EventEnvelope]:
        if page := self._full_pages.get((partition, after, limit)):
            return page
        with translated(), self._engine.connect() as connection:
            return self._read(connection, partition, after, limit)

    def _read(self, connection: Connection, partition: int, after: int, limit: int) -> list[EventEnvelope]:
        if page := self._full_pages.get((partition, after, limit)):
            return page
        place = {"partition": partition, "after": after, "most": limit}
        page = [logged_from(row) for row in connection.execute(_BEHIND, place).all()]
        if len(page) == limit:
            while len(self._full_pages) >= PAGES_KEPT:
                self._full_pages.pop(next(iter(self._full_pages), (0, 0, 0)), None)
            self._full_pages[partition, after, limit] = page
        return page

    def time_behind(self, partition: int, after: int) -> datetime | None:
        here = and_(event_log.c.log_partition == partition, event_log.c.position > after)
        query = select(event_log.c.at).where(here).order_by(event_log.c.position).limit(1)
        with translated(), self._engine.connect() as connection:
            return connection.scalar(query)

    def read_key(self, lane: Lane, until: int, limit: int) -> list[EventEnvelope]:
        with translated(), self._engine.connect() as connection:
            return self._read_key(connection, lane, until, limit)

    def _read_key(self, connection: Connection, lane: Lane, until: int, limit: int) -> list[EventEnvelope]:
        here = and_(behind(lane), event_log.c.position <= until)
        rows = connection.execute(select(event_log).where(here).order_by(event_log.c.version).limit(limit))
        return [logged_from(row) for row in rows.all()]

    def lanes(self, name: str | None = None, partition: int | None = None) -> list[Lane]:
        query = select(lanes).order_by(lanes.c.subscription, lanes.c.key)
        if name is not None:
            query = query.where(lanes.c.subscription == name)
        if partition is not None:
            query = query.where(lanes.c.log_partition == partition)
        with translated(), self._engine.connect() as connection:
            return [lane_from(row) for row in connection.execute(query)]

    def discarded(self, partition: int, first: int, last: int) -> list[Discarded]:
        d = discards.c
        query = select(d.subscription, d.log_partition, d.position, d.discarded_by, d.why).where(
            d.subscription.in_(select(subscriptions.c.name)),  # by name and place, in the key's order
            d.log_partition == partition,
            d.position.between(first, last),
        )
        with translated(), self._engine.connect() as connection:
            return [Discarded(*row) for row in connection.execute(query)]

    def settle(self, lease: Lease, settlement: Settlement, seconds: float) -> Lease:
        now = self._clock.now()
        until = now + timedelta(seconds=seconds)
        with writing(self._engine) as connection:
            moved = connection.execute(
                update(subscriptions).where(*_held(lease)).values(position=settlement.seq, leased_until=until)
            )
            if moved.rowcount != 1:
                raise LeaseLost(f"{lease.subscription} on partition {lease.partition} has another owner")
            record(connection, settlement.discarded, now)
            touched = sorted(settlement.closed | settlement.lanes.keys())
            if touched:
                here = (lanes.c.subscription == lease.subscription) & lanes.c.key.in_(touched)
                current = {
                    row.key: lane_from(row) for row in connection.execute(select(lanes).where(here).with_for_update())
                }
                connection.execute(delete(lanes).where(here))
            if settlement.lanes:
                rows = [
                    row_of(heeding(lane, settlement.seen.get(key), current.get(key)))
                    for key, lane in settlement.lanes.items()
                ]
                connection.execute(insert(lanes), rows)
            write(settlement.read_models, self._dialect, connection)
        return replace(lease, seq=settlement.seq, until=until)

    @contextmanager
    def turn(self, name: str, partition: int) -> Iterator[Turn]:
        with writing(self._engine) as connection:
            seq, found = seen_alone(connection, name, partition)
            read, read_key = partial(self._read, connection, partition), partial(self._read_key, connection)
            turn = Turn(name, partition, seq, found, read, read_key)
            yield turn
            if turn.settlement is not None:
                write_turn(connection, turn, turn.settlement, self._clock.now())

    def set_due(self, name: str, key: str, discard: tuple[str, str] | None = None, seq: int | None = None) -> bool:
        who, why = discard or (None, None)
        lane = and_(lanes.c.subscription == name, lanes.c.key == key)
        with writing(self._engine) as connection:
            found = connection.execute(
                update(lanes)
                .where(lane if seq is None else lane & (lanes.c.next_position == seq))
                .values(due_at=self._clock.now(), attempts=0, discarded_by=who, discarded_why=why)
            )
        return found.rowcount == 1


class SqlDeadLetters(DeadLetters):
    def __init__(self, engine: Engine, ids: Ids, clock: Clock) -> None:
        self._engine, self._ids, self._clock = engine, ids, clock

    def keep(self, source: str, body: bytes, reason: str) -> None:
        letter = {
            "id": self._ids.new(),
            "source": source,
            "body": text_of(body),
            "reason": reason,
            "at": self._clock.now(),
        }
        with translated(), self._engine.connect() as connection:
            connection.execute(insert(dead_letters).values(letter))

    def newest(self, limit: int = 100, behind: str | None = None) -> list[DeadLetter]:
        query = select(dead_letters).order_by(dead_letters.c.id.desc()).limit(limit)
        return self._read(query if behind is None else query.where(dead_letters.c.id < behind))

    def letter(self, letter_id: str) -> DeadLetter | None:
        found = self._read(select(dead_letters).where(dead_letters.c.id == letter_id))
        return found[0] if found else None

    def remove(self, letter_id: str) -> bool:
        with translated(), self._engine.connect() as connection:
            return connection.execute(delete(dead_letters).where(dead_letters.c.id == letter_id)).rowcount == 1

    def count(self) -> int:
        with translated(), self._engine.connect() as connection:
            return connection.scalar(select(func.count()).select_from(dead_letters)) or 0

    def _read(self, query: Select[Any]) -> list[DeadLetter]:
        with translated(), self._engine.connect() as connection:
            return [DeadLetter(r.id, r.source, r.body, r.reason, r.at) for r in connection.execute(query)]


def _held(lease: Lease) -> tuple[Any, ...]:
    """The row of a lease, if it is still this owner's."""
    return (
        subscriptions.c.name == lease.subscription,
        subscriptions.c.log_partition == lease.partition,
        subscriptions.c.epoch == lease.epoch,
    )
