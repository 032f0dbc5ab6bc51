"""The entry point for Redis pub/sub: `python -m allocation.entrypoints.redis_eventconsumer`.

Listens on `change_batch_quantity` for `{"batchref", "qty"}` (a message with an `"id"` from its sender is done once).
It is `allocation consumer`, receiving by `redis+pubsub` from the Redis of `ALLOCATION_REDIS_URL`. Pub/sub delivers at
most once: a message sent while nobody listens is lost. A message that cannot be handled is kept among the dead letters,
and the next one is served.
"""

from __future__ import annotations

import sys

from allocation.config import load_settings
from allocation.entrypoints.consumer import run_consumer
from allocation.service_layer.errors import SetupError, Unavailable


def main() -> int:
    try:
        settings = load_settings()
        if not settings.redis_url:
            raise SetupError("Set ALLOCATION_REDIS_URL to the Redis to listen to, as in redis://localhost:6379/0")
        by_pubsub = settings.redis_url.replace(":", "+pubsub:", 1)
        run_consumer(settings.model_copy(update={"receive_from": by_pubsub}))
    except (SetupError, Unavailable) as wrong:
        sys.stderr.write(f"{wrong}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
