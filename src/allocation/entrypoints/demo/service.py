"""The real service, started temporarily: embedded SQLite in a temporary folder, on a free port."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType, TracebackType
from typing import Any, Self

from allocation.config import PREFIX
from allocation.service_layer.errors import Unavailable

_PATIENCE_SECONDS = 60
_LEAVING_SECONDS = 10


class Service:
    """Speaks HTTP to the service, as any client would."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """The status and the body of the answer. Raises `OSError`, `http.client.HTTPException`."""
        data = None if body is None else json.dumps(body, default=str)
        self._connection.request(method, path, data, {"Content-Type": "application/json"} if data else {})
        response = self._connection.getresponse()
        content = response.read()
        return response.status, json.loads(content) if content else None

    def expect(self, status: int, method: str, path: str, body: object = None) -> Any:
        """The body of an answer that must have this status. Raises `Unavailable` if it has another."""
        found, content = self.ask(method, path, body)
        if found != status:
            raise Unavailable(f"{method} {path} was answered with {found} instead of {status}: {content}")
        return content

    def close(self) -> None:
        self._connection.close()


@contextmanager
def running_service() -> Iterator[Service]:
    """The service, ready for requests. However the block ends, the service is then gone with all its files.

    Raises `Unavailable` with the end of the service's log if it does not start.
    """
    with _Interrupts() as interrupts, TemporaryDirectory(prefix="allocation-demo-") as folder:
        log = Path(folder, "service.log")
        process = _start(folder, port := _free_port(), log)
        service = Service(port)
        try:
            with interrupts.heard():
                _wait_until_ready(service, process, log)
                yield service
        finally:
            service.close()
            _stop(process)


def _start(folder: str, port: int, log: Path) -> subprocess.Popen[bytes]:
    environment = {name: value for name, value in os.environ.items() if not name.upper().startswith(PREFIX)}
    environment |= {
        f"{PREFIX}DATABASE_URL": f"sqlite:///{folder}/shop.db",
        f"{PREFIX}HOST": "127.0.0.1",
        f"{PREFIX}PORT": str(port),
    }
    command = [sys.executable, "-m", "allocation.entrypoints.cli", "serve"]
    with log.open("wb") as output:
        # In a session of its own, so that only we get a Ctrl-C, and can end the whole session.
        return subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


def _wait_until_ready(service: Service, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            if service.ask("GET", "/health/ready")[0] == http.HTTPStatus.OK:
                return
        except (OSError, http.client.HTTPException):
            service.close()
        time.sleep(0.05)
    told = log.read_text(errors="replace").strip().splitlines()
    raise Unavailable("The service did not start. Its last output:\n" + "\n".join(told[-5:]))


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_LEAVING_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


class _Interrupts:
    """Lets SIGINT, SIGTERM and SIGHUP end the program, but only inside `heard`, where nothing would be left behind.
    Elsewhere, while things are set up or cleared away, the signals wait until `heard` is entered, or for the end."""

    def __init__(self) -> None:
        self._heard = False
        self._came: int | None = None

    def __enter__(self) -> Self:
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        self._before = {number: signal.signal(number, self._handle) for number in numbers}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if error is None:
            self._end()

    @contextmanager
    def heard(self) -> Iterator[None]:
        self._heard = True
        try:
            self._end()
            yield
        finally:
            self._heard = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._came = number
        if self._heard:
            self._end()

    def _end(self) -> None:
        if self._came == signal.SIGINT:
            raise KeyboardInterrupt
        if self._came is not None:
            raise SystemExit(128 + self._came)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
