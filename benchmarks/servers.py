"""The service and the echo as processes of their own, served by granian with the same settings."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from benchmarks.databases import Database
from tests.servers.process import LOOPBACK, free_port

THREADS = 16
START_LIMIT_SECONDS = 30


@contextlib.contextmanager
def service(
    database: Database,
    workers: int,
    more: Mapping[str, str] | None = None,
    started: Callable[[int], object] = lambda _pid: None,
) -> Iterator[int]:
    """`allocation serve` on a database, with `more` settings; answers its port. `started` is told the id of the process
    that watches over the serving ones."""
    port = free_port()
    settings = dict(more or {}) | {
        "ALLOCATION_DATABASE_URL": database.url,
        "ALLOCATION_HOST": LOOPBACK,
        "ALLOCATION_PORT": str(port),
        "ALLOCATION_WORKERS": str(workers),
        "ALLOCATION_THREADS": str(THREADS),
        "ALLOCATION_LOG_LEVEL": "warning",
    }
    with _process([sys.executable, "-m", "allocation.entrypoints.cli", "serve"], port, settings) as pid:
        started(pid)
        yield port


@contextlib.contextmanager
def worker(database: Database, settings: Mapping[str, str], *options: str) -> Iterator[None]:
    """`allocation worker` on a database. When it begins to work shows in what it does."""
    command = [sys.executable, "-m", "allocation.entrypoints.cli", "worker", *options]
    own = {"ALLOCATION_DATABASE_URL": database.url, "ALLOCATION_LOG_LEVEL": "warning"}
    with _process(command, None, dict(settings) | own):
        yield


@contextlib.contextmanager
def application(target: str, workers: int = 2, threads: int = THREADS) -> Iterator[int]:
    """Any WSGI application, `module:name`, as the service is served; answers its port."""
    port = free_port()
    options = ["--interface", "wsgi", "--http", "1", "--no-ws", "--log-level", "error", "--no-access-log"]
    options += ["--workers", str(workers), "--blocking-threads", str(threads), "--host", LOOPBACK, "--port", str(port)]
    with _process([sys.executable, "-m", "granian", *options, target], port, {}):
        yield port


def environment(settings: dict[str, str]) -> dict[str, str]:
    """That of this process, with these settings of the service and no others."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ALLOCATION_")}
    root = str(Path(__file__).parent.parent)
    return kept | {"PYTHONPATH": os.pathsep.join(filter(None, [root, kept.get("PYTHONPATH", "")]))} | settings


@contextlib.contextmanager
def _process(command: list[str], port: int | None, settings: dict[str, str]) -> Iterator[int]:
    process = subprocess.Popen(command, env=environment(settings), start_new_session=True)
    try:
        if port is not None:
            _wait_for(process, port)
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait_for(process: "subprocess.Popen[bytes]", port: int) -> None:
    deadline = time.monotonic() + START_LIMIT_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, port), 1):
            return
        time.sleep(0.05)
    raise RuntimeError(f"{process.args} did not listen on port {port} in {START_LIMIT_SECONDS} s")
