"""Redis Streams, incoming: commands from `<namespace>:commands:<shard>`, read by a consumer group.

A shard has one receiver at a time, by a lease in Redis; the live receivers share the shards among them. A receiver that
takes a shard over begins with what was read but never settled, the oldest first. Every read checks the lease in the
same script, so a receiver that was paused does not read past its successor; what it still has in hand its successor has
as well, and the inbox ensures that it is done once.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import redis

from allocation.adapters.brokers.redis_client import Script, translated
from allocation.adapters.brokers.redis_streams import CAPABILITIES, Address, Trimmer, stream_of
from allocation.adapters.cloudevents import STRUCTURED
from allocation.service_layer.broker import COMMANDS, Delivery, Receiver

CONSUMER = "active"  # one name for all: a shard has one receiver, and the names of receivers that ended would pile up
CLAIM_PAGE = 100
LEASE_SECONDS = 10.0
LONGEST_BLOCK_SECONDS = 1.0
HEADERS = {"content-type": STRUCTURED}

_log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Shard:
    """One stream, while it is held. `read` waits to be handed over, `in_hand` was handed over, `accepted` has to be
    acknowledged. `is_claimed`: what was pending at the takeover is in `read`. `turn` is raised when the stream was lost
    meanwhile."""

    stream: str
    lease: str
    is_held: bool = False
    is_claimed: bool = False
    turn: int = 0
    last: bytes = b"0-0"
    read: deque[Delivery] = field(default_factory=deque)
    in_hand: set[str] = field(default_factory=set)
    accepted: set[str] = field(default_factory=set)

    def lose(self) -> None:
        self.is_held = self.is_claimed = False
        self.turn += 1
        self.read.clear()
        self.in_hand.clear()


class RedisStreamsReceiver(Receiver):
    capabilities = CAPABILITIES

    def __init__(
        self,
        client: redis.Redis,
        namespace: str,
        owner: str,
        address: Address,
        lease_seconds: float = LEASE_SECONDS,
    ) -> None:
        """`client` must not repeat commands: the entries in a lost answer to a read would never be seen."""
        self._client, self._group, self._owner, self._lease_seconds = client, namespace, owner, lease_seconds
        streams = [stream_of(namespace, COMMANDS, shard) for shard in range(address.shards)]
        self._shards = [_Shard(stream, f"{stream}:lease") for stream in streams]
        self._leases = [f"{namespace}:{COMMANDS}:receivers", *(shard.lease for shard in self._shards)]
        self._renew_at = 0.0
        self._lease, self._give_back = Script(client, "lease"), Script(client, "give_back")
        self._read, self._claim = Script(client, "read"), Script(client, "claim")
        self._trimmer = Trimmer(client, address)

    def receive(self, most: int, wait_seconds: float) -> Sequence[Delivery]:
        until = time.monotonic() + wait_seconds
        with self._talking():
            while True:
                self._acknowledge()
                self._hold_shards()
                if not any(shard.read for shard in self._shards):
                    self._read_on(most)
                if deliveries := self._hand_over(most):
                    return deliveries
                left = until - time.monotonic()
                if left <= 0:
                    return []
                self._wait(min(left, LONGEST_BLOCK_SECONDS, max(0.001, self._renew_at - time.monotonic())))

    def accept(self, deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            shard, _ = _token(delivery)
            shard.in_hand.discard(delivery.id)
            shard.accepted.add(delivery.id)
        with self._talking():
            self._acknowledge()

    def release(self, deliveries: Sequence[Delivery], delay_seconds: float = 0.0) -> None:
        for delivery in deliveries:
            shard, turn = _token(delivery)
            if shard.turn == turn:  # otherwise another receiver has it by now
                shard.in_hand.discard(delivery.id)
                shard.read = deque(sorted([delivery, *shard.read], key=_age))

    def reject(self, delivery: Delivery, reason: str) -> None:
        self.accept([delivery])

    def close(self) -> None:
        try:
            with translated():
                self._acknowledge()
                self._give_back.run(self._leases, [self._owner])
        except Exception as away:  # noqa: BLE001  # at the end; a lease that is not given back expires by itself
            _log.warning("the leases of %s could not be given back, and expire by themselves: %s", self._owner, away)
        for shard in self._shards:
            shard.lose()
        self._client.close()

    @contextmanager
    def _talking(self) -> Iterator[None]:
        """Raises `Unavailable`. An answer may have been lost with entries in it: they are looked for next time."""
        try:
            with translated():
                yield
        except BaseException:
            self._renew_at = 0.0
            for shard in self._shards:
                shard.is_claimed = False
            raise

    def _acknowledge(self) -> None:
        due = [shard for shard in self._shards if shard.accepted]
        if not due:
            return
        with self._client.pipeline(transaction=False) as trip:
            for shard in due:
                trip.xack(shard.stream, self._group, *shard.accepted)
            answers = trip.execute(raise_on_error=False)
        for shard, answer in zip(due, answers, strict=True):
            if isinstance(answer, redis.ResponseError) and "WRONGTYPE" in str(answer):
                _log.warning("%s: nothing to acknowledge there any more: %s", shard.stream, answer)
            elif isinstance(answer, redis.RedisError):
                raise answer
            shard.accepted.clear()

    def _hold_shards(self) -> None:
        now = time.monotonic()
        if now >= self._renew_at:
            in_hand = ["1" if shard.in_hand else "0" for shard in self._shards]
            answers = self._lease.run(self._leases, [self._owner, int(self._lease_seconds * 1000), *in_hand])
            for shard, answer in zip(self._shards, answers, strict=True):
                if answer != 1 and shard.is_held:
                    shard.lose()
                shard.is_held = answer > 0
            self._renew_at = now + self._lease_seconds / 10
            self._trimmer.now_and_then([shard.stream for shard in self._shards if shard.is_claimed])
        refusals = []
        for shard in self._shards:
            if shard.is_held and not shard.is_claimed:
                try:
                    self._take_over(shard)
                except redis.ResponseError as refusal:
                    refusals.append(refusal)
                    self._leave_aside(shard, refusal)
        if refusals and not any(shard.is_claimed for shard in self._shards):
            raise refusals[0]

    def _leave_aside(self, shard: _Shard, refusal: redis.ResponseError) -> None:
        """Its key is not a stream, or we may not read it: the other shards continue. It is tried again when the leases
        are renewed."""
        _log.error("%s cannot be read: %s", shard.stream, refusal)
        shard.lose()

    def _take_over(self, shard: _Shard) -> None:
        """Begin with what is pending: the last holder may have died with it in hand."""
        try:
            self._client.xgroup_create(shard.stream, self._group, id="0", mkstream=True)
        except redis.ResponseError as there:
            if not str(there).startswith("BUSYGROUP"):
                raise
        shard.read.clear()
        begin = b"0-0"
        while True:
            keys, arguments = (shard.lease, shard.stream), (self._owner, self._group, CONSUMER, begin, CLAIM_PAGE)
            answer = self._claim.run(keys, arguments)
            if answer is None:
                return shard.lose()
            begin, entries, counts, trimmed, shard.last = answer
            deliveries = {entry[0]: int(entry[3]) for entry in counts}
            self._keep(shard, entries, deliveries)
            if trimmed:
                _log.error("%s: trimmed by another program before they were settled: %s", shard.stream, trimmed)
            if begin == b"0-0":
                break
        shard.is_claimed = True
        return None

    def _read_on(self, most: int) -> None:
        """Read what is new; a shard that was lost, or whose group is gone, is dealt with in the next round."""
        held = [shard for shard in self._shards if shard.is_claimed]
        calls = [((s.lease, s.stream), (self._owner, self._group, CONSUMER, most)) for s in held]
        for shard, answer in zip(held, self._read.run_all(calls) if calls else [], strict=True):
            if answer is None:
                shard.lose()
            elif isinstance(answer, redis.ResponseError) and "NOGROUP" in str(answer):
                _log.warning("%s: the group is gone; it starts again with what the stream holds", shard.stream)
                shard.is_claimed = False
                self._renew_at = 0.0
            elif isinstance(answer, redis.ResponseError):
                self._leave_aside(shard, answer)
            elif isinstance(answer, redis.RedisError):
                raise answer
            elif answer:
                self._keep(shard, answer, {})
                shard.last = answer[-1][0]

    def _keep(self, shard: _Shard, entries: Sequence[Any], deliveries: dict[bytes, int]) -> None:
        known = shard.in_hand | shard.accepted
        for number, content in entries:
            name = number.decode()
            if name not in known:
                fields = dict(zip(content[::2], content[1::2], strict=True))
                body, key = fields.get(b"event", b""), fields.get(b"key")
                shard.read.append(
                    Delivery(
                        body,
                        f"redis {shard.stream}",
                        name,
                        HEADERS,
                        None if key is None else key.decode(errors="replace"),
                        deliveries.get(number, 1),
                        (shard, shard.turn),
                    )
                )

    def _hand_over(self, most: int) -> list[Delivery]:
        """Some from each shard in turn, so that a long one does not hold up the others."""
        found: list[Delivery] = []
        while len(found) < most and (waiting := [shard for shard in self._shards if shard.read]):
            for shard in waiting[: most - len(found)]:
                delivery = shard.read.popleft()
                shard.in_hand.add(delivery.id)
                found.append(delivery)
        return found

    def _wait(self, seconds: float) -> None:
        """Wait until there is something new in one of our streams; reading it takes the lease."""
        held = {shard.stream: shard for shard in self._shards if shard.is_claimed}
        if not held:
            time.sleep(seconds)
            return
        behind: Any = {stream: shard.last for stream, shard in held.items()}
        new: Any = self._client.xread(behind, count=1, block=max(1, int(seconds * 1000)))
        for stream, entries in new.items() if isinstance(new, dict) else new or ():  # a dict with ?protocol=3
            # If somebody moves the group forward, it skips entries: a wait from before these would end at once.
            held[stream.decode()].last = _last_id(entries)


def _last_id(entries: Any) -> bytes:
    last = entries[-1]
    number: bytes = last[-1][0] if isinstance(last, list) else last[0]  # with ?protocol=3 inside one more list
    return number


def _token(delivery: Delivery) -> tuple[_Shard, int]:
    token: tuple[_Shard, int] = delivery.token  # type: ignore[assignment]  # ours
    return token


def _age(delivery: Delivery) -> tuple[int, int]:
    milliseconds, _, number = delivery.id.partition("-")
    return int(milliseconds), int(number)
