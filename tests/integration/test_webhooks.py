"""Webhooks, against a receiver that fails, is slow, redirects, is gone, or is somewhere it should not be."""

import ssl
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from threading import Event
from time import monotonic

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from allocation.adapters.addresses import Reachable
from allocation.adapters.clock import SystemClock, SystemTimer
from allocation.adapters.cloudevents import structured
from allocation.adapters.guarded import MOST_ANSWER_BYTES, Guarded, Lookup, look_up
from allocation.adapters.webhooks import Webhooks
from allocation.service_layer.broker import Message
from allocation.service_layer.envelope import Clock
from allocation.service_layer.errors import Busy, Gone, Rejected, RejectedForGood, Unavailable
from allocation.service_layer.pushing import BadSink, Sink
from allocation.service_layer.waiting import Timer
from tests.fakes import NOON, SetClock, SetTimer
from tests.servers.process import LOOPBACK, free_port
from tests.servers.webhook import Reply, WebhookReceiver, certificate_for

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER_SECRET = "whsec_dGhpcyBpcyBhbm90aGVyIHNlY3JldCBvZiBvdXJz"
CHAIR, TABLE, LAMP = "RED-CHAIR", "SMALL-TABLE", "TALL-LAMP"
ORIGIN = "shop.example.com"


def webhooks(
    allowed: str = LOOPBACK,
    lookup: Lookup = look_up,
    tls: ssl.SSLContext | None = None,
    clock: Clock | None = None,
    timer: Timer | None = None,
) -> Webhooks:
    reachable, timer = Reachable.of(allowed), timer or SystemTimer()
    http = Guarded(reachable.securely, reachable.plainly, timer, tls, lookup)
    return Webhooks(http, clock or SystemClock(), timer, ORIGIN, has_plain_http=bool(reachable.networks))


@pytest.fixture
def push() -> Iterator[Webhooks]:
    made = webhooks()
    yield made
    made.close()


@pytest.fixture
def receiver() -> Iterator[WebhookReceiver]:
    with WebhookReceiver() as made:
        yield made


def event(key: str = CHAIR, number: int = 1) -> Message:
    return Message(f"{key}-{number}", "allocation.Tested", key, NOON, {"number": number}, number, {"schemaversion": 1})


def sink(receiver: WebhookReceiver, **chosen: object) -> Sink:
    return Sink(receiver.url, SECRET, **chosen)  # type: ignore[arg-type]  # a test's choice


def kinds(outcomes: Sequence[Exception | None]) -> list[type]:
    return [type(outcome) for outcome in outcomes]


# What is said, and that it is signed


def test_an_event_comes_signed_in_structured_mode(push: Webhooks, receiver: WebhookReceiver) -> None:
    assert push.push(sink(receiver), [event()]) == [None]
    [request] = receiver.posts()
    told = Webhook(SECRET).verify(request.body, dict(request.headers))
    assert told["id"] == f"{CHAIR}-1" == request.headers["webhook-id"]
    assert (told["type"], told["subject"], told["data"]) == ("allocation.Tested", CHAIR, {"number": 1})
    assert request.headers["content-type"] == "application/cloudevents+json"
    with pytest.raises(WebhookVerificationError):
        Webhook(OTHER_SECRET).verify(request.body, dict(request.headers))
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(request.body + b" ", dict(request.headers))


def test_several_come_as_a_batch_under_an_id_that_follows_from_theirs(
    push: Webhooks, receiver: WebhookReceiver
) -> None:
    receiver.answers_with(Reply(500))
    events = [event(CHAIR, 1), event(TABLE, 1), event(CHAIR, 2)]
    assert kinds(push.push(sink(receiver, most=10), events)) == [Rejected] * 3
    assert push.push(sink(receiver, most=10), events) == [None] * 3
    first, again = receiver.posts()
    assert [told["id"] for told in Webhook(SECRET).verify(again.body, dict(again.headers))] == [e.id for e in events]
    assert again.headers["content-type"] == "application/cloudevents-batch+json"
    assert first.headers["webhook-id"] == again.headers["webhook-id"]


