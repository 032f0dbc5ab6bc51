"""Every log line carries a correlation, whoever writes it and by whichever logger."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

import allocation
from allocation.bootstrap import bootstrap
from allocation.config import Settings
from allocation.domain.commands import Allocate, CreateBatch
from allocation.entrypoints.flask_app import create_app
from allocation.service_layer.errors import Rejected, Unavailable
from allocation.service_layer.observing import MOST_TOLD, correlated, correlated_with
from allocation.service_layer.ports import Notifications
from tests.log_lines import RUN, Lines, logged
from tests.patience import wait_until


@pytest.fixture
def lines() -> Iterator[Lines]:
    with logged() as told:
        yield told


def test_a_line_that_no_message_led_to_carries_that_of_the_run(lines: Lines) -> None:
    logging.getLogger("some.library").warning("%d of %d", 1, 2)
    structlog.get_logger("ours").info("it begins", port=80)
    first, second = lines.read
    assert (first["event"], first["level"], first["logger"]) == ("1 of 2", "warning", "some.library")
    assert (second["event"], second["port"], second["logger"]) == ("it begins", 80, "ours")
    assert {first["correlation_id"], second["correlation_id"]} == {RUN}
    assert str(first["timestamp"]).endswith("Z")


def test_a_line_inside_carries_that_of_the_message_and_then_no_more(lines: Lines) -> None:
    with correlated("c1"), correlated("c2"):
        logging.getLogger("x").info("inside")
    logging.getLogger("x").info("outside")
    assert [line["correlation_id"] for line in lines.read] == ["c2", RUN]


def test_a_line_about_many_messages_carries_the_ids_of_all_up_to_a_number(lines: Lines) -> None:
    bus = bootstrap(Settings(database_url="memory:")).bus
    for count in (1, 2, MOST_TOLD + 5):
        group = [bus.envelope(CreateBatch(f"b{n}", "RED-CHAIR", 1), correlation_id=f"c{n}") for n in range(count)]
        with correlated_with([*group, *group]):
            logging.getLogger("x").info("a group")
    one, two, many = [str(line["correlation_id"]) for line in lines.read if line["event"] == "a group"]
    assert (one, two) == ("c0", "c0,c1")
    assert many.split(",") == [*(f"c{n}" for n in range(MOST_TOLD)), "and 5 more"]


def test_a_line_inside_a_transaction_is_about_the_whole_group(lines: Lines) -> None:
    """Not only about the request whose thread leads it."""

    def create(command: CreateBatch, uow: object) -> None:
        logging.getLogger("inside").info("%s", command.ref)

    bus = bootstrap(Settings(database_url="memory:"), handlers={CreateBatch: create}).bus
    with correlated("the leader"):
        bus.handle_many([bus.envelope(CreateBatch(c, "RED-CHAIR", 1), correlation_id=c) for c in ("c1", "c2")])
    assert {line["correlation_id"] for line in lines.read if line["logger"] == "inside"} == {"c1,c2"}


def test_lines_about_what_flask_answers_carry_the_correlation_too(lines: Lines) -> None:
    app = create_app(bootstrap(Settings(database_url="memory:")))

    def broken() -> str:
        raise ValueError("a defect")

    app.add_url_rule("/broken", view_func=broken)
    answer = app.test_client().get("/broken", headers={"X-Correlation-Id": "mine-3"})
    assert answer.status_code == 500
    [line] = [line for line in lines.read if line["event"] == "unexpected error"]
    assert line["correlation_id"] == "mine-3"


def test_a_command_of_the_command_line_forms_its_lines_too_once_it_has_one() -> None:
    """In a process of its own: here pytest listens to all lines."""
    program = (
        "import logging, sys\n"
        "from allocation.entrypoints.opened import application\n"
        "with application():\n"
        "    assert 'structlog' not in sys.modules\n"
        "    logging.getLogger('x').info('not shown')\n"
        "    logging.getLogger('x').warning('%s is away', 'Redis')\n"
        "    logging.getLogger('x').warning('and again')\n"
    )
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(allocation.__file__).parents[1]),
        "ALLOCATION_DATABASE_URL": "memory:",
        "ALLOCATION_LOG_FORMAT": "json",
    }
    ran = subprocess.run(
        [sys.executable, "-c", program], env=environment, stderr=subprocess.PIPE, text=True, check=False, timeout=60
    )
    assert ran.returncode == 0, ran.stderr
    told = [json.loads(line) for line in ran.stderr.splitlines()]
    assert [line["event"] for line in told] == ["Redis is away", "and again"]
    [run_id] = {line["correlation_id"] for line in told}
    assert run_id


def test_lines_about_a_request_carry_its_correlation(lines: Lines) -> None:
    """The client's own, or the one that it gets back."""
    application = bootstrap(Settings(database_url="memory:"))
    client = create_app(application).test_client()
    client.get("/health/live", headers={"X-Correlation-Id": "mine-1"})
    answer = client.post("/v1/batches", json={"ref": "b1", "sku": "RED-CHAIR", "qty": 1, "eta": None})

    def away() -> None:
        raise Unavailable("the database is away")

    application.views.ready = away  # type: ignore[method-assign]  # as if the database were away
    failed = client.get("/health/ready", headers={"X-Correlation-Id": "mine-2"})
    assert failed.status_code == 503
    told = {str(line["event"]).partition(" {")[0]: line["correlation_id"] for line in lines.read}
    assert told["GET /health/live"] == "mine-1"
    assert told["POST /v1/batches"] == answer.headers["X-Correlation-Id"]
    assert told["Unavailable: the database is away"] == "mine-2"


