"""How a campaign says where the next process is to die, and hears that one did. Files in a folder that both know.

A process passes a named point many times a second; it looks there for a file of that name. Whoever renames the file
first is struck, be it one of several threads or processes.
"""

import json
import os
import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path

VARIABLE = "ALLOCATION_TEST_TRIGGERS"
PATIENCE_SECONDS = 60.0
_LOOK_SECONDS = 0.002
_STRUCK = "struck"

BEFORE_COMMIT = "before commit"
AFTER_COMMIT = "after commit"
BEFORE_CURSOR = "after publish before cursor"
BEFORE_ACKNOWLEDGEMENT = "after handler before acknowledgement"


def point(role: str, moment: str, subscription: str = "") -> str:
    """The name of a point: in which role a process passes it, and for which subscription if it is a worker."""
    return f"{role}, {moment}" + (f", {subscription}" if subscription else "")


@dataclass(frozen=True)
class Strike:
    """`at` is the `time.monotonic` of it, the same in every process; `pid` is who was struck, and `group` its process
    group."""

    at: float
    pid: int
    group: int


class Trigger:
    """`arm` and `await_strike` are for the campaign, the others for the process that is to be struck."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def arm(self, name: str, sign: signal.Signals = signal.SIGKILL) -> None:
        """The next to pass this point is sent the signal there: SIGKILL with its whole process group, or SIGSTOP."""
        (self.folder / _STRUCK).unlink(missing_ok=True)
        waiting = self.folder / f"{name}.new"
        waiting.write_text(str(int(sign)))
        waiting.rename(self.folder / name)

    def await_strike(self, patience_seconds: float = PATIENCE_SECONDS) -> Strike:
        """Raises `TimeoutError` if nobody passes the point in that time."""
        deadline = time.monotonic() + patience_seconds
        struck = self.folder / _STRUCK
        while not struck.exists():
            if time.monotonic() > deadline:
                raise TimeoutError(f"nobody came by: {', '.join(path.name for path in self.folder.iterdir())}")
            time.sleep(_LOOK_SECONDS)
        return Strike(**json.loads(struck.read_text()))

    def is_armed(self, name: str) -> bool:
        return (self.folder / name).exists()

    def pass_by(self, name: str) -> None:
        """Go on, unless the point is armed: then this is where it happens."""
        if not self.is_armed(name):
            return
        claimed = self.folder / "claimed"
        try:
            (self.folder / name).rename(claimed)
        except FileNotFoundError:
            return  # another thread was faster
        sign = signal.Signals(int(claimed.read_text()))
        claimed.write_text(json.dumps({"at": time.monotonic(), "pid": os.getpid(), "group": os.getpgrp()}))
        claimed.rename(self.folder / _STRUCK)
        if sign == signal.SIGKILL:
            os.killpg(os.getpgrp(), sign)
        signal.pthread_kill(threading.get_ident(), sign)  # this thread is the first to stop: it gets no further
