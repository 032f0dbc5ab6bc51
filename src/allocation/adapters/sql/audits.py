"""The state of the self-audit, in the database."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
from sqlalchemy import Engine, insert, select, update

from allocation.adapters.serialization import UNREADABLE
from allocation.adapters.sql.engine import dialect_of, transaction
from allocation.adapters.sql.errors import translated
from allocation.adapters.sql.tables import self_audit
from allocation.service_layer.envelope import Clock
from allocation.service_layer.self_audit import Audit, AuditStore, Round

_ROW = 0


class SqlAuditStore(AuditStore):
    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine, self._clock, self._dialect = engine, clock, dialect_of(engine)

    def read(self) -> Audit:
        with translated(), self._engine.connect() as connection:
            row = connection.execute(select(self_audit)).one_or_none()
        return Audit() if row is None else _audit(row)

    def take(self, owner: str, seconds: float) -> Audit | None:
        now = self._clock.now()
        until = now + timedelta(seconds=seconds)
        with transaction(self._engine, self._dialect.begin) as connection:
            row = connection.execute(select(self_audit).with_for_update()).one_or_none()
            if row is None:
                fresh = {"id": _ROW, "owner": owner, "leased_until": until, "place": ""}
                connection.execute(insert(self_audit).values(fresh))
                return Audit(owner=owner)
            if row.owner != owner and row.leased_until > now:
                return None
            connection.execute(update(self_audit).values(owner=owner, leased_until=until))
        return _audit(row)

    def write(self, audit: Audit, owner: str) -> bool:
        kept = {"place": audit.place, "current_round": _text(audit.current), "last_round": _text(audit.last)}
        with transaction(self._engine, self._dialect.begin) as connection:
            return connection.execute(update(self_audit).where(self_audit.c.owner == owner).values(kept)).rowcount == 1


def _audit(row: Any) -> Audit:
    return Audit(row.place, _round(row.current_round), _round(row.last_round), row.owner)


def _text(told: Round | None) -> str | None:
    return None if told is None else msgspec.json.encode(told).decode()


def _round(text: str | None) -> Round | None:
    try:
        return None if text is None else msgspec.json.decode(text, type=Round)
    except UNREADABLE:
        return None
