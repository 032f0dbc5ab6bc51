"""One group, several transactions at once (fork-join): while the store works for one, this process works for another.

No product is in two of them. Each waits for the locks of its own products only, and meets the others at the counter of
the log, last of all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from types import TracebackType
from typing import Self

from allocation.domain.commands import CreateBatch
from allocation.service_layer.answers import Answer
from allocation.service_layer.envelope import CommandEnvelope

FEWEST = 100
"""A group of fewer commands is not divided: what a transaction costs by itself would outweigh it."""

Send = Callable[[Sequence[CommandEnvelope]], list[Answer]]


class ForkJoin:
    """Divides each group among at most `width` calls of `send` (`MessageBus.handle_many`) at once.

    The commands of one product are handled in their order, in one call. Callers may not assume more: no order between
    products; no transaction around the whole (what one part did is committed, whatever becomes of the others); nor that
    a group is divided at all. It is handled by one call if it is small, if a command names no product (those that
    change a batch), or if one batch reference stands for two products, as only their order tells which of them gets it.
    """

    def __init__(self, send: Send, width: int) -> None:
        self._send, self._width = send, width
        self._threads = ThreadPoolExecutor(max(1, width - 1), "fork-join")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait for what is at work, and let go of the threads."""
        self._threads.shutdown()

    def __call__(self, envelopes: Sequence[CommandEnvelope]) -> list[Answer]:
        """Handle a group; answers in its order.

        Raises what a part raised (of several the first), once all have ended: what the others did is done, and told to
        nobody. The same commands again find it there already.
        """
        homes = self._homes(envelopes)
        if len(set(homes)) < 2:
            return self._send(envelopes)
        parts: list[list[CommandEnvelope]] = [[] for _ in range(max(homes) + 1)]
        for envelope, home in zip(envelopes, homes, strict=True):
            parts[home].append(envelope)
        answers = [iter(of_part) for of_part in self._at_once(parts)]
        return [next(answers[home]) for home in homes]

    def _at_once(self, parts: Sequence[list[CommandEnvelope]]) -> list[list[Answer]]:
        others: list[Future[list[Answer]]] = []
        try:
            others.extend(self._threads.submit(copy_context().run, self._send, part) for part in parts[1:])
            mine = self._send(parts[0])
            wait(others)
        finally:
            wait(others)  # once more: Ctrl-C may have ended the other wait
        return [mine, *(other.result() for other in others)]

    def _homes(self, envelopes: Sequence[CommandEnvelope]) -> list[int]:
        """The part of each command: product by product, the largest first, each to the part with the fewest."""
        skus = self._skus(envelopes) if self._width > 1 and len(envelopes) >= FEWEST else []
        if not skus:
            return [0] * len(envelopes)
        sizes = [0] * self._width
        home: dict[str, int] = {}
        for sku, count in Counter(skus).most_common():
            home[sku] = smallest = sizes.index(min(sizes))
            sizes[smallest] += count
        return [home[sku] for sku in skus]

    @staticmethod
    def _skus(envelopes: Sequence[CommandEnvelope]) -> list[str]:
        """The product of each; nothing if they cannot be told apart."""
        skus: list[str] = []
        owners: dict[str, str] = {}
        for envelope in envelopes:
            command = envelope.command
            sku: str | None = getattr(command, "sku", None)
            if sku is None or (isinstance(command, CreateBatch) and owners.setdefault(command.ref, sku) != sku):
                return []
            skus.append(sku)
        return skus
