"""The event feed on a terminal, or as lines of JSON."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import fields

import click
import msgspec

from allocation.bootstrap import Application
from allocation.entrypoints.http.cursors import ForgedCursor, decode_cursor, encode_cursor
from allocation.entrypoints.http.events import cloud_event
from allocation.service_layer.envelope import EventEnvelope
from allocation.service_layer.errors import UnknownPosition

__all__ = ["Feed", "ForgedCursor"]

PAGE = 1000
LOOK_AGAIN_SECONDS = 0.5


class Feed:
    """Reads on from a cursor, which has the same form as that of `GET /v1/events`. Raises `ForgedCursor`, and
    `UnknownPosition` if it is of a log with more partitions."""

    def __init__(self, application: Application, after: str, sku: str | None) -> None:
        self._views = application.views
        self._after = decode_cursor(after, application.settings.log_partitions) if after else []
        self._sku = sku

    def print(self, follow: bool, limit: int | None, as_json: bool) -> bool:
        """Print up to `limit` events: those that exist or, with `follow`, also new ones as they come. Ctrl-C ends it.

        However it ends, the cursor to continue from is printed on stderr. Returns whether there was any event. Raises
        `UnknownPosition` if the cursor belongs to another log, or to this one before it was restored from a backup.
        """
        is_any = False
        try:
            for logged in self._events(follow, limit):
                is_any = True
                click.echo(msgspec.json.encode(cloud_event(logged)) if as_json else _line(logged))
        except UnknownPosition:
            self._after = []
            raise
        except KeyboardInterrupt:
            if not follow:
                raise
        finally:
            if self._after:
                click.echo(f"To continue: --after {encode_cursor(self._after)}", err=True)
        return is_any

    def _events(self, follow: bool, limit: int | None) -> Iterator[EventEnvelope]:
        left = PAGE if limit is None else limit
        while left:
            page = self._views.events(self._after, min(PAGE, left), self._sku)
            yield from page.events
            self._after = list(page.next)
            if limit is not None:
                left -= len(page.events)
            if not page.events:
                if not follow:
                    return
                time.sleep(LOOK_AGAIN_SECONDS)


def _line(logged: EventEnvelope) -> str:
    event = logged.event
    told = {field.name: getattr(event, field.name) for field in fields(event) if field.name != "sku"}
    if "eta" in told and told["eta"] is None:
        told["eta"] = "on-hand"
    words = " ".join(f"{name}={value}" for name, value in told.items())
    return f"{logged.time:%Y-%m-%d %H:%M:%S} {event.sku} {logged.version} {type(event).__name__} {words}".rstrip()
