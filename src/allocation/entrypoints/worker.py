"""A process that runs the subscriptions, which react to events, beside the processes that serve HTTP."""

from __future__ import annotations

import logging
import signal
from collections.abc import Collection
from threading import Event as Flag
from types import FrameType

from allocation.config import Settings
from allocation.entrypoints.watching import watched
from allocation.service_layer.errors import SetupError

_log = logging.getLogger(__name__)


def run_worker(settings: Settings, from_the_beginning: Collection[str] = ()) -> None:
    """Deliver until SIGTERM or SIGINT; then finish the deliveries under way and give the leases back.

    `from_the_beginning` names subscriptions that, if they are new, start at the beginning of the log.

    Raises `SetupError`, `Unavailable` as `bootstrap` does.
    """
    stopping = Flag()

    def stop(_signal: int, _frame: FrameType | None) -> None:
        stopping.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    if settings.cache == "memory":
        raise SetupError(
            "ALLOCATION_CACHE is memory: that cache lives in the serving process, and no worker can update it. Set it "
            "to redis, or to none"
        )
    application = watched(settings)
    if unknown := set(from_the_beginning) - set(application.worker.names()):
        application.close()
        raise SetupError(
            f"There is no subscription {', '.join(sorted(unknown))} with these settings; there are "
            f"{', '.join(application.worker.names())}"
        )
    application.worker.start(from_the_beginning)
    application.pushers.start()
    application.self_audit.start()
    _log.info(
        "delivering for: %s", ", ".join(application.worker.names()) or "no subscription; no mail server or Redis is set"
    )
    stopping.wait()
    application.close()
