"""The real service for the tests: `allocation serve` as a process of its own, which can be killed and come back."""

import http.client
import json
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any, Self

import psutil

import allocation
from tests.servers.process import LOOPBACK, PrivateServer

PATIENCE_SECONDS = 60.0


class Service(PrivateServer):
    """`allocation serve` on a port of its own; `settings` are those of the service, in lower case.

    Without a database it keeps an SQLite file in its own folder, which lasts until `close()`. `kill()` takes the
    process that watches over the workers, `kill_all()` every one of its processes at once.
    """

    name = "service"
    kill_signal = signal.SIGKILL
    start_limit_seconds = PATIENCE_SECONDS

    def __init__(self, database_url: str | None = None, **settings: object) -> None:
        super().__init__()
        url = database_url or f"sqlite:///{self.folder}/allocation.db"
        chosen = {"database_url": url, "host": LOOPBACK, "port": self.port, "log_level": "warning"} | settings
        self._settings = {f"ALLOCATION_{name.upper()}": str(value) for name, value in chosen.items()}

    def command(self) -> list[str]:
        return [sys.executable, "-m", "allocation.entrypoints.cli", "serve"]

    def environment(self) -> dict[str, str]:
        source = Path(allocation.__file__).parents[1]
        return super().environment() | {"PYTHONPATH": str(source)} | self._settings

    def is_ready(self) -> bool:
        try:
            return self.ask("GET", "/health/ready")[0] == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False

    def ask(self, method: str, path: str, body: object = None, key: str | None = None) -> tuple[int, Any]:
        """Status and content of the answer, on a connection of its own; `key` is the Idempotency-Key. Raises `OSError`,
        `HTTPException`."""
        connection = http.client.HTTPConnection(LOOPBACK, self.port, timeout=PATIENCE_SECONDS)
        try:
            return ask(connection, method, path, body, key)
        finally:
            connection.close()

    def kill_all(self) -> float:
        """SIGKILL to the whole process group: nobody finishes anything. Answers when (`time.monotonic`)."""
        assert self._process is not None
        moment = time.monotonic()
        os.killpg(self._process.pid, signal.SIGKILL)  # it leads its group: it was started in a session of its own
        self.kill()
        self._wait_until_nobody_listens()
        return moment

    def kill_workers(self) -> int:
        """SIGKILL to the processes that serve, not to the one that watches over them. Answers how many they were."""
        assert self._process is not None
        serving = [
            child
            for child in psutil.Process(self._process.pid).children()
            if "resource_tracker" not in " ".join(child.cmdline())
        ]
        for child in serving:
            child.kill()
        _, alive = psutil.wait_procs(serving, PATIENCE_SECONDS)
        assert not alive
        return len(serving)

    def terminate(self) -> tuple[int, float]:
        """SIGTERM, as an operator stops it. Answers its exit code, and when it was asked (`time.monotonic`)."""
        assert self._process is not None
        moment = time.monotonic()
        self._process.terminate()
        return self._process.wait(PATIENCE_SECONDS), moment

    def words(self) -> str:
        """What it wrote to its log, over all its lives."""
        return self.log.read_text(errors="replace")

    def _wait_until_nobody_listens(self) -> None:
        """A killed worker is not our child; that its port is closed tells that it is gone."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex((LOOPBACK, self.port)) != 0:
                    return
            time.sleep(0.002)
        raise TimeoutError(f"somebody still listens on port {self.port}")


class WorkerProcess(Service):
    """`allocation worker` beside a service, with the same settings."""

    name = "worker"

    def __init__(self, database_url: str, **settings: object) -> None:
        super().__init__(database_url, **settings | {"log_level": "info"})

    def command(self) -> list[str]:
        return [sys.executable, "-m", "allocation.entrypoints.cli", "worker"]

    def is_ready(self) -> bool:
        return self.words().count("delivering for:") > self._lives

    def start(self) -> Self:
        self._lives = self.words().count("delivering for:") if self.log.exists() else 0
        return super().start()


def ask(
    connection: http.client.HTTPConnection, method: str, path: str, body: object = None, key: str | None = None
) -> tuple[int, Any]:
    """Status and content of the answer on a connection that is kept."""
    data = None if body is None else json.dumps(body)
    headers = {} if data is None else {"Content-Type": "application/json"}
    connection.request(method, path, data, headers | ({} if key is None else {"Idempotency-Key": key}))
    response = connection.getresponse()
    content = response.read()
    return response.status, json.loads(content) if content else None
