"""Notifies workers in other processes, over Redis pub/sub, that the log grew. One that misses the hint finds out by
polling."""

from __future__ import annotations

import logging
from collections.abc import Callable
from threading import Event as Flag
from threading import Lock, Thread

import redis

from allocation.adapters.brokers.redis_pubsub import RedisSubscriber, connect
from allocation.service_layer.errors import Unavailable
from allocation.service_layer.worker import WakeUp

LISTEN_SECONDS = 0.5
SHORTEST_GAP_SECONDS = 0.002
PAUSE_SECONDS = 5.0  # while Redis is unreachable; polling continues

_log = logging.getLogger(__name__)


class RedisWakeUp(WakeUp):
    """`ring` costs a committing thread nothing: another thread notifies Redis, once for all calls made meanwhile."""

    def __init__(self, url: str, namespace: str) -> None:
        self._client, self._channel = connect(url), f"{namespace}:wake-up"
        self._rung, self._closing = Flag(), Flag()
        self._threads: list[Thread] = []
        self._mutex, self._is_telling = Lock(), False

    def ring(self) -> None:
        if self._rung.is_set():
            return
        self._rung.set()
        with self._mutex:
            if not self._is_telling:
                self._is_telling = True
                self._start("wake-up rings", self._tell)

    def listen(self, heard: Callable[[], None]) -> None:
        self._start("wake-up listens", lambda: self._hear(heard))

    def close(self) -> None:
        self._closing.set()
        self._rung.set()
        for thread in self._threads:
            thread.join()
        self._client.close()

    def _start(self, name: str, work: Callable[[], None]) -> None:
        thread = Thread(target=work, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _tell(self) -> None:
        while not self._closing.is_set():
            self._rung.wait()
            self._rung.clear()
            try:
                self._client.publish(self._channel, b"")
                self._closing.wait(SHORTEST_GAP_SECONDS)
            except redis.RedisError as away:
                _log.info("workers in other processes cannot be woken, and poll instead: %s", away)
                self._closing.wait(PAUSE_SECONDS)

    def _hear(self, heard: Callable[[], None]) -> None:
        subscriber = RedisSubscriber(self._client, self._channel)
        while not self._closing.is_set():
            try:
                for _ in subscriber.receive(LISTEN_SECONDS):
                    heard()
                    if self._closing.is_set():
                        break
            except Unavailable as away:
                _log.info("this worker cannot be woken by other processes, and polls instead: %s", away)
                self._closing.wait(PAUSE_SECONDS)
        subscriber.close()
