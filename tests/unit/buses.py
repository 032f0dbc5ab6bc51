"""A bus over a memory store that keeps a diary, and short ways to use it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from allocation.adapters.memory import MemoryViews
from allocation.domain.commands import Command, CreateBatch
from allocation.domain.events import Event
from allocation.service_layer.answers import Answer
from allocation.service_layer.handlers import COMMAND_HANDLERS
from allocation.service_layer.messagebus import MessageBus
from tests.fakes import CountingIds, Diary, SetClock

CHAIRS = CreateBatch("b1", "RED-CHAIR", 10)


def make_bus(diary: Diary, attempts: int = 3, **handlers: Callable[..., Any]) -> MessageBus:
    """A bus over the diary's store; `handlers` replace those of the commands so named."""
    all_handlers = {kind: handlers.get(kind.__name__, handler) for kind, handler in COMMAND_HANDLERS.items()}
    return MessageBus(diary, all_handlers, CountingIds(), SetClock(), attempts=attempts)


def group(bus: MessageBus, *commands: Command) -> list[Answer]:
    return bus.handle_many([bus.envelope(command) for command in commands])


def logged(diary: Diary) -> list[Event]:
    return [envelope.event for envelope in diary.store.log[0]]


def placed(diary: Diary, orderid: str) -> str | None:
    promise = MemoryViews(diary.store).line(orderid, "RED-CHAIR")
    return promise and promise.batchref
