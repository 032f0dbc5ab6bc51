"""Redis Streams with a plain client, on both sides of the service: one who sends commands, one who reads the facts."""

import json
import random
from collections.abc import Sequence
from threading import Event as Flag
from threading import Thread
from typing import Any, Self
from zlib import crc32

import redis

from tests.faults.oracle import Seen, Sent

NAMESPACE = "allocation"
SHARDS = 4
GROUP = "campaign"
BLOCK_MILLISECONDS = 50
PAUSE_SECONDS = 0.05


def client_of(url: str) -> redis.Redis:
    """One that repeats nothing by itself: what it was not answered it does not know."""
    return redis.Redis.from_url(url, socket_timeout=10, retry=None, decode_responses=True)


def streams_of(topic: str) -> list[str]:
    return [f"{NAMESPACE}:{topic}:{shard}" for shard in range(SHARDS)]


class Sender:
    """Sends changes of quantity, each under an id of its own. `sent` holds them all."""

    def __init__(self, url: str, rng: random.Random) -> None:
        self.sent: list[Sent] = []
        self._client, self._rng = client_of(url), rng

    def send(self, count: int, batches: Sequence[tuple[str, str]]) -> None:
        """So many commands for some of these batches (reference, sku), all at once. Without an answer of Redis nobody
        knows whether they were taken."""
        sent = []
        with self._client.pipeline(transaction=True) as trip:
            for ref, sku in self._rng.choices(batches, k=count):
                stream = streams_of("commands")[crc32(sku.encode()) % SHARDS]
                sent.append(Sent(f"change-{len(self.sent) + len(sent)}", f"redis {stream}", ref, self._quantity()))
                body = {"batchref": ref, "qty": sent[-1].qty, "id": sent[-1].id}
                trip.xadd(stream, {"key": sku, "event": json.dumps(body)})
            try:
                trip.execute()
                self.sent += sent
            except redis.RedisError:
                self.sent += [Sent(each.id, each.source, each.ref, each.qty, is_accepted=False) for each in sent]

    def waiting(self) -> int:
        """How many commands are in the streams that nobody has read, or that were read and not acknowledged."""
        groups = [group for stream in streams_of("commands") for group in self._client.xinfo_groups(stream)]
        return sum(group["pending"] + (group["lag"] or 0) for group in groups)

    def _quantity(self) -> int:
        return self._rng.choice([0, *range(5, 60)])


class Reader:
    """Follows the facts as another program does: reads for a group, writes down what it gets, and acknowledges then.
    Now and then it falls over in between, and gets the same again."""

    def __init__(self, url: str, rng: random.Random, falls: float = 0.02) -> None:
        self.seen: list[Seen] = []
        self.falls = 0
        self._client, self._rng, self._falls = client_of(url), rng, falls
        self._stopping = Flag()
        self._thread = Thread(target=self._read, name="reads the facts", daemon=True)

    def __enter__(self) -> Self:
        for stream in streams_of("facts"):
            self._client.xgroup_create(stream, GROUP, id="0", mkstream=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()
        self._client.close()

    def _read(self) -> None:
        while not self._stopping.is_set():
            try:
                while self._take("0"):  # what it was given and did not acknowledge
                    pass
                while not self._stopping.is_set():
                    self._take(">")
            except redis.RedisError:
                self._stopping.wait(PAUSE_SECONDS)  # Redis was killed: it comes back
            except _FallenOver:
                self.falls += 1

    def _take(self, after: str) -> int:
        wanted: Any = dict.fromkeys(streams_of("facts"), after)
        answer: Any = self._client.xreadgroup(GROUP, "reader", wanted, count=100, block=BLOCK_MILLISECONDS)
        taken = 0
        for stream, entries in answer:
            if not entries:
                continue
            self.seen += [_seen(fields) for _, fields in entries]
            taken += len(entries)
            if after == ">" and self._rng.random() < self._falls:
                raise _FallenOver
            self._client.xack(stream, GROUP, *(number for number, _ in entries))
        return taken


class _FallenOver(Exception):
    """Between writing down and acknowledging."""


def _seen(fields: dict[str, str]) -> Seen:
    event = json.loads(fields["event"])
    kind = event["type"].removeprefix("allocation.")
    return Seen(event["id"], event["subject"], event["productversion"], kind, event["data"])


def last_levels(url: str) -> dict[str, dict[str, Any]]:
    """The last word on each sku in the streams of stock levels."""
    last: dict[str, dict[str, Any]] = {}
    with client_of(url) as client:
        for stream in streams_of("stock_level"):
            for _, fields in client.xrange(stream):
                data = json.loads(fields["event"])["data"]
                last[data["sku"]] = data
    return last