def test_a_refused_delivery_is_logged_under_the_correlation_of_what_led_to_it(lines: Lines) -> None:
    """Each event under its own, though they come by one page."""

    class Refusing(Notifications):
        def send(self, destination: str, subject: str, body: str, message_id: str) -> None:
            logging.getLogger("mail").info("sending: %s", subject)
            raise Rejected("no such user")

    application = bootstrap(Settings(database_url="memory:"), notifications=Refusing())
    application.worker.start()
    bus = application.bus
    for sku in ("RED-CHAIR", "SMALL-TABLE"):
        bus.handle(CreateBatch(f"b-{sku}", sku, 1))
    bus.handle_many(
        [
            bus.envelope(Allocate("o1", "RED-CHAIR", 2), correlation_id="order-desk-7"),
            bus.envelope(Allocate("o1", "SMALL-TABLE", 2), correlation_id="web-shop-8"),
        ]
    )
    wait_until(lambda: len(application.subscriptions.lanes()) == 2)
    application.close()
    told = [(line["correlation_id"], str(line["event"])) for line in lines.read]
    for sku, correlation_id in (("RED-CHAIR", "order-desk-7"), ("SMALL-TABLE", "web-shop-8")):
        assert (correlation_id, f"sending: Out of stock: {sku}") in told
        [refused] = [(c, event) for c, event in told if f"of {sku} was refused" in event]
        assert refused[0] == correlation_id
        assert "no such user" in refused[1]


def test_no_line_is_without_a_correlation(lines: Lines) -> None:
    application = bootstrap(Settings(database_url="memory:"))
    application.worker.start()
    application.bus.handle(CreateBatch("b1", "RED-CHAIR", 1))
    application.close()
    logging.getLogger("x").exception("outside", exc_info=ValueError("what"))
    assert all(line["correlation_id"] for line in lines.read)
    assert "ValueError: what" in str(lines.read[-1]["exception"])


def test_for_people_a_line_is_a_sentence_with_its_correlation() -> None:
    with logged("info", "text") as lines:
        logging.getLogger("allocation.x").debug("not shown")
        logging.getLogger("allocation.x").warning("%s is away", "Redis")
    [line] = lines.text
    assert "Redis is away" in line
    assert "warning" in line
    assert f"correlation_id={RUN}" in line
