"""Rows of lanes and discards: read and written for deliveries and for pulls."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, and_, delete, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from allocation.adapters.sql.tables import discards, event_log, lanes, subscriptions
from allocation.service_layer.errors import UnknownSubscription
from allocation.service_layer.subscriptions import Lane, Settlement, Turn


def lane_from(row: Any) -> Lane:
    discard = None if row.discarded_by is None else (row.discarded_by, row.discarded_why)
    return Lane(
        row.subscription,
        row.key,
        row.log_partition,
        row.next_position,
        row.attempts,
        row.due_at,
        row.reason,
        discard,
        row.lock_token,
        row.locked_until,
    )


def row_of(lane: Lane) -> dict[str, Any]:
    who, why = lane.discard or (None, None)
    return {
        "subscription": lane.subscription,
        "key": lane.key,
        "log_partition": lane.partition,
        "next_position": lane.next_seq,
        "attempts": lane.attempts,
        "due_at": lane.due_at,
        "reason": lane.reason.replace("\0", " "),  # a destination's text; PostgreSQL cannot store NUL
        "discarded_by": who,
        "discarded_why": why,
        "lock_token": lane.lock_token,
        "locked_until": lane.locked_until,
    }


def record(connection: Connection, discarded: Iterable[tuple[Lane, int, str, str]], now: datetime) -> None:
    """Record for good which events are skipped, by whom and why."""
    for lane, seq, who, why in discarded:
        # After a subscription went back in the log, the same event may be discarded again.
        connection.execute(
            delete(discards).where(
                discards.c.subscription == lane.subscription,
                discards.c.log_partition == lane.partition,
                discards.c.position == seq,
            )
        )
        connection.execute(
            insert(discards).values(
                subscription=lane.subscription,
                log_partition=lane.partition,
                position=seq,
                key=lane.key,
                discarded_by=who,
                why=why,
                reason=lane.reason,
                at=now,
            )
        )


def behind(lane: Lane) -> Any:
    """The events of the lane's key from `next_seq` on, for a WHERE.

    The event at that place, or the one before it, usually has this key: the key's own index is then entered at its
    version, so that a long history is not read each time.
    """
    at, before = (_version_at(lane, seq) for seq in (lane.next_seq, lane.next_seq - 1))
    return and_(
        event_log.c.log_partition == lane.partition,
        event_log.c.sku == lane.key,
        event_log.c.version >= func.coalesce(at, before, 0),
        event_log.c.position >= lane.next_seq,
    )


def _version_at(lane: Lane, seq: int) -> Any:
    one = event_log.alias()
    here = and_(one.c.log_partition == lane.partition, one.c.position == seq, one.c.sku == lane.key)
    return select(one.c.version).where(here).scalar_subquery()


def seen_alone(connection: Connection, name: str, partition: int) -> tuple[int, Mapping[str, Lane]]:
    """The cursor and the lanes of a subscription's partition, locked until the transaction ends. Raises
    `UnknownSubscription`."""
    s = subscriptions.c
    cursor = select(s.position).where(s.name == name, s.log_partition == partition).with_for_update()
    seq = connection.scalar(cursor)
    if seq is None:
        raise UnknownSubscription(name)
    here = and_(lanes.c.subscription == name, lanes.c.log_partition == partition)
    return seq, {row.key: lane_from(row) for row in connection.execute(select(lanes).where(here).with_for_update())}


def write_turn(connection: Connection, turn: Turn, settlement: Settlement, now: datetime) -> None:
    """Write the result of a turn. Lanes that stay are updated in place, because another call may be waiting to settle
    one."""
    s = subscriptions.c
    if settlement.seq != turn.seq:
        cursor = and_(s.name == turn.subscription, s.log_partition == turn.partition)
        connection.execute(update(subscriptions).where(cursor).values(position=settlement.seq))
    record(connection, settlement.discarded, now)
    if closed := settlement.closed & turn.lanes.keys():
        connection.execute(delete(lanes).where(lanes.c.subscription == turn.subscription, lanes.c.key.in_(closed)))
    if settlement.lanes:
        inserting = (sqlite if connection.dialect.name == "sqlite" else postgresql).insert(lanes)
        changed = {c.name: inserting.excluded[c.name] for c in lanes.columns if not c.primary_key}
        upsert = inserting.on_conflict_do_update(index_elements=["subscription", "key"], set_=changed)
        connection.execute(upsert, [row_of(lane) for lane in settlement.lanes.values()])
