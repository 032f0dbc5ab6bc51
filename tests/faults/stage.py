"""What a campaign plays on: the service in its processes, the servers around it, and everybody who uses it."""

import random
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.e2e.crowd import Crowd
from tests.e2e.shoppers import Shop, crowd_of, stock_up
from tests.faults.destinations import Listener, Postbox
from tests.faults.oracle import await_head, rows
from tests.faults.programs import Consumer, Web, Worker
from tests.faults.streams import Reader, Sender
from tests.servers.postgres import PrivatePostgres
from tests.servers.redis import PrivateRedis

SKUS = [f"SHELF-{n}" for n in range(40)]
CLIENTS, THREADS = 64, 32  # in all processes of the service
LEASE_SECONDS = 1.0
PATIENCE_SECONDS = 90.0
_LOOK_SECONDS = 0.02


class Stage:
    """A service with `workers` beside it (none: it delivers by itself) and `consumers`, on the database at `url`.

    Customers order over HTTP (`crowd`), quantities are changed by Redis Streams (`sender`). Facts go to Redis Streams
    (`reader`), lines to a channel (`listener`), mail to `postbox`. All ends with `stack`.
    """

    def __init__(
        self,
        name: str,
        stack: ExitStack,
        folder: Path,
        seed: int,
        postgres: PrivatePostgres | None = None,
        workers: int = 0,
        consumers: int = 0,
    ) -> None:
        self.name, self.folder, self.postgres = name, folder, postgres
        self.url = postgres.create_database() if postgres else f"sqlite:///{folder / 'allocation.db'}"
        self.redis = stack.enter_context(PrivateRedis(durable=True))
        self.postbox = stack.enter_context(Postbox())
        self.listener = stack.enter_context(Listener(self.redis.url, "line_allocated"))
        self.reader = stack.enter_context(Reader(self.redis.url, random.Random(f"{seed}-reader")))
        self.sender = Sender(self.redis.url, random.Random(f"{seed}-sender"))
        settings = self._settings()
        processes = max(1, workers)
        self.web = Web(self.url, folder, workers=processes, threads=THREADS // processes, **settings)
        self.workers = [Worker(self.url, folder, **settings) for _ in range(workers)]
        self.consumers = [Consumer(self.url, folder, **settings) for _ in range(consumers)]
        self.programs = [self.web, *self.workers, *self.consumers]
        for program in self.programs:
            stack.callback(program.close)
        self._start()
        self.subscriptions = [row["name"] for row in rows(self.url, "SELECT name FROM subscriptions ORDER BY name")]
        self._is_closing = False
        self.shop = Shop(SKUS, lambda: self._is_closing, keyed=0.8)
        assert Crowd(self.web.port, [stock_up(self.shop, SKUS, 1, 200)]).run()
        self.crowd = Crowd(self.web.port, crowd_of(self.shop, CLIENTS, seed))

    def _settings(self) -> dict[str, object]:
        streams = f"{self.redis.url.replace('redis:', 'redis+streams:')}?lease_seconds={LEASE_SECONDS}"
        return {
            "redis_url": self.redis.url,
            "publish_to": streams,
            "receive_from": streams,
            "smtp_url": self.postbox.url,
            "lease_seconds": LEASE_SECONDS,
        }

    def _start(self) -> None:
        """The service first, which makes the tables; then the others, all at once."""
        self.web.start()
        for program in self.programs[1:]:
            program.launch()
        self.await_work()

    def await_work(self) -> None:
        """Until every process does its work."""
        for program in self.programs:
            program.await_work()

    def of_group(self, group: int) -> Web:
        """The program whose process group that is."""
        [found] = [program for program in self.programs if program.group == group]
        return found

    def close_shop(self) -> None:
        """Let all customers finish, and the one who follows the feed come to its end: no command is on its way then."""
        self._handle_what_was_sent()
        self._is_closing = True
        assert self.crowd.run(), "the service hung up on somebody"

    def _handle_what_was_sent(self) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self.consumers and self.sender.waiting():
            assert time.monotonic() < deadline, f"{self.sender.waiting()} commands wait in the streams"
            time.sleep(_LOOK_SECONDS)

    def drain(self) -> None:
        """Until all events are delivered, and all facts read; or until it takes too long, and the oracle tells what is
        missing."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        await_head(self.url)
        events = sum(row["seq"] for row in rows(self.url, "SELECT seq FROM log_head"))
        while len({fact.id for fact in self.reader.seen}) < events and time.monotonic() < deadline:
            time.sleep(_LOOK_SECONDS)


@contextmanager
def embedded(folder: Path, seed: int) -> Iterator[Stage]:
    """One process on SQLite, which serves and delivers."""
    with ExitStack() as stack:
        yield Stage("embedded", stack, folder, seed)


@contextmanager
def large(folder: Path, seed: int) -> Iterator[Stage]:
    """Two processes that serve, two that deliver, one that takes commands from Redis, on PostgreSQL."""
    with ExitStack() as stack:
        postgres = stack.enter_context(PrivatePostgres(durable=True))
        yield Stage("large", stack, folder, seed, postgres, workers=2, consumers=1)