def test_batches_have_their_size(push: Webhooks, receiver: WebhookReceiver) -> None:
    events = [event(f"SKU-{n}") for n in range(7)]
    assert push.push(sink(receiver, most=3), events) == [None] * 7
    assert [len(request.events()) for request in receiver.posts()] == [3, 3, 1]
    receiver.requests.clear()
    most_bytes = 3 * len(structured(events[0])) - 1
    assert push.push(sink(receiver, most=100, most_bytes=most_bytes), events) == [None] * 7
    assert [len(request.events()) for request in receiver.posts()] == [2, 2, 2, 1]


def test_while_secrets_change_it_is_signed_with_both(push: Webhooks, receiver: WebhookReceiver) -> None:
    assert push.push(Sink(receiver.url, f"{OTHER_SECRET} {SECRET}"), [event()]) == [None]
    [request] = receiver.posts()
    for secret in (SECRET, OTHER_SECRET):
        Webhook(secret).verify(request.body, dict(request.headers))


# Receivers with faults


def test_what_is_refused_for_good_holds_up_its_own_key_only(push: Webhooks, receiver: WebhookReceiver) -> None:
    receiver.answers = lambda request: Reply(400 if f'"{CHAIR}-1"'.encode() in request.body else 204)
    events = [event(TABLE), event(CHAIR, 1), event(LAMP), event(CHAIR, 2)]
    for most in (1, 10):
        receiver.requests.clear()
        outcomes = push.push(sink(receiver, most=most), events)
        assert kinds(outcomes) == [type(None), RejectedForGood, type(None), RejectedForGood]
        accepted = [
            told["id"]
            for request in receiver.posts()
            if receiver.answers(request).status == 204
            for told in request.events()
        ]
        assert accepted == [f"{TABLE}-1", f"{LAMP}-1"]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_a_failure_and_is_not_followed(push: Webhooks, receiver: WebhookReceiver, status: int) -> None:
    with WebhookReceiver() as elsewhere:
        receiver.answers_with(Reply(status, {"Location": elsewhere.url}))
        assert kinds(push.push(sink(receiver), [event()])) == [Rejected]
        assert elsewhere.requests == []


def test_after_410_nothing_more_is_sent(push: Webhooks, receiver: WebhookReceiver) -> None:
    receiver.answers_with(Reply(410))
    with pytest.raises(Gone):
        push.push(sink(receiver), [event(CHAIR), event(TABLE)])
    assert receiver.told() == [f"{CHAIR}-1"]


def test_a_slow_one_has_its_time_and_no_more(push: Webhooks, receiver: WebhookReceiver) -> None:
    done, begin = Event(), monotonic()
    receiver.answers_with(Reply(after=done))
    outcomes = push.push(sink(receiver, answer_seconds=0.3), [event(CHAIR), event(TABLE), event(CHAIR, 2)])
    assert monotonic() - begin < 2
    done.set()
    assert kinds(outcomes) == [Rejected, Busy, Busy], "and the others have their turn in the next round"
    assert push.push(sink(receiver), [event(TABLE)]) == [None]


def test_an_answer_that_trickles_in_has_no_more_time_than_another(push: Webhooks, receiver: WebhookReceiver) -> None:
    receiver.answers_with(Reply(200, trickles=True))
    begin = monotonic()
    assert kinds(push.push(sink(receiver, answer_seconds=0.3), [event()])) == [Rejected]
    assert monotonic() - begin < 2


