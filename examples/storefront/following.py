"""How the copy stays current: by asking, which is enough, and by listening, which is quicker."""

from __future__ import annotations

import json
import logging
import urllib.error
import urllib.request
from datetime import datetime
from threading import Event, Thread
from typing import Any, cast
from urllib.parse import urlencode

from examples.storefront.stock_copy import StockCopy, level_from

TIMEOUT_SECONDS = 5.0
PAGE = 1000
ANOTHER_LOG = b"#problem-unknown-position"  # its log does not reach to our cursor: it was restored from a backup

_log = logging.getLogger(__name__)


class Following(Thread):
    """Asks `GET /v1/stock` for what has changed, again and again. While nobody answers, the copy stays as it is.

    `trouble` says what went wrong the last time; empty: nothing.
    """

    def __init__(self, copy: StockCopy, url: str, every_seconds: float) -> None:
        super().__init__(name="following", daemon=True)
        self._copy, self._url, self._every_seconds = copy, url.rstrip("/"), every_seconds
        self._stopping = Event()
        self.trouble = "it has not been asked yet"

    def run(self) -> None:
        while not self._stopping.is_set():
            try:
                self.catch_up()
                trouble = ""
            except Exception as error:  # noqa: BLE001  # told in the log; a thread that ended would tell nothing
                trouble = f"{type(error).__name__}: {error}"
            if trouble != self.trouble:
                _log.info("the allocation service: %s", trouble or "answers")
            self.trouble = trouble
            self._stopping.wait(self._every_seconds)

    def stop(self) -> None:
        self._stopping.set()
        self.join()

    def catch_up(self) -> None:
        """Page by page, up to the first that is not full: nothing came after it then. (An empty page may never come: in
        a busy shop something changes between any two requests.) Raises what HTTP and JSON raise; what was read so far
        is kept."""
        while True:
            page = self._ask(self._copy.cursor())
            levels = [level_from(told) for told in page["levels"]]
            if len(levels) < PAGE:
                self._copy.take(levels, page["next"], datetime.fromisoformat(page["as_of"]))
                return
            self._copy.take(levels, page["next"])

    def _ask(self, cursor: str | None) -> dict[str, Any]:
        try:
            return self._answer(urlencode({"limit": PAGE} | ({"after": cursor} if cursor is not None else {})))
        except urllib.error.HTTPError as refused:
            if cursor is None or refused.code != 422 or ANOTHER_LOG not in refused.read(500):
                raise
        _log.warning("the allocation service has a different log than before: the copy is rebuilt")
        self._copy.forget()
        return self._ask(None)

    def _answer(self, query: str) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self._url}/v1/stock?{query}", timeout=TIMEOUT_SECONDS) as response:
            return cast("dict[str, Any]", json.load(response))


class Listening(Thread):
    """Takes `stock_level` messages from a Redis channel. It forgets those that nobody hears, and need not be there."""

    def __init__(self, copy: StockCopy, redis_url: str, channel: str) -> None:
        super().__init__(name="listening", daemon=True)
        import redis  # an extra: who only asks needs no client

        self._copy, self._channel, self._away = copy, channel, redis.RedisError
        self._client = redis.Redis.from_url(redis_url, socket_timeout=TIMEOUT_SECONDS, health_check_interval=10)
        self._stopping = Event()

    def run(self) -> None:
        while not self._stopping.is_set():
            try:
                with self._client.pubsub(ignore_subscribe_messages=True) as subscription:  # type: ignore[no-untyped-call]  # untyped in redis-py
                    subscription.subscribe(self._channel)
                    while not self._stopping.is_set():
                        if message := subscription.get_message(timeout=0.2):
                            self._take(message["data"])
            except self._away as away:
                _log.info("Redis: %s", away)
                self._stopping.wait(1.0)

    def stop(self) -> None:
        self._stopping.set()
        self.join()

    def _take(self, body: bytes) -> None:
        try:
            self._copy.take([level_from(json.loads(body)["data"])])
        except Exception as wrong:  # noqa: BLE001  # what is not taken here is asked for in the next round
            _log.warning("a message on %s was ignored: %s", self._channel, wrong)
