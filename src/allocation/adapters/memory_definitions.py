"""Definitions of subscriptions in plain memory."""

from __future__ import annotations

from dataclasses import replace
from threading import Lock

from allocation.adapters.memory_subscriptions import MemorySubscriptionStore
from allocation.service_layer.definitions import Definition, Definitions


class MemoryDefinitions(Definitions):
    """`subscriptions` keeps their cursors and lanes."""

    def __init__(self, subscriptions: MemorySubscriptionStore) -> None:
        self._subscriptions = subscriptions
        self._lock = Lock()
        self._kept: dict[str, Definition] = {}

    def put(self, definition: Definition, known: Definition | None, from_the_beginning: bool) -> bool:
        name = definition.name
        with self._lock:
            if self._kept.get(name) != known:
                return False
            if known is None:
                self._subscriptions.forget(name)
            self._subscriptions.join(name, from_the_beginning)
            self._kept[name] = definition
            return True

    def get(self, name: str) -> Definition | None:
        with self._lock:
            return self._kept.get(name)

    def all(self) -> list[Definition]:
        with self._lock:
            return [definition for _, definition in sorted(self._kept.items())]

    def delete(self, name: str) -> bool:
        with self._lock:
            if self._kept.pop(name, None) is None:
                return False
            self._subscriptions.forget(name)
            return True

    def stop(self, definition: Definition, reason: str) -> bool:
        with self._lock:
            if self._kept.get(definition.name) != definition:
                return False
            self._kept[definition.name] = replace(definition, stopped=reason)
            return True
