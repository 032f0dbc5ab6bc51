"""The SDK, impatient: it looks for answers every 50 milliseconds, and its threads sleep whole seconds. Nothing else of
it is changed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from unittest import mock

MODULES = ("_servicebus_receiver", "_servicebus_sender", "_pyamqp.client", "_common.auto_lock_renewer")
LONGEST_SECONDS = 0.005


@contextmanager
def impatient_sdk() -> Iterator[None]:
    quick = SimpleNamespace(**vars(time))
    quick.sleep = lambda seconds: time.sleep(min(seconds, LONGEST_SECONDS))
    patches = [mock.patch(f"azure.servicebus.{module}.time", quick) for module in MODULES]
    for patch in patches:
        patch.start()
    try:
        yield
    finally:
        for patch in patches:
            patch.stop()