def test_a_receiver_that_disappears_is_away_until_it_is_back(push: Webhooks, receiver: WebhookReceiver) -> None:
    assert push.push(sink(receiver), [event(CHAIR, 1)]) == [None]
    receiver.stop()
    away = push.push(sink(receiver), [event(CHAIR, 2), event(TABLE, 1)])
    assert kinds(away) in ([Unavailable] * 2, [Rejected, Unavailable]), (
        "the connection that was open broke, or none was"
    )
    receiver.start()
    assert push.push(sink(receiver), [event(CHAIR, 2), event(TABLE, 1)]) == [None] * 2
    assert receiver.told() == [f"{CHAIR}-1", f"{CHAIR}-2", f"{TABLE}-1"]


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_honoured_in_both_its_forms(receiver: WebhookReceiver, status: int) -> None:
    now = datetime(2031, 3, 1, 12, tzinfo=UTC)
    push = webhooks(clock=SetClock(now))
    then = format_datetime(now.replace(minute=5), usegmt=True)
    said = {"90": 90.0, then: 300.0, "0": 1.0, "999999999": 86_400.0}
    for words, seconds in said.items():
        receiver.answers_with(Reply(status, {"Retry-After": words}))
        [busy, rest] = push.push(sink(receiver), [event(CHAIR), event(TABLE)])
        assert isinstance(busy, Busy)
        assert busy is rest
        assert busy.retry_after_seconds == seconds
    receiver.answers_with(Reply(status, {"Retry-After": "soon"}))
    assert kinds(push.push(sink(receiver), [event()])) == [Unavailable]
    push.close()


def test_of_a_long_answer_the_beginning_is_read(push: Webhooks, receiver: WebhookReceiver) -> None:
    receiver.answers_with(Reply(500, body=b"x" * 5_000_000))
    [outcome] = push.push(sink(receiver), [event()])
    assert len(str(outcome)) < 300
    assert MOST_ANSWER_BYTES < 100_000


def test_who_is_told_to_finish_sends_what_is_on_its_way_and_no_more(push: Webhooks, receiver: WebhookReceiver) -> None:
    done = Event()
    receiver.answers_with(Reply(after=done))
    with ThreadPoolExecutor(1) as threads:
        told = threads.submit(push.push, sink(receiver), [event(CHAIR), event(TABLE)])
        assert receiver.wait_for(lambda: len(receiver.posts()) == 1)
        push.finish()
        done.set()
        assert kinds(told.result()) == [type(None), Busy]
    assert receiver.told() == [f"{CHAIR}-1"]


# Consent


@pytest.mark.parametrize(
    "answer",
    [
        Reply(200),
        Reply(200, {"WebHook-Allowed-Origin": "*"}),
        Reply(200, {"WebHook-Allowed-Rate": "*"}),
        Reply(200, {"WebHook-Allowed-Origin": "other.example.com", "WebHook-Allowed-Rate": "*"}),
        Reply(200, {"WebHook-Allowed-Origin": "*", "WebHook-Allowed-Rate": "0"}),
        Reply(405, {"WebHook-Allowed-Origin": "*", "WebHook-Allowed-Rate": "*"}),
        Reply(302, {"WebHook-Allowed-Origin": "*", "WebHook-Allowed-Rate": "*", "Location": "/elsewhere"}),
    ],
)
def test_without_consent_nothing_is_pushed(push: Webhooks, receiver: WebhookReceiver, answer: Reply) -> None:
    receiver.consents = answer
    assert kinds(push.push(sink(receiver), [event(), event(TABLE)])) == [Unavailable] * 2
    assert [request.method for request in receiver.requests] == ["OPTIONS"]


def test_consent_is_asked_for_once_and_may_be_for_our_origin(push: Webhooks, receiver: WebhookReceiver) -> None:
    receiver.consents = Reply(200, {"WebHook-Allowed-Origin": ORIGIN, "WebHook-Allowed-Rate": "120"})
    for number in range(3):
        assert push.push(sink(receiver), [event(CHAIR, number)]) == [None]
    assert [request.method for request in receiver.requests] == ["OPTIONS", "POST", "POST", "POST"]
    assert receiver.requests[0].headers["webhook-request-origin"] == ORIGIN
    push.forget(sink(receiver))
    assert push.push(sink(receiver), [event()]) == [None]
    assert receiver.requests[-2].method == "OPTIONS"


def test_a_sink_may_go_without_asking(push: Webhooks, receiver: WebhookReceiver) -> None:
    assert push.push(sink(receiver, asks_consent=False), [event()]) == [None]
    assert [request.method for request in receiver.requests] == ["POST"]


def test_who_goes_without_asking_gives_no_consent_for_another_at_that_address(
    push: Webhooks, receiver: WebhookReceiver
) -> None:
    receiver.consents = Reply(405)
    assert push.push(sink(receiver, asks_consent=False), [event()]) == [None]
    assert kinds(push.push(sink(receiver), [event()])) == [Unavailable]
    assert [request.method for request in receiver.requests] == ["POST", "OPTIONS"]


