"""The cache in Redis (6.2 or newer), shared by all processes: each question and each change is one script, so that
nobody sees half of a change."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.resources import files
from threading import Lock
from typing import Any

import msgspec
import redis
from redis.backoff import NoBackoff
from redis.commands.core import Script
from redis.retry import Retry

from allocation.adapters.brokers.redis_client import client_of, words_of
from allocation.adapters.cache import KEEPER_SECONDS
from allocation.service_layer.cache import Cache, Entry, Found, Places
from allocation.service_layer.envelope import Ids, LogPosition
from allocation.service_layer.errors import Unavailable
from allocation.service_layer.waiting import Timer

TIMEOUT_SECONDS = 0.5
"""Short, because the database can answer, too: nobody should wait long for a cache."""
PAUSE_SECONDS = 1.0
"""How long Redis is left alone after it did not answer."""
ENTRY_SECONDS = 3600

_log = logging.getLogger(__name__)


def connect(url: str) -> redis.Redis:
    """A client that gives up soon. Connects at first use; a connection that broke in the meantime is replaced once.
    Raises `SetupError`."""
    return client_of(
        url,
        socket_timeout=TIMEOUT_SECONDS,
        socket_connect_timeout=TIMEOUT_SECONDS,
        socket_keepalive=True,
        retry=Retry(NoBackoff(), 1),
    )


class RedisCache(Cache):
    """Its keys begin with `{<namespace>:cache}:`, the braces keeping them together in a cluster. Answers stay for
    `entry_seconds` at most; if a partition has more than `most_marks` marks, the oldest are dropped, and with them the
    answers from before."""

    def __init__(
        self,
        client: redis.Redis,
        namespace: str,
        ids: Ids,
        timer: Timer,
        keeper_seconds: float = KEEPER_SECONDS,
        entry_seconds: int = ENTRY_SECONDS,
        most_marks: int = 50_000,
    ) -> None:
        self._client, self._prefix, self._ids = client, f"{{{namespace}:cache}}:", ids
        self._keeper_milliseconds, self._entry_seconds = round(keeper_seconds * 1000), entry_seconds
        self._most_marks = most_marks
        self._asking = _Breaker(timer)
        self._look, self._fill, self._mark = (_script(client, name) for name in ("look", "fill", "mark"))

    def look(self, key: str, partitions: Collection[int]) -> Found:
        with self._asking():
            data, positions, lives = self._look(self._keys(key, partitions), ())
        of_each = zip(partitions, lives, strict=True)
        known_lives = {partition: life.decode() for partition, life in of_each if life is not None}
        return Found(_places(partitions, positions), data, known_lives)

    def fill(self, key: str, entry: Entry) -> bool:
        parts = [
            {
                "seq": str(seq),
                "life": entry.lives.get(partition, ""),
                "rests_on": sorted(entry.rests_on.get(partition, ())),
            }
            for partition, seq in entry.as_of.items()
        ]
        with self._asking():
            keys = self._keys(key, entry.as_of)
            return bool(self._fill(keys, [entry.data, msgspec.json.encode(parts), self._entry_seconds]))

    def places(self, partitions: Collection[int]) -> Places:
        with self._asking(), self._client.pipeline(transaction=False) as pipeline:
            for partition in partitions:
                pipeline.zscore(self._marks(partition), "position")
            return _places(partitions, pipeline.execute())

    def mark(self, partition: int, after: int, until: int, touched: Mapping[str, int]) -> None:
        self._say(partition, after, until, 0, [part for thing, seq in touched.items() for part in (seq, thing)])

    def confirm(self, position: LogPosition) -> None:
        self._say(position.partition, position.seq, position.seq, 1, ())

    def forget(self, partitions: Collection[int]) -> None:
        with self._asking():
            self._client.delete(*map(self._marks, partitions))

    def close(self) -> None:
        self._client.close()

    def _say(self, partition: int, after: int, until: int, is_head: int, touched: Sequence[str | int]) -> None:
        life = int(self._ids.new(), 16) % 2**48  # a sorted set keeps whole numbers up to 2**53
        with self._asking():
            said = [after, until, is_head, life, self._keeper_milliseconds, self._most_marks, *touched]
            anew = self._mark([self._marks(partition)], said)
        if anew:
            _log.info("the cache starts over at %s", LogPosition(partition, until))

    def _keys(self, key: str, partitions: Collection[int]) -> list[str]:
        return [self._prefix + key, *map(self._marks, partitions)]

    def _marks(self, partition: int) -> str:
        return f"{self._prefix}marks:{partition}"


class _Breaker:
    """Leaves Redis alone for a moment after it did not answer, so that only one caller waits for it, not every caller.

    If Redis answers with an error (no memory left, no rights), the error is reported, and the next caller asks again.
    """

    def __init__(self, timer: Timer, pause_seconds: float = PAUSE_SECONDS) -> None:
        self._timer, self._pause_seconds = timer, pause_seconds
        self._lock = Lock()
        self._closed_until: float | None = None

    @contextmanager
    def __call__(self) -> Iterator[None]:
        self._may_ask()
        try:
            yield
        except redis.ResponseError as refused:
            raise Unavailable(f"Redis answered with an error: {refused}") from refused
        except redis.RedisError as away:
            with self._lock:
                self._closed_until = self._timer.seconds() + self._pause_seconds
            raise Unavailable(f"Redis does not answer: {words_of(away)}") from away
        self._closed_until = None

    def _may_ask(self) -> None:
        with self._lock:
            now = self._timer.seconds()
            if self._closed_until is None:
                return
            if now < self._closed_until:
                raise Unavailable("Redis did not answer a moment ago")
            self._closed_until = now + self._pause_seconds  # this caller tries; the others do not wait for it


def _script(client: redis.Redis, name: str) -> Callable[[Sequence[Any], Sequence[Any]], Any]:
    scripts = files(__package__).joinpath("lua")
    source = "\n".join(scripts.joinpath(f"{part}.lua").read_text("utf-8") for part in ("rules", name))
    script: Script = client.register_script(source)
    return script


def _places(partitions: Collection[int], positions: Sequence[Any]) -> Places:
    known = zip(partitions, positions, strict=True)
    return {partition: int(float(seq)) for partition, seq in known if seq is not None}
