"""What Prometheus is told: what was counted, and what the store says."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

import allocation
from allocation.adapters.telemetry.exposition import tell_on_port
from allocation.adapters.telemetry.metrics import PrometheusMeter
from allocation.bootstrap import Application, bootstrap
from allocation.config import Settings
from allocation.domain.commands import Allocate, CreateBatch, IfShort
from allocation.entrypoints.flask_app import create_app
from allocation.service_layer.errors import Conflict, Rejected, SetupError, Unavailable
from allocation.service_layer.observing import Telemetry
from allocation.service_layer.ports import Notifications
from allocation.views import READ_MODELS
from tests.e2e.conforming import ConformingClient
from tests.e2e.service import Service, ask
from tests.integration.damage import execute
from tests.patience import wait_until
from tests.servers.process import LOOPBACK, free_port

CHAIR, MAIL = "RED-CHAIR", "send_out_of_stock_notification"
Figures = dict[tuple[str, frozenset[str]], float]


def figures_of(text: str) -> Figures:
    """Each sample by its name and the values of its labels."""
    return {
        (sample.name, frozenset(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


class Refusing(Notifications):
    def send(self, destination: str, subject: str, body: str, message_id: str) -> None:
        raise Rejected("no such user")


@pytest.fixture
def application(database_url: str) -> Iterator[Application]:
    telemetry = Telemetry(PrometheusMeter())
    built = bootstrap(Settings(database_url=database_url), notifications=Refusing(), telemetry=telemetry)
    yield built
    built.close()


def told(client: ConformingClient) -> Figures:
    answer = client.get("/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain")
    return figures_of(answer.text)


def test_commands_are_counted_by_what_became_of_them(application: Application, client: ConformingClient) -> None:
    bus = application.bus
    bus.handle_many([bus.envelope(CreateBatch("b1", CHAIR, 10)), bus.envelope(Allocate("o1", CHAIR, 6))])
    for _ in range(2):
        bus.ask(bus.envelope(Allocate("o2", CHAIR, 2), "key-1"))
    bus.ask(bus.envelope(Allocate("o1", CHAIR, 6)))
    bus.ask(bus.envelope(Allocate("o3", CHAIR, 99, IfShort.REFUSE)))
    found = told(client)
    counted = {labels: value for (name, labels), value in found.items() if name == "allocation_commands_total"}
    assert counted == {
        frozenset({"CreateBatch", "changed", ""}): 1,
        frozenset({"Allocate", "changed", ""}): 2,
        frozenset({"Allocate", "repeated", ""}): 1,
        frozenset({"Allocate", "unchanged", ""}): 1,
        frozenset({"Allocate", "refused", "NotEnoughStock"}): 1,
    }
    assert found["allocation_group_size_count", frozenset()] == 5
    assert found["allocation_group_size_sum", frozenset()] == 6
    assert found["allocation_group_seconds_count", frozenset()] == 5


def test_what_fails_and_what_is_tried_again_is_counted() -> None:
    failures: list[Exception] = [Conflict("lost"), Conflict("lost again")]

    def fails(command: CreateBatch, uow: object) -> None:
        raise failures.pop(0) if failures else RuntimeError("a defect")

    telemetry = Telemetry(PrometheusMeter())
    shop = bootstrap(Settings(database_url="memory:"), handlers={CreateBatch: fails}, telemetry=telemetry)
    assert isinstance(shop.bus.ask(shop.bus.envelope(CreateBatch("b1", CHAIR, 1))).error, RuntimeError)
    failures += [Unavailable("away")]
    with pytest.raises(Unavailable):
        shop.bus.ask(shop.bus.envelope(CreateBatch("b1", CHAIR, 1)))
    found = told(ConformingClient(create_app(shop).test_client()))
    assert found["allocation_retries_total", frozenset({"conflict"})] == 2
    assert found["allocation_commands_total", frozenset({"CreateBatch", "failed", "RuntimeError"})] == 1
    assert found["allocation_commands_total", frozenset({"CreateBatch", "failed", "Unavailable"})] == 1


def test_lags_and_lanes_are_told_as_the_store_has_them(application: Application, client: ConformingClient) -> None:
    application.worker.start()
    application.bus.handle(CreateBatch("b1", CHAIR, 1))
    application.bus.handle(Allocate("o1", CHAIR, 2))
    wait_until(application.subscriptions.lanes)
    found = told(client)
    assert found["allocation_lanes", frozenset({MAIL, "retrying"})] == 1
    assert found["allocation_deliveries_total", frozenset({MAIL, "refused"})] == 1
    assert found["allocation_store_up", frozenset()] == 1
    wait_until(lambda: not any(c.lag_events for c in application.subscriptions.cursors()))
    assert told(client)["allocation_subscription_lag_events", frozenset({MAIL, "0"})] == 0


def test_a_subscription_that_stands_still_lags_by_events_and_by_time(
    application: Application, client: ConformingClient
) -> None:
    application.bus.handle(CreateBatch("b1", CHAIR, 1))
    application.subscriptions.join("nobody_delivers", True)
    found = told(client)
    assert found["allocation_subscription_lag_events", frozenset({"nobody_delivers", "0"})] == 1
    assert found["allocation_subscription_lag_seconds", frozenset({"nobody_delivers", "0"})] > 0


def test_the_self_audit_is_told(application: Application, client: ConformingClient) -> None:
    assert ("allocation_audit_differences", frozenset()) not in told(client)
    application.bus.handle(CreateBatch("b1", CHAIR, 1))
    while application.audits.read().last is None:
        application.self_audit.step()
    found = told(client)
    assert found["allocation_audit_differences", frozenset()] == 0
    assert found["allocation_audit_events", frozenset()] == 1
    assert found["allocation_audit_ended_timestamp_seconds", frozenset()] > 0


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_a_lag_is_told_whether_or_not_its_event_can_be_read(kind: str, request: pytest.FixtureRequest) -> None:
    """While a newer program writes beside this one, its worker stops right before such an event."""
    with metered(request.getfixturevalue(f"{kind}_url")) as application:
        application.subscriptions.join("nobody_delivers", True)
        application.bus.handle(CreateBatch("b1", CHAIR, 1))
        execute(application.settings.database_url, "UPDATE event_log SET schema_version = 2")
        found = told(ConformingClient(create_app(application).test_client()))
        assert found["allocation_store_up", frozenset()] == 1
        assert found["allocation_subscription_lag_events", frozenset({"nobody_delivers", "0"})] == 1
        assert found["allocation_subscription_lag_seconds", frozenset({"nobody_delivers", "0"})] > 0


def test_what_cannot_be_told_is_left_out_and_the_rest_is_told(
    application: Application,
    client: ConformingClient,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fails(*_: object) -> None:
        raise LookupError("a lane that nobody can read")

    application.bus.handle(CreateBatch("b1", CHAIR, 1))
    monkeypatch.setattr(type(application.subscriptions), "lanes", fails)
    found = told(client)
    assert found["allocation_store_up", frozenset()] == 1
    assert found["allocation_read_model_lag_events", frozenset({"stock"})] == 0
    assert ("allocation_dead_letters", frozenset()) not in found
    assert "a lane that nobody can read" in caplog.text


@contextmanager
def metered(url: str) -> Iterator[Application]:
    built = bootstrap(Settings(database_url=url), telemetry=Telemetry(PrometheusMeter()))
    yield built
    built.close()


def test_without_a_store_the_counts_are_told_all_the_same(
    application: Application, client: ConformingClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise Unavailable("the database is away")

    application.bus.handle(CreateBatch("b1", CHAIR, 1))
    monkeypatch.setattr(type(application.subscriptions), "cursors", away)
    found = told(client)
    assert found["allocation_store_up", frozenset()] == 0
    assert found["allocation_commands_total", frozenset({"CreateBatch", "changed", ""})] == 1


def test_a_cache_is_told() -> None:
    settings = Settings(database_url="memory:", cache="memory")
    application = bootstrap(settings, telemetry=Telemetry(PrometheusMeter()))
    application.bus.handle(CreateBatch("b1", CHAIR, 1))
    for _ in range(3):
        application.views.product(CHAIR)
    found = told(ConformingClient(create_app(application).test_client()))
    counters = application.cache_counters
    names = {"hit": counters.hits, "miss": counters.misses, "bypassed": counters.bypassed}
    assert sum(names.values()) == 3
    for name, value in names.items():
        assert found.get(("allocation_cache_reads_total", frozenset({name})), 0) == value


def test_whichever_process_is_asked_tells_the_sum_of_all(postgres_url: str) -> None:
    """Requests on connections of their own, so that each process gets some; the sum is told on every one of them."""
    connections = 24
    with Service(postgres_url, workers=2) as service:
        open_ = [http.client.HTTPConnection(LOOPBACK, service.port, timeout=60) for _ in range(connections)]
        for n, connection in enumerate(open_):
            status, _ = ask(
                connection, "POST", "/v1/batches", {"ref": f"b{n}", "sku": f"CHAIR-{n}", "qty": 5, "eta": None}
            )
            assert status == 201
        for connection in open_:
            found = figures_of(text_on(connection, "/metrics"))
            assert found["allocation_commands_total", frozenset({"CreateBatch", "changed", ""})] == connections
            assert found["allocation_group_size_sum", frozenset()] == connections
            connection.close()


def test_what_a_killed_process_counted_is_not_lost(postgres_url: str) -> None:
    with Service(postgres_url, workers=2) as service:
        for n in range(10):
            body = {"ref": f"b{n}", "sku": f"CHAIR-{n}", "qty": 5, "eta": None}
            assert service.ask("POST", "/v1/batches", body)[0] == 201
        killed = service.kill_workers()
        assert killed == 2
        wait_until(service.is_ready)
        connection = http.client.HTTPConnection(LOOPBACK, service.port, timeout=60)
        found = figures_of(text_on(connection, "/metrics"))
        connection.close()
    assert found["allocation_commands_total", frozenset({"CreateBatch", "changed", ""})] == 10


def text_on(connection: http.client.HTTPConnection, path: str) -> str:
    connection.request("GET", path)
    response = connection.getresponse()
    assert response.status == 200
    return response.read().decode()


def test_a_worker_tells_its_metrics_on_a_port_of_its_own(postgres_url: str) -> None:
    bootstrap(Settings(database_url=postgres_url)).close()
    port = free_port()
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(allocation.__file__).parents[1]),
        "ALLOCATION_DATABASE_URL": postgres_url,
        "ALLOCATION_METRICS_PORT": str(port),
    }
    command = [sys.executable, "-m", "allocation.entrypoints.cli", "worker"]
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as worker:
        try:
            wait_until(lambda: worker.poll() is not None or listens(port))
            connection = http.client.HTTPConnection(LOOPBACK, port, timeout=60)
            found = figures_of(text_on(connection, "/metrics"))
            connection.close()
        finally:
            worker.terminate()
    assert found["allocation_store_up", frozenset()] == 1


def listens(port: int) -> bool:
    with socket.socket() as asking:
        return asking.connect_ex((LOOPBACK, port)) == 0


def test_a_port_that_is_taken_is_told_with_what_to_do(application: Application) -> None:
    with socket.socket() as other:
        other.bind((LOOPBACK, 0))
        other.listen()
        taken = other.getsockname()[1]
        with pytest.raises(SetupError, match=rf"metrics on {LOOPBACK}:{taken}.*ALLOCATION_METRICS_PORT"):
            tell_on_port(LOOPBACK, taken, application)


def test_each_read_model_has_its_lag(database_url: str) -> None:
    """One that a subscription keeps, that of the subscription; one that is written with the log, none."""
    built = bootstrap(Settings(database_url=database_url), telemetry=Telemetry(PrometheusMeter()))
    built.bus.handle(CreateBatch("b1", CHAIR, 1))
    for name in built.worker.names():
        built.subscriptions.join(name, True)
    client = ConformingClient(create_app(built).test_client())
    behind = {"stock", "movements", "snapshots"}
    for name in READ_MODELS:
        assert told(client)["allocation_read_model_lag_events", frozenset({name})] == (name in behind)
        assert (told(client)["allocation_read_model_lag_seconds", frozenset({name})] > 0) == (name in behind)
    built.worker.start()
    wait_until(lambda: not any(c.lag_events for c in built.subscriptions.cursors()))
    assert {told(client)["allocation_read_model_lag_events", frozenset({name})] for name in READ_MODELS} == {0}
    built.close()


def test_a_read_model_behind_a_cache_lags_by_the_caches_keeper() -> None:
    built = bootstrap(Settings(database_url="memory:", cache="memory"))
    built.bus.handle(CreateBatch("b1", CHAIR, 1))
    built.subscriptions.join("keep_cache", True)
    found = told(ConformingClient(create_app(built).test_client()))
    lags = {name: found["allocation_read_model_lag_events", frozenset({name})] for name in READ_MODELS}
    assert {name for name, lag in lags.items() if lag} == {"orders", "products", "availability", "waiting_lines"}


def test_where_no_cache_is_set_any_more_nothing_lags_by_the_keeper_there_was(database_url: str) -> None:
    built = bootstrap(Settings(database_url=database_url))
    built.subscriptions.join("keep_cache", True)
    built.bus.handle(CreateBatch("b1", CHAIR, 1))
    found = told(ConformingClient(create_app(built).test_client()))
    assert found["allocation_subscription_lag_events", frozenset({"keep_cache", "0"})] == 1
    for name in ("orders", "products", "availability", "waiting_lines"):
        assert found["allocation_read_model_lag_events", frozenset({name})] == 0
        assert found["allocation_read_model_lag_seconds", frozenset({name})] == 0
    built.close()


def test_every_projection_is_a_read_model_that_is_told(database_url: str) -> None:
    """Whoever adds one adds its lag."""
    projections = {s.name for s in bootstrap(Settings(database_url="memory:")).worker.subscriptions}
    kept = {name for name in projections if not name.startswith(("publish", "send"))}
    assert kept == set(READ_MODELS.values()) - {"", "keep_cache"}


def test_messages_that_nobody_could_handle_are_counted(application: Application, client: ConformingClient) -> None:
    assert told(client)["allocation_dead_letters", frozenset()] == 0
    application.dead_letters.keep("redis x", b"{", "not JSON")
    assert told(client)["allocation_dead_letters", frozenset()] == 1