def test_no_more_are_pushed_in_a_minute_than_is_allowed(receiver: WebhookReceiver) -> None:
    timer = SetTimer()
    push = webhooks(timer=timer)
    receiver.consents = Reply(200, {"WebHook-Allowed-Origin": "*", "WebHook-Allowed-Rate": "2"})
    [first, second, busy] = push.push(sink(receiver), [event(CHAIR), event(TABLE), event(LAMP)])
    assert (first, second) == (None, None)
    assert isinstance(busy, Busy)
    assert busy.retry_after_seconds == 60
    timer.pause(60)
    assert push.push(sink(receiver), [event(LAMP)]) == [None]
    push.close()


@pytest.mark.parametrize("bad", range(5))
def test_who_is_to_blame_is_found_however_few_requests_are_allowed(receiver: WebhookReceiver, bad: int) -> None:
    """In each call there is time for one request, and then no more; other partitions take their turn between."""
    timer = SetTimer()
    push = webhooks(timer=timer)
    receiver.consents = Reply(200, {"WebHook-Allowed-Origin": "*", "WebHook-Allowed-Rate": "1"})
    waiting = [event(f"SKU-{n}") for n in range(5)]
    refused = waiting[bad].id
    receiver.answers = lambda request: Reply(400 if refused in [e["id"] for e in request.events()] else 204)
    done: list[tuple[str, type]] = []
    for _ in range(12):
        outcomes = push.push(sink(receiver, most=5), waiting)
        for message, outcome in zip(list(waiting), outcomes, strict=True):
            if not isinstance(outcome, Busy):
                done.append((message.id, type(outcome)))
                waiting.remove(message)
        timer.pause(60)
        if not waiting:
            break
        assert push.push(sink(receiver, most=5), [event(LAMP), event(TABLE)]) == [None, None], "as many as ever"
        timer.pause(60)
    assert done == [(f"SKU-{n}-1", RejectedForGood if n == bad else type(None)) for n in range(5)]
    push.close()


def test_two_who_push_the_same_events_to_one_address_search_each_for_itself(receiver: WebhookReceiver) -> None:
    timer = SetTimer()
    push = webhooks(timer=timer)
    receiver.consents = Reply(200, {"WebHook-Allowed-Origin": "*", "WebHook-Allowed-Rate": "1"})
    events = [event(f"SKU-{n}") for n in range(4)]
    one, other = sink(receiver, most=4), Sink(receiver.url, OTHER_SECRET, most=4)
    receiver.answers_with(Reply(400))
    push.push(one, events)
    for next_one in (other, one):
        timer.pause(60)
        push.push(next_one, events)
    assert [len(request.events()) for request in receiver.posts()] == [4, 4, 2]
    push.close()


def test_who_is_gone_when_asked_for_consent_is_gone(push: Webhooks, receiver: WebhookReceiver) -> None:
    receiver.consents = Reply(410)
    with pytest.raises(Gone):
        push.push(sink(receiver), [event()])


# Where it may lead


