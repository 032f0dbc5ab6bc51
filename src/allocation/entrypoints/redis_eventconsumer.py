"""The Redis pub/sub event entry: `python -m allocation.entrypoints.redis_eventconsumer`.

Listens on `change_batch_quantity` for `{"batchref", "qty"}` (with an `"id"` of the sender's, a message is done once).
Pub/sub is at most once: what is said while nobody listens is lost. A message that cannot be handled is parked among
the dead letters, and the next one is served.
"""

from __future__ import annotations

import logging
import signal
import sys
from threading import Event as Flag
from types import FrameType

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from allocation.adapters.brokers.redis_pubsub import RedisSubscriber, connect
from allocation.bootstrap import Application, bootstrap
from allocation.config import load_settings
from allocation.domain.commands import ID_PATTERN, ChangeBatchQuantity
from allocation.domain.errors import MAX_QUANTITY, Refused
from allocation.service_layer.errors import IdReused, SetupError, Unavailable

CHANNEL = "change_batch_quantity"
WAIT_SECONDS, LONGEST_PAUSE_SECONDS = 1.0, 5.0

_log = logging.getLogger(__name__)


class QuantityChange(BaseModel):
    """What is expected on the channel."""

    model_config = ConfigDict(extra="ignore", strict=True)

    batchref: str = Field(pattern=ID_PATTERN.removesuffix(r"\Z") + "$")
    qty: int = Field(ge=0, le=MAX_QUANTITY)
    id: str | None = Field(None, min_length=1, max_length=255)


def handle_change_batch_quantity(data: bytes, application: Application) -> None:
    """Handle one message, or park it with the reason. Raises `Unavailable`: then it was not handled, try again."""
    try:
        change = QuantityChange.model_validate_json(data)
        bus = application.bus
        envelope = bus.envelope(ChangeBatchQuantity(change.batchref, change.qty), change.id, source=f"redis {CHANNEL}")
        bus.ask(envelope).unwrap()
    except ValidationError as invalid:
        problems = (f"{'.'.join(map(str, e['loc'])) or 'message'}: {e['msg']}" for e in invalid.errors())
        _park(application, data, "; ".join(problems))
    except (Refused, IdReused) as refusal:
        _park(application, data, str(refusal))


def _park(application: Application, data: bytes, reason: str) -> None:
    _log.warning("parked a message from %s: %s", CHANNEL, reason)
    application.dead_letters.park(f"redis {CHANNEL}", data, reason)


def consume(application: Application, subscriber: RedisSubscriber, stopping: Flag) -> None:
    """Serve messages until `stopping` is set, whatever happens to Redis or to the database meanwhile."""
    pause_seconds = 0.05
    while not stopping.is_set():
        try:
            for data in subscriber.receive(WAIT_SECONDS):
                _insist(data, application, stopping)
                if stopping.is_set():
                    return
            pause_seconds = 0.05
        except Unavailable as away:
            _log.warning("%s; trying again in %.2f seconds", away, pause_seconds)
            stopping.wait(pause_seconds)
            pause_seconds = min(pause_seconds * 2, LONGEST_PAUSE_SECONDS)


def _insist(data: bytes, application: Application, stopping: Flag) -> None:
    """Try one message until the database has it: it will not be sent again."""
    pause_seconds = 0.05
    while True:
        try:
            return handle_change_batch_quantity(data, application)
        except Unavailable as away:
            if stopping.wait(pause_seconds):
                _log.error("stopped with a message unhandled: %r: %s", data[:200], away)
                return None
            pause_seconds = min(pause_seconds * 2, LONGEST_PAUSE_SECONDS)


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    stopping = Flag()

    def stop(_signal: int, _frame: FrameType | None) -> None:
        stopping.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    try:
        settings = load_settings()
        if not settings.redis_url:
            raise SetupError("Set ALLOCATION_REDIS_URL to the Redis to listen to, as in redis://localhost:6379/0")
        application = bootstrap(settings)
    except (SetupError, Unavailable) as wrong:
        sys.stderr.write(f"{wrong}\n")
        return 1
    _log.info("listening on %s", CHANNEL)
    consume(application, RedisSubscriber(connect(settings.redis_url), CHANNEL), stopping)
    application.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
