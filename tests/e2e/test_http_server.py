"""The served application over real sockets: what test clients cannot send, and how it starts and ends."""

import http.client
import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from allocation.config import Settings
from allocation.entrypoints.server import LONGEST_GOODBYE_SECONDS, _hear_the_end, workers_for
from allocation.service_layer.errors import SetupError
from tests.e2e.service import PATIENCE_SECONDS, Service, WorkerProcess, ask
from tests.servers.process import LOOPBACK

LINE = b'{"orderid": "order-1", "sku": "RED-CHIAR", "qty": 1}'
BATCH = {"ref": "batch-1", "sku": "RED-CHAIR", "qty": 1_000_000, "eta": None}
LIMIT_BYTES = 10_000
CLIENTS = 16


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with Service("memory:", body_limit_bytes=LIMIT_BYTES) as service:
        yield service


def head(*headers: str) -> bytes:
    first = ("POST /v1/allocations HTTP/1.1", "Host: shop", "Content-Type: application/json")
    return "\r\n".join((*first, *headers, "", "")).encode()


def chunked(*chunks: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in (*chunks, b""))


def answer_to(service: Service, *sent: bytes, half_close: bool = False) -> tuple[int, dict[str, object]]:
    with socket.create_connection((LOOPBACK, service.port), timeout=PATIENCE_SECONDS) as connection:
        for piece in sent:
            connection.sendall(piece)
        if half_close:
            connection.shutdown(socket.SHUT_WR)
        response = http.client.HTTPResponse(connection)
        response.begin()
        assert response.headers["Content-Type"] == "application/problem+json"
        return response.status, json.loads(response.read())


def test_without_a_worker_it_says_that_nothing_is_delivered(postgres_url: str) -> None:
    never = "no `allocation worker` has run on this database yet"
    with Service(postgres_url, workers=1) as before:
        assert before.words().count(never) == 1
    with WorkerProcess(postgres_url), Service(postgres_url, workers=1) as beside:
        assert never not in beside.words()


def test_a_chunked_body_is_read(service: Service) -> None:
    assert answer_to(service, head("Transfer-Encoding: chunked"), chunked(LINE[:9], LINE[9:]))[0] == 404


