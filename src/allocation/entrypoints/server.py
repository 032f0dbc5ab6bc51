"""Serves the HTTP application with granian: worker processes with threads, under one process that supervises them.

A request occupies a thread while its body is received, so a client that sends a body slowly occupies one for that long.
If strangers can reach the service, put a proxy in front of it that reads the whole request first.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from functools import partial
from multiprocessing import parent_process
from multiprocessing.connection import wait
from multiprocessing.util import Finalize
from threading import Thread

from flask import Flask
from granian import Granian
from granian.constants import HTTPModes, Interfaces
from granian.log import LogLevels

from allocation.bootstrap import bootstrap, telemetry_for, tracer_for
from allocation.config import Settings
from allocation.entrypoints.flask_app import create_app
from allocation.entrypoints.garbage import collect_rarely
from allocation.entrypoints.watching import counted_together, log_lines
from allocation.service_layer.errors import SetupError
from allocation.service_layer.observing import Telemetry

MOST_CHOSEN_WORKERS = 4
LONGEST_GOODBYE_SECONDS = 30  # after SIGTERM, for a client that does not send the rest of its request
SWITCH_INTERVAL_SECONDS = 0.0005  # measured: a tenth of Python's own, so that group commits need not wait

_log = logging.getLogger(__name__)


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; requests in flight are finished and answered first.

    Before the workers start, the database is migrated once, and what the settings ask for is tried. Each worker builds
    its own application. Raises `SetupError`, `Unavailable` as `bootstrap` does, and `SetupError` if the port is taken.
    """
    workers = workers_for(settings)
    log_lines(settings)
    address, port = _free_address(settings)
    application = bootstrap(settings, telemetry=Telemetry(tracer=tracer_for(settings)))
    if not is_embedded(settings) and not application.subscriptions.cursors():
        _log.warning(
            "no `allocation worker` has run on this database yet: until one does, no event is delivered, and pages "
            "such as /v1/stock stay as they are"
        )
    application.close()
    server = Granian(
        "allocation",
        address=address,
        port=port,
        interface=Interfaces.WSGI,
        http=HTTPModes.http1,
        workers=workers,
        blocking_threads=settings.threads,
        respawn_failed_workers=True,
        workers_kill_timeout=LONGEST_GOODBYE_SECONDS,
        log_level=LogLevels.info if settings.log_level == "debug" else LogLevels.error,
        log_dictconfig={"loggers": {"_granian": {"handlers": [], "propagate": True}}},
    )
    where = f"http://{f'[{settings.host}]' if ':' in settings.host else settings.host}:{port}"
    _log.info("listening on %s with %d x %d threads; %s/docs explains the API", where, workers, settings.threads, where)
    with counted_together(workers):
        server.serve(target_loader=partial(worker_application, settings), wrap_loader=False)


def workers_for(settings: Settings) -> int:
    """How many processes serve. Raises `SetupError` if there are several, but the store lives in a single process."""
    kind = settings.database_url.split(":", 1)[0]
    if kind == "memory" and settings.workers > 1:
        raise SetupError("memory: lives in one process; set ALLOCATION_WORKERS to 1, or use a database")
    if settings.workers:
        return settings.workers
    return min(os.cpu_count() or 1, MOST_CHOSEN_WORKERS) if kind.startswith("postgresql") else 1


def worker_application(settings: Settings) -> Flask:
    """The application that a worker process serves. The process builds it itself."""
    sys.setswitchinterval(SWITCH_INTERVAL_SECONDS)
    collect_rarely()
    _end_by_parent()
    # A single worker gets its leases back after a crash, without waiting for them to run out.
    owner = "serve" if workers_for(settings) == 1 else ""
    application = bootstrap(settings, owner=owner, telemetry=telemetry_for(settings))
    if is_embedded(settings):
        application.worker.start()
        application.pushers.start()
        application.self_audit.start()
    _hear_the_end(application.pulling.leave)
    Finalize(None, application.close, exitpriority=0)  # a forked process does not run `atexit` handlers
    return create_app(application)


def is_embedded(settings: Settings) -> bool:
    """Whether one process does everything, including deliveries; otherwise `allocation worker` runs beside it."""
    return not settings.database_url.startswith("postgresql")


def _end_by_parent() -> None:
    """End this process when its parent, the supervisor, is gone. If the supervisor is killed, nothing else ends this
    process, and it would keep its share of the port.

    Every process of a terminal gets Ctrl-C, but only the supervisor is to react to it: a second signal, while this
    process ends after the first, could find it waiting for something that the signal's own handler needs.
    """
    parent = parent_process()
    if parent is None:
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    # Until granian installs its own handler, the one inherited by the fork would swallow the signal.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def watch() -> None:
        wait([parent.sentinel])
        while True:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(1)

    Thread(target=watch, name="end-with-parent", daemon=True).start()


def _hear_the_end(leave: Callable[[], None]) -> None:
    """Call `leave` at SIGTERM: granian, which handles it, waits for requests under way, and some of them await events.

    The descriptor gets every signal, whatever handles it, so it stays open as long as the process lives.
    """
    heard, told = socket.socketpair()
    told.setblocking(False)
    signal.set_wakeup_fd(told.fileno(), warn_on_full_buffer=False)

    def listen(_kept: socket.socket = told) -> None:
        while number := heard.recv(1):
            if number[0] == signal.SIGTERM:
                leave()

    Thread(target=listen, name="hear-the-end", daemon=True).start()


def _free_address(settings: Settings) -> tuple[str, int]:
    """The address and the port to listen on. The address of a host name is looked up here, because granian does not do
    it; port 0 stands for any free port. Raises `SetupError` if another process has the port.

    Every worker binds its own socket with SO_REUSEPORT, which would let a second service share the port unnoticed; so
    binding is tried without it first.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as taken:
            raise SetupError(
                f"Cannot listen on {settings.host}:{settings.port} ({taken.strerror}); set ALLOCATION_HOST or "
                f"ALLOCATION_PORT to a free one"
            ) from None
        address, port = probe.getsockname()[:2]
        return address, port
