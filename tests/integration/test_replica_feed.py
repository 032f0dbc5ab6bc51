"""The replica's client of the event feed: it ends, whatever is at the other end."""

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Thread

import pytest

from allocation.replica import AnotherLog, FeedUnavailable, HttpFeed
from tests.servers.process import LOOPBACK, free_port

EVENT = {"id": "e-1"}


@contextmanager
def answering(answer: Callable[[socket.socket], None]) -> Iterator[tuple[str, list[str]]]:
    """A server that reads one request and answers as it likes: its address, and the first line of what it was asked."""
    asked: list[str] = []
    with socket.create_server((LOOPBACK, 0)) as listening:

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                asked.append(connection.recv(65_536).decode().partition("\r\n")[0])
                try:
                    answer(connection)
                except OSError:
                    asked.append("hung up")

        thread = Thread(target=serve)
        thread.start()
        yield f"http://{LOOPBACK}:{listening.getsockname()[1]}", asked
        thread.join()


def whole(body: bytes, status: str = "200 OK") -> Callable[[socket.socket], None]:
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return lambda connection: connection.sendall(head.encode() + body)


def page(*events: object) -> Callable[[socket.socket], None]:
    return whole(json.dumps({"events": events, "next": "x"}).encode())


def test_it_asks_behind_a_version() -> None:
    with answering(page(EVENT)) as (url, asked):
        assert HttpFeed(url + "/").behind_version("RED&CHAIR", 7, 20) == [EVENT]
    assert asked == ["GET /v1/events?sku=RED%26CHAIR&after_version=7&limit=20 HTTP/1.1"]


@pytest.mark.parametrize(
    ("positions", "query"), [({}, "limit=9"), ({1: 4, 0: 17}, "limit=9&after=0-17.1-4"), ({0: 0}, "limit=9&after=0-0")]
)
def test_it_asks_behind_positions(positions: dict[int, int], query: str) -> None:
    with answering(page()) as (url, asked):
        assert HttpFeed(url).behind(positions, 9) == []
    assert asked == [f"GET /v1/events?{query} HTTP/1.1"]


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (whole(b'{"detail": "after is wrong"}', "422 Unprocessable Content"), "422.*after is wrong"),
        (whole(b"", "503 Service Unavailable"), "503"),
        (whole(b"<html>"), "does not answer"),
        (whole(b"[1]"), "does not answer"),
        (whole(b'{"events": 5}'), "list of events"),
        (whole(b'{"events": [5]}'), "list of events"),
        (whole(b'{"events": "\xff"}'), "does not answer"),
        (whole(b"[" * 100_000), "does not answer"),
        (lambda connection: connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"), "does not answer"),
        (lambda connection: connection.sendall(b"SSH-2.0\r\n\r\n"), "does not answer"),
        (lambda connection: None, "does not answer"),
    ],
)
def test_what_is_no_answer_of_a_feed_is_a_feed_that_is_away(answer: Callable[[socket.socket], None], told: str) -> None:
    with answering(answer) as (url, _), pytest.raises(FeedUnavailable, match=told):
        HttpFeed(url, timeout_seconds=2).behind({}, 10)


@pytest.mark.parametrize("path", ["/docs", "https://shop.example/docs"])
def test_a_log_that_does_not_reach_so_far_is_another_log(path: str) -> None:
    problem = {"type": f"{path}#problem-unknown-position", "detail": "The log has no position 0-50"}
    with (
        answering(whole(json.dumps(problem).encode(), "422 Unprocessable Content")) as (url, _),
        pytest.raises(AnotherLog, match=r"rebuilt from scratch.*no position 0-50"),
    ):
        HttpFeed(url).behind({0: 50}, 10)


def test_nobody_listens() -> None:
    with pytest.raises(FeedUnavailable):
        HttpFeed(f"http://{LOOPBACK}:{free_port()}").behind({}, 10)


def test_an_answer_without_end_is_cut_off() -> None:
    def flood(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            connection.sendall(b" " * 65_536)

    with answering(flood) as (url, asked), pytest.raises(FeedUnavailable, match="more than 1,000,000 bytes"):
        HttpFeed(url, most_bytes=1_000_000).behind({}, 10)
    assert asked[1:] == ["hung up"]


@pytest.mark.parametrize(
    ("begins", "told"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", "TimeoutError"),
        (b"HTTP/1.1 200 OK\r\nSlow:", "TimeoutError"),
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\n", "503"),
    ],
)
def test_an_answer_a_drop_at_a_time_is_given_up(begins: bytes, told: str) -> None:
    def drip(connection: socket.socket) -> None:
        connection.sendall(begins)
        for _ in range(400):  # not for ever, so that a reader that waits for the end fails, and does not hang
            connection.sendall(b" ")
            time.sleep(0.01)  # this is the fault: a server that is slow

    with answering(drip) as (url, asked), pytest.raises(FeedUnavailable, match=told):
        HttpFeed(url, timeout_seconds=0.2).behind({}, 10)
    assert asked[1:] == ["hung up"]


def test_a_refusal_whose_reason_does_not_come_is_a_refusal() -> None:
    def refuse(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 100\r\n\r\n{")
        connection.recv(1)  # until the other side hangs up

    with answering(refuse) as (url, _), pytest.raises(FeedUnavailable, match="503"):
        HttpFeed(url, timeout_seconds=0.2).behind({}, 10)


def test_an_address_that_is_none_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="http://"):
        HttpFeed("file:///etc/passwd")
