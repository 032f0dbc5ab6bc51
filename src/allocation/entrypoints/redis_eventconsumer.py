"""The Redis pub/sub event entry: `python -m allocation.entrypoints.redis_eventconsumer`.

Listens on `change_batch_quantity` for `{"batchref", "qty"}` (with an `"id"` of the sender's, a message is done once):
`allocation consumer`, receiving from the Redis of `ALLOCATION_REDIS_URL` by `redis+pubsub`. Pub/sub is at most once:
what is said while nobody listens is lost. A message that cannot be handled is kept among the dead letters, and the
next one is served.
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
