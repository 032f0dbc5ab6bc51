"""Definitions of subscriptions in plain memory."""

from __future__ import annotations

from dataclasses import replace
from threading import Lock

from allocation.service_layer.definitions import Definition, Definitions


class MemoryDefinitions(Definitions):
    def __init__(self) -> None:
        self._lock = Lock()
        self._kept: dict[str, Definition] = {}

    def put(self, definition: Definition) -> None:
        with self._lock:
            self._kept[definition.name] = definition

    def get(self, name: str) -> Definition | None:
        with self._lock:
            return self._kept.get(name)

    def all(self) -> list[Definition]:
        with self._lock:
            return [definition for _, definition in sorted(self._kept.items())]

    def delete(self, name: str) -> bool:
        with self._lock:
            return self._kept.pop(name, None) is not None

    def stop(self, definition: Definition, reason: str) -> bool:
        with self._lock:
            if self._kept.get(definition.name) != definition:
                return False
            self._kept[definition.name] = replace(definition, stopped=reason)
            return True
