"""What comes in by brokers is handled, in a thread of the test."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event as Flag
from threading import Thread

from allocation.bootstrap import Application, receivers_of
from allocation.entrypoints.consumer import serve_all


class Serving:
    """A consumer in a thread, with a receiver of its own."""

    def __init__(self, application: Application) -> None:
        self._stopping = Flag()
        self._thread = Thread(target=serve_all, args=(application, receivers_of(application), self._stopping))
        self._thread.start()

    def end(self) -> None:
        self._stopping.set()
        self._thread.join()


@contextmanager
def serving(application: Application) -> Iterator[None]:
    running = Serving(application)
    try:
        yield
    finally:
        running.end()