@pytest.mark.parametrize("size", [LIMIT_BYTES + 1, 20 * LIMIT_BYTES])
def test_a_chunked_body_over_the_limit_is_413(service: Service, size: int) -> None:
    body = chunked(*[b" " * 1000] * (size // 1000), b" " * (size % 1000 or 1))
    assert answer_to(service, head("Transfer-Encoding: chunked"), body)[0] == 413


def test_a_body_that_says_it_is_over_the_limit_is_413(service: Service) -> None:
    body = b" " * (LIMIT_BYTES + 1)
    assert answer_to(service, head(f"Content-Length: {len(body)}"), body)[0] == 413
    assert answer_to(service, head("Content-Length: 1000000000", "Expect: 100-continue"))[0] == 413


def test_a_body_that_ends_early_is_400(service: Service) -> None:
    answer = answer_to(service, head(f"Content-Length: {len(LINE) + 1}"), LINE, half_close=True)
    assert answer[0] == 400
    assert "ended after" in str(answer[1]["detail"])


SENT_BADLY = {
    "gzip": (415, b"\x1f\x8b\x08\x00junk", ["Content-Encoding: gzip"]),
    "UTF-16": (400, LINE.decode().encode("utf-16"), []),
    "100,000-deep array": (413, b"[" * 100_000, []),
    "5,000-deep array": (400, b"[" * 5_000, []),
    "a 5,000-digit integer": (400, b'{"qty": ' + b"9" * 5_000 + b"}", []),
    "NUL in an id": (422, LINE.replace(b"order-1", b"\\u0000"), []),
    "no body": (400, b"", []),
    "an empty key": (400, LINE, ["Idempotency-Key:"]),
    "a key of 256 characters": (400, LINE, [f"Idempotency-Key: {'k' * 256}"]),
}


@pytest.mark.parametrize("name", SENT_BADLY)
def test_what_is_sent_badly_is_refused_and_the_service_goes_on(service: Service, name: str) -> None:
    status, body, headers = SENT_BADLY[name]
    assert answer_to(service, head(f"Content-Length: {len(body)}", *headers), body)[0] == status
    assert service.ask("GET", "/health/live")[0] == 200


def test_a_100_000_deep_array_is_400_where_it_fits() -> None:
    with Service("memory:") as roomy:
        body = b"[" * 100_000
        assert answer_to(roomy, head(f"Content-Length: {len(body)}"), body)[0] == 400
        assert roomy.ask("GET", "/health/live")[0] == 200


def test_one_connection_takes_one_request_after_another_refused_ones_too(service: Service) -> None:
    connection = http.client.HTTPConnection(LOOPBACK, service.port, timeout=PATIENCE_SECONDS)
    connection.connect()
    first = connection.sock
    statuses = [ask(connection, "POST", "/v1/allocations", body)[0] for body in ([], json.loads(LINE), {"qty": 0})]
    assert statuses == [422, 404, 422]
    assert connection.sock is first
    connection.close()


class Shopper(threading.Thread):
    """Allocates line after line on one connection until the service goes away; keeps what it was told."""

    def __init__(self, service: Service, number: int, enough: threading.Event) -> None:
        super().__init__()
        self.service, self.number, self.enough = service, number, enough
        self.answered: set[str] = set()
        self.unanswered: set[str] = set()
        self.refused: list[object] = []

    def run(self) -> None:
        connection = http.client.HTTPConnection(LOOPBACK, self.service.port, timeout=PATIENCE_SECONDS)
        connection.auto_open = 0  # a second connection would be another story
        connection.connect()
        for n in range(1_000_000):
            orderid = f"order-{self.number}-{n}"
            try:
                line = {"orderid": orderid, "sku": "RED-CHAIR", "qty": 1}
                status, content = ask(connection, "POST", "/v1/allocations", line)
            except (OSError, http.client.HTTPException):
                self.unanswered.add(orderid)
                return
            if status != http.client.CREATED:
                self.refused.append((status, content))
            self.answered.add(orderid)
            if len(self.answered) == 20:
                self.enough.set()
            if connection.sock is None:  # the service said that this was the last answer here
                return


def test_sigterm_under_load_loses_no_answer(sqlite_url: str) -> None:
    with Service(sqlite_url) as service:
        assert service.ask("POST", "/v1/batches", BATCH)[0] == 201
        shoppers = [Shopper(service, n, threading.Event()) for n in range(CLIENTS)]
        for shopper in shoppers:
            shopper.start()
        assert all(shopper.enough.wait(PATIENCE_SECONDS) for shopper in shoppers)
        assert service._process is not None
        service._process.send_signal(signal.SIGTERM)
        assert service._process.wait(PATIENCE_SECONDS) == 0
        for shopper in shoppers:
            shopper.join(PATIENCE_SECONDS)
        answered = set().union(*(shopper.answered for shopper in shoppers))
        service.start()
        recorded = orders_in_the_log(service)
        assert [shopper.refused for shopper in shoppers] == [[]] * CLIENTS
        assert recorded - answered == set(), "done, and not told"
        assert answered - recorded == set(), "told, and not done"


def test_sigterm_closes_the_store(sqlite_url: str) -> None:
    database = Path(sqlite_url.removeprefix("sqlite:///"))
    with Service(sqlite_url) as service:
        assert service.ask("POST", "/v1/batches", BATCH)[0] == 201
        assert database.with_name(f"{database.name}-wal").exists()
        service.stop()
        assert [path.name for path in database.parent.glob("*.db*")] == [database.name]


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="looks for processes in /proc, which is Linux")
def test_ctrl_c_which_every_process_of_a_terminal_hears_is_left_to_the_one_that_watches() -> None:
    with Service("memory:") as service:
        assert service._process is not None
        (worker,) = processes_of(service) - {service._process.pid}
        assert is_blocked(signal.SIGINT, worker), "told twice to end, it may wait for itself"
        begin = time.monotonic()
        os.killpg(service._process.pid, signal.SIGINT)
        assert service._process.wait(PATIENCE_SECONDS) == 0
        assert time.monotonic() - begin < LONGEST_GOODBYE_SECONDS
        assert service.words() == ""


def test_who_listens_for_the_end_is_told_of_it_however_often(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[int] = []
    monkeypatch.setattr(signal, "set_wakeup_fd", lambda descriptor, **_: told.append(descriptor))
    heard = threading.Semaphore(0)
    _hear_the_end(heard.release)
    for _ in range(2):
        os.write(told[0], bytes([signal.SIGTERM]))
        assert heard.acquire(timeout=PATIENCE_SECONDS)


def is_blocked(number: signal.Signals, pid: int) -> bool:
    """Whether a process leaves a signal pending, by Linux's /proc."""
    lines = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line)
    return bool(int(lines["SigBlk"], 16) >> (number - 1) & 1)


def orders_in_the_log(service: Service) -> set[str]:
    found: set[str] = set()
    after = ""
    while events := (page := service.ask("GET", f"/v1/events?limit=1000{after}")[1])["events"]:
        found |= {event["data"]["orderid"] for event in events if event["type"] == "allocation.Allocated"}
        after = f"&after={page['next']}"
    return found


def processes_of(service: Service) -> set[int]:
    """Those in the session of the service, read from Linux's /proc."""
    assert service._process is not None
    session = service._process.pid
    found = set()
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                if os.getsid(int(entry)) == session:
                    found.add(int(entry))
            except ProcessLookupError:
                continue
    return found


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="looks for processes in /proc, which is Linux")
def test_if_the_watching_process_is_killed_its_workers_end_and_the_service_can_start_again(
    sqlite_url: str,
) -> None:
    with Service(sqlite_url, workers=2) as service:
        assert service.ask("POST", "/v1/batches", BATCH)[0] == 201
        family = processes_of(service)
        assert len(family) == 3
        assert service._process is not None
        service._process.kill()
        service._process.wait(PATIENCE_SECONDS)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while any(os.path.exists(f"/proc/{pid}") for pid in family):
            assert time.monotonic() < deadline, "workers outlive the one who watches over them"
            time.sleep(0.01)
        service.start()
        assert service.ask("GET", "/v1/batches/batch-1")[0] == 200


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="looks for processes in /proc, which is Linux")
def test_a_worker_that_is_killed_is_replaced(sqlite_url: str) -> None:
    with Service(sqlite_url) as service:
        assert service.ask("POST", "/v1/batches", BATCH)[0] == 201
        assert service._process is not None
        (worker,) = processes_of(service) - {service._process.pid}
        os.kill(worker, signal.SIGKILL)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not service.is_ready():
            assert time.monotonic() < deadline, "nobody took its place"
            time.sleep(0.01)
        assert service.ask("GET", "/v1/batches/batch-1")[0] == 200
        assert worker not in processes_of(service)


