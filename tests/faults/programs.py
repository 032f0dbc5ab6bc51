"""The processes of a campaign: the service, workers, the consumer. Each can be struck, and comes back."""

import os
import signal
import sys
import time
from pathlib import Path
from typing import Self

from tests.e2e.service import Service
from tests.faults.trigger import PATIENCE_SECONDS, VARIABLE

ROOT = Path(__file__).parents[2]
_LOOK_SECONDS = 0.01


class Web(Service):
    """`allocation serve` that can be struck at named points; `triggers` is the folder where they are armed."""

    command_name = "serve"

    def __init__(self, database_url: str, triggers: Path, **settings: object) -> None:
        super().__init__(database_url, **settings)
        self._triggers = triggers
        self._is_awaited = True

    def command(self) -> list[str]:
        return [sys.executable, "-m", "tests.faults.launcher", self.command_name]

    def environment(self) -> dict[str, str]:
        usual = super().environment()
        return usual | {"PYTHONPATH": f"{usual['PYTHONPATH']}:{ROOT}", VARIABLE: str(self._triggers)}

    @property
    def group(self) -> int:
        """Its process group, of which it is the leader. 0: it does not run."""
        return self._process.pid if self._process is not None else 0

    def is_ready(self) -> bool:
        return not self._is_awaited or self.works()

    def works(self) -> bool:
        """Whether it does its work now."""
        return super().is_ready()

    def launch(self) -> None:
        """Start, and do not wait."""
        self._is_awaited = False
        self.start()
        self._is_awaited = True

    def await_work(self, patience_seconds: float = PATIENCE_SECONDS) -> None:
        """Raises `TimeoutError`, or `ChildProcessError` if it has ended."""
        deadline = time.monotonic() + patience_seconds
        while not self.works():
            if not self.is_running():
                raise ChildProcessError(f"{self.name} has ended:\n{self.words()[-2_000:]}")
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.name} did not come up:\n{self.words()[-2_000:]}")
            time.sleep(_LOOK_SECONDS)

    def await_death(self, patience_seconds: float = PATIENCE_SECONDS) -> None:
        """It was struck. Raises `TimeoutExpired` if it lives on."""
        assert self._process is not None
        assert self._process.wait(patience_seconds) == -signal.SIGKILL, self.words()[-2_000:]
        self.kill()
        self._wait_until_nobody_listens()

    def close(self) -> None:
        """It is not asked to finish anything."""
        if self.is_running():
            self.kill_all()
        super().close()

    def go_on(self) -> None:
        """SIGCONT, after a SIGSTOP."""
        os.killpg(self.group, signal.SIGCONT)

    def says(self, words: str, times: int = 1, patience_seconds: float = PATIENCE_SECONDS) -> bool:
        """Whether it has said so that often, over all its lives; waits for it."""
        deadline = time.monotonic() + patience_seconds
        while self.words().count(words) < times:
            if time.monotonic() > deadline:
                return False
            time.sleep(_LOOK_SECONDS)
        return True


class Silent(Web):
    """One without a port: that it works, it says in its log."""

    work_words: str

    def __init__(self, database_url: str, triggers: Path, **settings: object) -> None:
        super().__init__(database_url, triggers, **{"log_level": "info"} | settings)
        self._lives = 0

    def start(self) -> Self:
        self._lives = self.words().count(self.work_words) if self.log.exists() else 0
        return super().start()

    def works(self) -> bool:
        return self.words().count(self.work_words) > self._lives


class Worker(Silent):
    """`allocation worker`."""

    name = "worker"
    command_name = "worker"
    work_words = "delivering for:"


class Consumer(Silent):
    """`allocation consumer`."""

    name = "consumer"
    command_name = "consumer"
    work_words = "receiving from:"
