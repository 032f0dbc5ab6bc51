"""The processes of a campaign: the service, workers, the consumer. Each can be struck, and comes back."""

import os
import signal
import sys
import time
from pathlib import Path

from tests.e2e.service import Service
from tests.faults.trigger import VARIABLE, PATIENCE_SECONDS

ROOT = Path(__file__).parents[2]


class Web(Service):
    """`allocation serve` that can be struck at named points; `triggers` is the folder where they are armed."""

    arguments = ("serve",)

    def __init__(self, database_url: str, triggers: Path, **settings: object) -> None:
        super().__init__(database_url, **settings)
        self._triggers = triggers
        self._is_awaited = True

    def command(self) -> list[str]:
        return [sys.executable, "-m", "tests.faults.launcher", *self.arguments]

    def environment(self) -> dict[str, str]:
        usual = super().environment()
        return usual | {"PYTHONPATH": f"{usual['PYTHONPATH']}:{ROOT}", VARIABLE: str(self._triggers)}

    @property
    def group(self) -> int:
        """Its process group: it was started in a session of its own."""
        assert self._process is not None
        return self._process.pid

    def launch(self) -> None:
        """Start, and do not wait."""
        self._is_awaited = False
        self.start()
        self._is_awaited = True

    def is_ready(self) -> bool:
        return not self._is_awaited or super().is_ready()

    def await_death(self, patience_seconds: float = PATIENCE_SECONDS) -> None:
        """It was struck, or is about to be. Raises `TimeoutExpired` if it lives on."""
        assert self._process is not None
        assert self._process.wait(patience_seconds) == -signal.SIGKILL, self.words()
        self.kill()
        self._wait_until_nobody_listens()

    def go_on(self) -> None:
        """SIGCONT, after a SIGSTOP."""
        os.killpg(self.group, signal.SIGCONT)


class Worker(Web):
    """`allocation worker`."""

    name = "worker"
    arguments = ("worker",)
    ready_words = "delivering for:"

    def __init__(self, database_url: str, triggers: Path, **settings: object) -> None:
        super().__init__(database_url, triggers, log_level="info", **settings)
        self._lives = 0

    def start(self) -> "Worker":
        self._lives = self.words().count(self.ready_words) if self.log.exists() else 0
        super().start()
        return self

    def is_ready(self) -> bool:
        return not self._is_awaited or self.words().count(self.ready_words) > self._lives

    def await_words(self, words: str, times: int, patience_seconds: float = PATIENCE_SECONDS) -> None:
        """Until it has said so that often, over all its lives. Raises `TimeoutError`."""
        deadline = time.monotonic() + patience_seconds
        while self.words().count(words) < times:
            if time.monotonic() > deadline:
                raise TimeoutError(f"it never said {words!r}:\n{self.words()[-2_000:]}")
            time.sleep(0.01)