def test_a_second_service_on_the_same_port_does_not_start(service: Service) -> None:
    second = subprocess.run(
        service.command(),
        env=service.environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert second.returncode != 0
    assert f"Cannot listen on 127.0.0.1:{service.port}" in second.stderr


def test_a_host_may_be_named() -> None:
    with Service("memory:", host="localhost") as service:
        assert service.ask("GET", "/health/live")[0] == http.HTTPStatus.OK


def test_traces_that_nothing_here_can_export_stop_the_start_with_a_sentence(service: Service, tmp_path: Path) -> None:
    (tmp_path / "opentelemetry").mkdir()
    (tmp_path / "opentelemetry" / "__init__.py").write_text(
        "raise ModuleNotFoundError(\"No module named 'opentelemetry'\", name='opentelemetry')"
    )
    environment = service.environment() | {
        "ALLOCATION_PORT": "0",
        "ALLOCATION_LOG_LEVEL": "info",
        "ALLOCATION_TRACES_TO": "http://127.0.0.1:1/v1/traces",
    }
    environment["PYTHONPATH"] = f"{tmp_path}{os.pathsep}{environment['PYTHONPATH']}"
    ended = subprocess.run(
        service.command(), env=environment, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
    )
    sentence = "Error: ALLOCATION_TRACES_TO is set, but no exporter is installed: pip install 'allocation[otel]'\n"
    assert (ended.returncode, ended.stderr) == (1, sentence)


@pytest.mark.parametrize(
    ("url", "workers", "chosen"),
    [
        ("memory:", 0, 1),
        ("sqlite:///shop.db", 0, 1),
        ("sqlite:///shop.db", 2, 2),
        ("postgresql://shop@db/shop", 0, min(os.cpu_count() or 1, 4)),
        ("postgresql+psycopg://shop@db/shop", 3, 3),
    ],
)
def test_workers_are_chosen_by_the_database(url: str, workers: int, chosen: int) -> None:
    assert workers_for(Settings(database_url=url, workers=workers)) == chosen


def test_memory_lives_in_one_process() -> None:
    with pytest.raises(SetupError, match="one process"):
        workers_for(Settings(database_url="memory:", workers=2))
