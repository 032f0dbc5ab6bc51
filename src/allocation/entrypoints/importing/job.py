"""`allocation import` from its options to its end."""

from __future__ import annotations

import getpass
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Any, Literal

from allocation.bootstrap import Application
from allocation.domain.commands import IfShort
from allocation.entrypoints.console import progress
from allocation.entrypoints.garbage import rare_collection
from allocation.entrypoints.importing.dry_run import DryRun
from allocation.entrypoints.importing.files import open_rows
from allocation.entrypoints.importing.report import Report, as_it_was, how_to_go_on
from allocation.entrypoints.importing.rows import batches, orders
from allocation.entrypoints.importing.run import Import, StopAtFirstRefusal
from allocation.service_layer.fork_join import ForkJoin
from allocation.service_layer.handlers import COMMAND_HANDLERS

MOST_IN_A_GROUP = 100_000
"""Rows in memory at a time, regardless of how many transactions share them."""

Handlers = Mapping[type, Callable[..., Any]]


@dataclass(frozen=True, slots=True)
class Job:
    """What to import, and how. A file is a path, or `-` for stdin.

    A transaction imports `group` rows. If several run `at_once` (None: the best number for this store), their sizes
    depend on how the rows divide by product.
    """

    batches: str | None
    orders: str | None
    if_short: IfShort = IfShort.WAIT
    on_error: Literal["stop", "skip"] = "stop"
    group: int = 1000
    dry_run: bool = False
    refused: str | None = None
    as_json: bool = False
    at_once: int | None = None

    def run(self, application: Callable[[Handlers], AbstractContextManager[Application]]) -> tuple[bool, str | None]:
        """Returns whether every row was good and, if the import stopped early, how to continue.

        The headers of all files are read before anything else is done. Raises `UnreadableFile` if one is wrong.
        """
        stop = StopAtFirstRefusal() if self.on_error == "stop" else None
        handlers: Handlers = stop.wrap(COMMAND_HANDLERS) if stop else COMMAND_HANDLERS
        with ExitStack() as opened:
            files = [open_rows(self.batches, batches(), opened)] if self.batches else []
            files += [open_rows(self.orders, orders(self.if_short), opened)] if self.orders else []
            app = opened.enter_context(application(handlers))
            refused = opened.enter_context(as_it_was(self.refused)) if self.refused else None
            report = Report(self.as_json, refused)
            handle, at_once = app.bus.handle_many, self.at_once or app.at_once
            if self.dry_run:  # in memory, where nothing runs in parallel
                handle, at_once = DryRun(app.views, handlers, app.ids, app.clock).handle_many, 1
            begin = time.monotonic()
            send = ForkJoin(stop.each(handle) if stop else handle, at_once, self.group)
            group = min(send.best_group, MOST_IN_A_GROUP)
            with progress() as advanced, rare_collection():
                run = Import(send, app.ids, app.clock, _user(), group, self.on_error, report.tell, advanced)
                stopped = run.run(files)
            report.end(run, stopped, self.dry_run, time.monotonic() - begin)
            return not run.went_wrong, how_to_go_on(stopped, self.dry_run) if stopped else None


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run as a user without a name
        return ""