class Names:
    """What a name leads to, and how often that was asked."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = list(addresses)
        self.asked: list[str] = []

    def __call__(self, host: str, port: int) -> list[str]:
        self.asked.append(host)
        return self.addresses


@pytest.mark.parametrize("address", [LOOPBACK, f"::ffff:{LOOPBACK}", "10.0.0.1", "169.254.169.254", "fd00::1", "::1"])
def test_a_name_that_leads_to_a_private_address_is_not_connected_to(receiver: WebhookReceiver, address: str) -> None:
    push = webhooks(allowed="10.99.0.0/16", lookup=Names(address))
    for scheme in ("http", "https"):
        there = Sink(f"{scheme}://hooks.example.com:{receiver.port}/hook", SECRET, answer_seconds=2)
        [outcome] = push.push(there, [event()])
        assert isinstance(outcome, Unavailable)
        assert str(outcome) == "hooks.example.com has no address that may be connected to"
    assert receiver.requests == []
    push.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1", "2130706433", "0x7f000001", "[::ffff:127.0.0.1]", "localhost"])
def test_no_way_of_writing_an_address_leads_there(receiver: WebhookReceiver, host: str) -> None:
    push = webhooks(allowed="10.99.0.0/16")
    [outcome] = push.push(Sink(f"http://{host}:{receiver.port}/hook", SECRET), [event()])
    assert isinstance(outcome, Unavailable)
    assert "no address" in str(outcome)
    assert receiver.requests == []
    push.close()


def test_the_address_that_was_checked_is_the_one_connected_to(receiver: WebhookReceiver) -> None:
    """The system knows no such name: the connection cannot have asked again where it leads."""
    names = Names("10.0.0.1", LOOPBACK)
    push = webhooks(lookup=names)
    assert push.push(Sink(f"http://rebinding.invalid:{receiver.port}/hook", SECRET, asks_consent=False), [event()]) == [
        None
    ]
    assert names.asked == ["rebinding.invalid"]
    assert receiver.requests[0].headers["host"] == f"rebinding.invalid:{receiver.port}"
    push.close()


def test_a_name_that_is_not_found_in_time_is_away() -> None:
    done = Event()

    def slowly(host: str, port: int) -> list[str]:
        done.wait(10)
        return [LOOPBACK]

    push, begin = webhooks(lookup=slowly), monotonic()
    assert kinds(push.push(Sink("https://slow.example.com/", SECRET, answer_seconds=0.2), [event()])) == [Unavailable]
    assert monotonic() - begin < 2
    done.set()
    push.close()


def test_proxies_of_the_environment_are_ignored(
    push: Webhooks, receiver: WebhookReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://{LOOPBACK}:{free_port()}")
    assert push.push(sink(receiver), [event()]) == [None]


def test_tls_goes_to_the_name_that_was_asked_for(tmp_path: Path) -> None:
    certificate = certificate_for(tmp_path, name="hooks.example.com")
    trusting = ssl.create_default_context(cafile=str(certificate))
    with WebhookReceiver(certificate) as receiver:
        for host, tls, expected in (
            ("hooks.example.com", trusting, type(None)),
            ("other.example.com", trusting, Unavailable),
            ("hooks.example.com", None, Unavailable),
        ):
            push = webhooks(lookup=Names(LOOPBACK), tls=tls)
            outcomes = push.push(Sink(f"https://{host}:{receiver.port}/hook", SECRET), [event()])
            assert kinds(outcomes) == [expected], (host, outcomes)
            push.close()
        assert receiver.told() == [f"{CHAIR}-1"]


@pytest.mark.parametrize(
    ("url", "secret"),
    [
        ("http://example.com/", SECRET),
        ("ftp://example.com/", SECRET),
        ("https://", SECRET),
        ("https://user:word@example.com/", SECRET),
        ("https://example.com/#part", SECRET),
        ("https://example.com\\@10.0.0.1/", SECRET),
        ("https://example.com:99999/", SECRET),
        ("https://exämple.com/", SECRET),
        ("https://example.com/ x", SECRET),
        ("https://example.com/", ""),
        ("https://example.com/", "whsec_"),
        ("https://example.com/", "whsec_c2hvcnQ="),
        ("https://example.com/", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
        ("https://example.com/", f"{SECRET} secret"),
    ],
)
def test_what_could_never_be_pushed_to_is_told_beforehand(url: str, secret: str) -> None:
    push = webhooks(allowed="")
    with pytest.raises(BadSink) as told:
        push.check(Sink(url, secret))
    assert SECRET.removeprefix("whsec_") not in str(told.value)
    assert kinds(push.push(Sink(url, secret), [event()])) == [Unavailable]
    push.close()


def test_what_may_be_pushed_to_passes() -> None:
    push = webhooks(allowed="")
    push.check(Sink("https://example.com:8443/hook?a=b", f"{SECRET} {OTHER_SECRET}"))
    push.check(Sink("https://[2606:4700::1111]/", SECRET, most=100))
    push.close()


def test_nothing_is_pushed_where_there_is_nothing(push: Webhooks, receiver: WebhookReceiver) -> None:
    assert list(push.push(sink(receiver), [])) == []
    assert receiver.requests == []
