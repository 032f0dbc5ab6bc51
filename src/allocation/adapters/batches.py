"""Messages in batches, for a destination that accepts or refuses a batch as a whole."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence

from allocation.adapters.cloudevents import structured
from allocation.service_layer.broker import Message
from allocation.service_layer.errors import Unavailable

Send = Callable[[Sequence[Message]], Exception | None]
Numbered = Sequence[tuple[int, Message]]


class OneOfThem(Exception):
    """A batch was refused; the cause may be one of its messages, or their total size."""


def in_batches(
    messages: Sequence[Message], send: Send, most: int, most_bytes: int, more_bytes: int = 1
) -> Sequence[Exception | None]:
    """What became of each message, in order, in the form of `Publisher.publish`.

    `send` returns what became of a batch of up to `most` messages and `most_bytes` (a larger one goes alone;
    `more_bytes` is what each costs beside its CloudEvent). On `OneOfThem` the batch is halved, until the message to
    blame is alone; on `Unavailable` nothing more is sent; after any other failure, nothing more of the same keys is
    sent.
    """
    outcomes: list[Exception | None] = [None] * len(messages)
    refused: dict[str, Exception] = {}
    waiting = deque(_cut(list(enumerate(messages)), most, most_bytes, more_bytes))
    while waiting:
        batch = waiting.popleft()
        for number, message in batch:
            outcomes[number] = refused.get(message.key)
        if not (batch := [(n, message) for n, message in batch if message.key not in refused]):
            continue
        failure = send([message for _, message in batch])
        if isinstance(failure, Unavailable):
            first = batch[0][0]
            return outcomes[:first] + [failure] * (len(messages) - first)
        if isinstance(failure, OneOfThem):
            waiting.extendleft((batch[len(batch) // 2 :], batch[: len(batch) // 2]))
        elif failure is not None:
            for number, message in batch:
                outcomes[number] = refused[message.key] = failure
    return outcomes


def _cut(numbered: Numbered, most: int, most_bytes: int, more_bytes: int) -> Iterator[Numbered]:
    batch: list[tuple[int, Message]] = []
    size_bytes = 0
    for number, message in numbered:
        length = len(structured(message)) + more_bytes if most > 1 else 0
        if batch and (len(batch) >= most or size_bytes + length > most_bytes):
            yield batch
            batch, size_bytes = [], 0
        batch.append((number, message))
        size_bytes += length
    if batch:
        yield batch
