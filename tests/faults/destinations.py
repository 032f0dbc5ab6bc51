"""Where the facts of a campaign go: a mail server and a listener to a channel. They write down everything they get."""

import json
from collections.abc import Mapping
from email import message_from_bytes
from threading import Event as Flag
from threading import Thread
from typing import Any, Self

import redis
from aiosmtpd.controller import Controller

from tests.servers.process import LOOPBACK, free_port

LISTEN_SECONDS = 0.05


class Postbox:
    """An SMTP server; `message_ids` are those of the mails it took, in order, duplicates included."""

    def __init__(self) -> None:
        self.message_ids: list[str] = []
        self._controller = Controller(self, hostname=LOOPBACK, port=free_port())

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802  # aiosmtpd's name
        mail = message_from_bytes(envelope.content)
        self.message_ids.append(str(mail["Message-ID"]).strip("<>").partition("@")[0])
        return "250 kept"

    @property
    def url(self) -> str:
        return f"smtp://{LOOPBACK}:{self._controller.port}"

    def __enter__(self) -> Self:
        self._controller.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._controller.stop()


class Listener:
    """Hears a channel of Redis for as long as Redis is there; what is said while it is not listening, it misses."""

    def __init__(self, url: str, channel: str) -> None:
        self.heard: list[Mapping[str, Any]] = []
        self._client = redis.Redis.from_url(url, socket_timeout=5)
        self._channel = channel
        self._stopping, self._listens = Flag(), Flag()
        self._thread = Thread(target=self._listen, name=f"hears {channel}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._listens.wait(20)
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()
        self._client.close()

    def _listen(self) -> None:
        while not self._stopping.is_set():
            try:
                with self._client.pubsub(ignore_subscribe_messages=False) as pubsub:
                    pubsub.subscribe(self._channel)
                    while not self._stopping.is_set():
                        self._take(pubsub.get_message(timeout=LISTEN_SECONDS))
            except redis.RedisError:
                self._stopping.wait(LISTEN_SECONDS)  # Redis was killed: it comes back

    def _take(self, message: Mapping[str, Any] | None) -> None:
        if message is None:
            return
        if message["type"] == "subscribe":
            self._listens.set()
        else:
            self.heard.append(json.loads(message["data"]))
