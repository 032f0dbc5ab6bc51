"""One group in several concurrent transactions (fork-join): while the store works for one, this process works for
another.

No product is in two of them. Each waits only for the locks of its own products, and for the others only at the counter
of the log, the last lock it takes.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from contextvars import copy_context
from math import ceil
from threading import Event, Thread

from allocation.domain.commands import CreateBatch
from allocation.service_layer.answers import Answer
from allocation.service_layer.envelope import CommandEnvelope

FEWEST = 100
"""A group of fewer commands is not divided: the cost of each transaction itself would outweigh the gain."""

TURNS = 4
"""Parts for each thread in a group of the best size. During its last part, a thread may have no other to share the
processor with: the more parts, the less that matters."""

Send = Callable[[Sequence[CommandEnvelope]], list[Answer]]


class ForkJoin:
    """Divides each group into parts of about `size` commands, and has `send` (`MessageBus.handle_many`) handle
    `at_once` of them at a time, each in a thread.

    The commands of one product are handled in their order, in one part. Callers may not assume more: no order between
    products; no transaction around the whole (what one part did is committed, whatever becomes of the others); nor that
    a group is divided at all. It is one part if it is small, if a command names no product (those that change a batch),
    or if two products claim one batch reference, because only the order of the commands decides which product gets it.
    """

    def __init__(self, send: Send, at_once: int, size: int) -> None:
        self._send, self._at_once, self._size = send, at_once, size

    @property
    def best_group(self) -> int:
        """How many commands to bring at a time."""
        return self._size if self._at_once == 1 else self._size * self._at_once * TURNS

    def __call__(self, envelopes: Sequence[CommandEnvelope]) -> list[Answer]:
        """Handle a group. Returns the answers in its order.

        Raises what a part raised (one of them, if several did), once the parts under way have ended; parts not yet
        begun are left undone. What other parts did stays done, but is reported to nobody: the same commands again find
        it done already. Ctrl-C has the same effect; a second one does not wait for the parts under way.
        """
        homes = self._homes(envelopes)
        if len(set(homes)) < 2:
            return self._send(envelopes)
        parts: list[list[CommandEnvelope]] = [[] for _ in range(max(homes) + 1)]
        for envelope, home in zip(envelopes, homes, strict=True):
            parts[home].append(envelope)
        answers = [iter(of_part) for of_part in self._handle(parts)]
        return [next(answers[home]) for home in homes]

    def _handle(self, parts: Sequence[list[CommandEnvelope]]) -> list[list[Answer]]:
        left = deque(enumerate(parts))
        done: dict[int, list[Answer]] = {}
        failures: dict[int, BaseException] = {}

        def work(ended: Event) -> None:
            with suppress(IndexError):  # none is left
                while True:
                    place, part = left.popleft()
                    try:
                        done[place] = self._send(part)
                    except BaseException as failure:  # noqa: BLE001  # raised in the caller's thread
                        failures[place] = failure
                        left.clear()
            ended.set()

        ended = [Event() for _ in range(self._at_once)]
        threads = [Thread(target=copy_context().run, args=[work, event], name="fork-join") for event in ended]
        try:
            for thread in threads:
                thread.start()
            for event in ended:  # not `join`: when interrupted, it takes a live thread for dead (bpo-46726)
                event.wait()
        finally:
            left.clear()
            for thread, event in zip(threads, ended, strict=True):
                if thread.ident is not None:  # else it was not started, or will find nothing left
                    event.wait()
        if failures:
            raise failures[min(failures)]
        return [done[place] for place in range(len(parts))]

    def _homes(self, envelopes: Sequence[CommandEnvelope]) -> list[int]:
        """The part of each command: product by product, the largest first, each to the part with the fewest
        commands."""
        skus = self._skus(envelopes) if self._at_once > 1 and len(envelopes) >= FEWEST else []
        if not skus:
            return [0] * len(envelopes)
        sizes = [0] * (self._at_once * ceil(len(skus) / (self._at_once * self._size)))
        home: dict[str, int] = {}
        for sku, count in Counter(skus).most_common():
            home[sku] = smallest = sizes.index(min(sizes))
            sizes[smallest] += count
        return [home[sku] for sku in skus]

    @staticmethod
    def _skus(envelopes: Sequence[CommandEnvelope]) -> list[str]:
        """The product of each command; empty if the group cannot be divided by products."""
        skus: list[str] = []
        owners: dict[str, str] = {}
        for envelope in envelopes:
            command = envelope.command
            sku: str | None = getattr(command, "sku", None)
            if sku is None or (isinstance(command, CreateBatch) and owners.setdefault(command.ref, sku) != sku):
                return []
            skus.append(sku)
        return skus
