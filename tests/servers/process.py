"""What private servers have in common: a port, a folder, a process that does not outlive the tests."""

import os
import random
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Self

LOOPBACK = "127.0.0.1"
ROOM_IN_MEMORY_BYTES = 2 * 1024**3


class ServerError(RuntimeError):
    """A private server could not be found, started or stopped; the text says what its log says."""


def free_port() -> int:
    """A port that nobody listens on.

    Taken from below the range that operating systems use for outgoing connections (Linux: 32768 and up), so that
    a server which was killed can come back on its own port.
    """
    for port in random.SystemRandom().sample(range(15_000, 32_000), 200):  # nobody's seed: others look, too
        with socket.socket() as probe:
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue
            return port
    raise ServerError("found no free port between 15000 and 32000")


def open_to_others(path: Path) -> bool:
    """Whether another user may go into `path`: a server that root starts runs as somebody else."""
    return all(folder.stat().st_mode & stat.S_IXOTH for folder in [path, *path.resolve().parents])


def private_folder(prefix: str, *, on_disk: bool) -> Path:
    """A new folder: in memory where there is room, or (`on_disk`) where a sync reaches a real disk."""
    memory, lasting, usual = Path("/dev/shm"), Path("/var/tmp"), Path(tempfile.gettempdir())
    places = [lasting, usual] if on_disk else [memory, usual, lasting]
    for place in places:
        if not os.access(place, os.W_OK) or not open_to_others(place):
            continue
        if place == memory and shutil.disk_usage(place).free < ROOM_IN_MEMORY_BYTES:
            continue
        return Path(tempfile.mkdtemp(prefix=f"allocation-{prefix}-", dir=place))
    raise ServerError(f"found no folder for a private {prefix}: tried {', '.join(map(str, places))}")


class PrivateServer:
    """A server of our own on a loopback port: start, stop, kill, restart; as a context manager too.

    Port and data stay the same from `start()` to `close()`, over any number of stops, kills and restarts.
    """

    name = "server"
    stop_signal = signal.SIGTERM
    kill_signal = signal.SIGKILL
    start_limit_seconds = 30.0

    def __init__(self, *, durable: bool = False) -> None:
        self.durable = durable
        self.port = free_port()
        self.folder = private_folder(self.name, on_disk=durable)
        self.log = self.folder / "log"
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None

    # A subclass answers these four.

    def command(self) -> list[str]:
        """The program and its arguments."""
        raise NotImplementedError

    def prepare(self) -> None:
        """Make the data folder, once, before the first start."""

    def is_ready(self) -> bool:
        """Whether it answers clients now."""
        raise NotImplementedError

    def credentials(self) -> dict[str, object]:
        """As whom the process runs, in the words of `subprocess`."""
        return {}

    # What every server can do.

    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> Self:
        """Start and wait until it answers. Raises `ServerError` with the end of the log if it does not."""
        if self.is_running():
            return self
        self.prepare()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd="/",
                env=self.environment(),
                start_new_session=True,  # a Ctrl-C on the terminal is for the tests, which then stop the server
                **self.credentials(),  # type: ignore[call-overload]  # a dict of options has no overload
            )
        self._guard_against_orphans()
        deadline = time.monotonic() + self.start_limit_seconds
        while not self.is_ready():
            if not self.is_running() or time.monotonic() > deadline:
                tail = self.log.read_text(errors="replace")[-2_000:]
                self.kill()
                raise ServerError(f"{self.name} did not start on port {self.port}:\n{tail}")
            time.sleep(0.01)
        return self

    def stop(self) -> None:
        """An orderly end: clients are cut off, everything is written."""
        self._end(self.stop_signal)

    def kill(self) -> None:
        """An end at once, as a crash is: nothing more is written."""
        self._end(self.kill_signal)

    def restart(self) -> Self:
        """Up again, on the same port with the same data; stops it first if it runs."""
        self.stop()
        return self.start()

    def close(self) -> None:
        """Stop and remove everything."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *_: object) -> None:
        self.close()

    def environment(self) -> dict[str, str]:
        return {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(self.folder), "LC_ALL": "C"}

    def _end(self, sign: int) -> None:
        if self._process is not None:
            if self._process.poll() is None:
                self._process.send_signal(sign)
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
        if self._guard is not None:
            self._guard.kill()
            self._guard.wait()
            assert self._guard.stdin is not None
            self._guard.stdin.close()
            self._guard = None

    def _guard_against_orphans(self) -> None:
        """If the tests are killed, the pipe closes, and the guard ends the server and removes its folder."""
        assert self._process is not None
        script = f'read -r _; kill -{int(self.kill_signal)} "$1"; sleep 1; rm -rf "$2"'
        self._guard = subprocess.Popen(
            ["/bin/sh", "-c", script, "guard", str(self._process.pid), str(self.folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
