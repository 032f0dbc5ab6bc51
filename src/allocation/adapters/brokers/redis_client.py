"""Redis for every module that uses it: clients that notice a dead connection, and scripts that are loaded once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha1
from importlib.resources import files
from typing import Any
from urllib.parse import urlunsplit

import redis
from redis.backoff import ExponentialBackoff
from redis.exceptions import NoScriptError
from redis.retry import Retry

from allocation.adapters.urls import broker_parts
from allocation.service_layer.errors import SetupError, Unavailable

TIMEOUT_SECONDS = 5
HEALTH_CHECK_SECONDS = 10


def plain_url(url: str) -> str:
    """The URL that a client of Redis knows: `redis+streams://HOST/0?shards=4` is `redis://HOST/0`. Raises `SetupError`,
    which repeats nothing of it.
    """
    scheme = url.partition(":")[0]
    parts = broker_parts(url, f"{scheme}://[USER:PASSWORD@]HOST[:PORT][/DB]", r"(/\d*)?")
    return urlunsplit(parts._replace(scheme=parts.scheme.partition("+")[0], query=""))


def client_of(url: str, **options: Any) -> redis.Redis:
    """A client with these options and those of the URL. Raises `SetupError`, which repeats nothing of it."""
    try:
        return redis.Redis.from_url(url, **options)
    except ValueError:
        raise SetupError("Redis: an option after the ? in its URL has a value that cannot be read") from None


def connect(url: str, retries: int = 2) -> redis.Redis:
    """A client that notices a dead connection. Connects at first use. Raises `SetupError` as above.

    With `retries`, a command whose answer was lost is sent again: do not use it for a command that must not run twice.
    """
    return client_of(
        url,
        socket_timeout=TIMEOUT_SECONDS,
        socket_connect_timeout=TIMEOUT_SECONDS,
        socket_keepalive=True,
        health_check_interval=HEALTH_CHECK_SECONDS,
        retry=Retry(ExponentialBackoff(cap=0.5, base=0.05), retries),
    )


def words_of(away: Exception) -> str:
    """What the client says of a failure, to be put into a sentence."""
    return str(away).rstrip(".")


@contextmanager
def translated() -> Iterator[None]:
    """Translates failures of Redis: it is unreachable, or not in a state to serve. Raises `Unavailable`."""
    try:
        yield
    except redis.RedisError as away:
        raise Unavailable(f"Redis does not answer: {words_of(away)}") from away


class Script:
    """A Lua script from the folder `lua`. It is sent once to a server that does not know it (any more)."""

    def __init__(self, client: redis.Redis, name: str) -> None:
        self._client = client
        self._text = files(__package__).joinpath("lua", f"{name}.lua").read_text()
        self._sha = sha1(self._text.encode(), usedforsecurity=False).hexdigest()

    def run(self, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        """One call. Raises `redis.RedisError`."""
        [answer] = self.run_all([(keys, arguments)])
        if isinstance(answer, redis.RedisError):
            raise answer
        return answer

    def run_all(self, calls: Sequence[tuple[Sequence[str], Sequence[Any]]]) -> list[Any]:
        """Several calls in one trip; an error of a script is returned as its answer. Raises `redis.RedisError` if the
        trip failed: then it is unknown which of them ran."""
        answers = self._send(calls)
        unknown = [number for number, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
        if unknown:
            self._client.script_load(self._text)
            for number, answer in zip(unknown, self._send([calls[number] for number in unknown]), strict=True):
                answers[number] = answer
        return answers

    def _send(self, calls: Sequence[tuple[Sequence[str], Sequence[Any]]]) -> list[Any]:
        with self._client.pipeline(transaction=False) as trip:
            for keys, arguments in calls:
                trip.evalsha(self._sha, len(keys), *keys, *arguments)
            return trip.execute(raise_on_error=False)
