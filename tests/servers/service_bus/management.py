"""What the SDK asks at an entity's `$management`: renewals, schedules, peeking, deferred messages, session state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from proton import UNDESCRIBED, Array, Data, Message, symbol

from tests.servers.service_bus.entities import Queue, milliseconds, new_token
from tests.servers.service_bus.store import Store
from tests.servers.service_bus.wire import decoded

LOCK_LOST = (410, "com.microsoft:message-lock-lost", "The lock supplied is invalid.")
SESSION_LOST = (410, "com.microsoft:session-lock-lost", "The session lock has expired.")
NOTHING = (204, "", "NoContent")


class Refused(Exception):
    """Status, condition and description of an answer that is none of success."""


class Management:
    """Answers requests; `holder` is the link that the request speaks of, where it names one."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._operations: dict[str, Callable[[Queue, dict[str, Any], object], object]] = {
            "renew-lock": self._renew_locks,
            "renew-session-lock": self._renew_session,
            "get-session-state": lambda queue, said, _: {"session-state": queue.lines[said["session-id"]].state},
            "set-session-state": self._set_state,
            "cancel-scheduled-message": self._cancel,
            "peek-message": self._peek,
            "receive-by-sequence-number": self._deferred,
            "update-disposition": self._settle,
        }

    def answer(self, address: str, request: Message, holder: object) -> Message:
        operation = str(request.properties["operation"]).removeprefix("com.microsoft:")
        said, queue = request.body or {}, self._store.queue(address)
        told: dict[str, Any] = {"statusCode": 200, "statusDescription": "OK"}
        body: object = None
        try:
            if operation == "schedule-message":
                body = self._schedule(address, said)
            elif queue is None or operation not in self._operations:
                raise Refused(501, "amqp:not-implemented", operation)
            else:
                body = self._operations[operation](queue, said, holder)
        except Refused as refused:
            status, condition, text = refused.args
            told = {"statusCode": status, "statusDescription": text, "errorCondition": symbol(condition)}
        return Message(properties=told, correlation_id=request.id, body=body)

    def _schedule(self, address: str, said: dict[str, Any]) -> object:
        messages = [decoded(bytes(one["message"])) for one in elements(said["messages"])]
        return {"sequence-numbers": Array(UNDESCRIBED, Data.LONG, *(self._store.enqueue(address, m) for m in messages))}

    def _cancel(self, queue: Queue, said: dict[str, Any], _: object) -> object:
        for number in elements(said["sequence-numbers"]):
            queue.forget(number)
        return None

    def _renew_locks(self, queue: Queue, said: dict[str, Any], _: object) -> object:
        held = [queue.held.get(token) for token in elements(said["lock-tokens"])]
        if None in held:
            raise Refused(*LOCK_LOST)
        until = self._store.clock() + queue.settings.lock_seconds
        for one in held:
            assert one is not None
            one.until = until
        return {"expirations": Array(UNDESCRIBED, Data.TIMESTAMP, *(milliseconds(until) for _ in held))}

    def _renew_session(self, queue: Queue, said: dict[str, Any], holder: object) -> object:
        line = queue.lines.get(said["session-id"])
        if line is None or line.holder is None or line.holder is not holder:
            raise Refused(*SESSION_LOST)
        line.until = self._store.clock() + queue.settings.lock_seconds
        return {"expiration": milliseconds(line.until)}

    def _set_state(self, queue: Queue, said: dict[str, Any], _: object) -> object:
        queue.lines[said["session-id"]].state = bytes(said["session-state"])
        return None

    def _peek(self, queue: Queue, said: dict[str, Any], _: object) -> object:
        waiting = [entry for line in queue.lines.values() for entry in line.ready]
        waiting += [held.entry for held in queue.held.values()] + [entry for _, entry in queue.scheduled]
        found = sorted(entry for entry in waiting if entry.number >= said["from-sequence-number"])
        if not found:
            raise Refused(*NOTHING)
        return {"messages": [{"message": one.outgoing(None).encode()} for one in found[: said["message-count"]]]}

    def _deferred(self, queue: Queue, said: dict[str, Any], holder: object) -> object:
        found = []
        for number in elements(said["sequence-numbers"]):
            if number not in queue.deferred:
                raise Refused(404, "com.microsoft:message-not-found", str(number))
            entry, token = queue.deferred.pop(number), new_token()
            queue.relock(token, entry, holder, self._store.clock())
            found.append({"message": entry.outgoing(None).encode(), "lock-token": token})
        return {"messages": found}

    def _settle(self, queue: Queue, said: dict[str, Any], _: object) -> object:
        tokens = list(elements(said["lock-tokens"]))
        if not all(token in queue.held for token in tokens):
            raise Refused(*LOCK_LOST)
        for token in tokens:
            settle(queue, token, said, self._store.clock())
        return None


def settle(queue: Queue, token: Any, said: dict[str, Any], now: float) -> None:
    match said["disposition-status"]:
        case "completed":
            queue.complete(token)
        case "abandoned":
            queue.give_back(token, now, has_failed=True)
        case "suspended":
            queue.dead_letter(token, said.get("deadletter-reason", ""), said.get("deadletter-description", ""), now)
        case "defered":
            queue.defer(token)


def elements(listed: Any) -> Any:
    return listed.elements if isinstance(listed, Array) else listed
