"""Azure Event Grid, out: what Microsoft's client puts on the wire for us, and what an answer means."""

from collections.abc import Iterator
from pathlib import Path
from time import time
from types import SimpleNamespace
from typing import NamedTuple
from urllib.parse import quote

import pytest
from azure.core.exceptions import ClientAuthenticationError

from allocation.adapters.brokers import registry
from allocation.adapters.brokers.event_grid import MOST_BYTES, EventGridPublisher
from allocation.service_layer.broker import COMMANDS, FACTS, Message, Publisher
from allocation.service_layer.errors import Rejected, SetupError, Unavailable
from tests.fakes import NOON
from tests.servers.event_grid import BATCH, KEY, EventGridPeer
from tests.servers.process import LOOPBACK
from tests.servers.webhook import Reply, WebhookReceiver, certificate_for


@pytest.fixture
def peer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[EventGridPeer]:
    certificate = certificate_for(tmp_path, address=LOOPBACK)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    made = EventGridPeer(certificate)
    made.start()
    yield made
    made.stop()


def publisher(peer: EventGridPeer, key: str = KEY) -> Publisher:
    url = f"eventgrid+https://:{quote(key, safe='')}@{LOOPBACK}:{peer.http.port}/api/events"
    [made] = registry.publishers(url, "shop").values()
    return made


def event(key: str = "RED-CHAIR", number: int = 1, filler: str = "") -> Message:
    more: dict[str, str | int] = {"schemaversion": 1, "sequence": "00000000000000000007"}
    return Message(f"{key}-{number}", "allocation.Tested", key, NOON, {"filler": filler}, number, more)


def test_events_come_as_a_batch_of_cloud_events_with_the_key(peer: EventGridPeer) -> None:
    told = publisher(peer)
    assert list(told.publish(FACTS, [event("RED-CHAIR"), event("SMALL-TABLE")])) == [None, None]
    [request] = peer.http.posts()
    assert request.path == "/api/events?api-version=2018-01-01"
    assert request.headers["aeg-sas-key"] == KEY
    assert request.headers["content-type"] == BATCH
    first, second = request.events()
    assert first == {
        "specversion": "1.0",
        "id": "RED-CHAIR-1",
        "source": "/allocation",
        "type": "allocation.Tested",
        "subject": "RED-CHAIR",
        "time": "2031-03-01T12:00:00.000Z",
        "datacontenttype": "application/json",
        "data": {"filler": ""},
        "schemaversion": 1,
        "sequence": "00000000000000000007",
        "topic": "shop.facts",
    }
    assert second["subject"] == "SMALL-TABLE"
    told.close()


def test_batches_keep_within_the_size_of_a_request(peer: EventGridPeer) -> None:
    told, events = publisher(peer), [event(f"SKU-{n}", filler="x" * 99_000) for n in range(25)]
    assert list(told.publish(FACTS, events)) == [None] * 25
    assert [len(request.events()) for request in peer.http.posts()] == [10, 10, 5]
    assert all(len(request.body) <= MOST_BYTES for request in peer.http.posts())
    told.close()


def test_batches_keep_within_the_number_of_events_of_a_request(peer: EventGridPeer) -> None:
    told = publisher(peer)
    events = [event(f"S{n}") for n in range(5_001)]
    assert not any(told.publish(FACTS, events))
    assert sum(len(request.events()) for request in peer.http.posts()) == 5_001
    assert max(len(request.events()) for request in peer.http.posts()) <= 5_000
    told.close()


class _Token(NamedTuple):
    token: str
    expires_on: int


class Credential:
    """What azure-identity would give: a token for Event Grid, if it was asked for in its name."""

    def __init__(self) -> None:
        self.scopes: list[str] = []

    def get_token(self, *scopes: str, **_more: object) -> _Token:
        self.scopes += scopes
        return _Token("token-1", int(time()) + 3600)


def test_a_token_takes_the_place_of_the_key(peer: EventGridPeer) -> None:
    peer.tokens.add("token-1")
    credential = Credential()
    told = EventGridPublisher(peer.endpoint, credential, "shop")
    assert list(told.publish(COMMANDS, [event()])) == [None]
    assert credential.scopes == ["https://eventgrid.azure.net/.default"]
    assert "aeg-sas-key" not in peer.http.posts()[0].headers
    told.close()


def test_a_wrong_key_is_wrong_for_all_and_shown_to_nobody(
    peer: EventGridPeer, caplog: pytest.LogCaptureFixture
) -> None:
    wrong = "d3Jvbmcga2V5IG9mIEV2ZW50IEdyaWQ="
    caplog.set_level("DEBUG")
    told = publisher(peer, wrong)
    outcomes = told.publish(FACTS, [event("RED-CHAIR"), event("SMALL-TABLE")])
    assert [type(outcome) for outcome in outcomes] == [Unavailable] * 2
    assert "401" in str(outcomes[0])
    assert wrong not in str(outcomes[0]) + caplog.text
    told.close()


def test_a_token_that_is_refused_is_wrong_for_all(peer: EventGridPeer) -> None:
    """Microsoft Entra answers 400 when a secret has expired, which says nothing about any event."""
    told = EventGridPublisher(peer.endpoint, NoCredential(), "shop")
    outcomes = told.publish(FACTS, [event("RED-CHAIR"), event("SMALL-TABLE")])
    assert [type(outcome) for outcome in outcomes] == [Unavailable] * 2
    assert "the secret has expired" in str(outcomes[0])
    assert peer.http.posts() == []
    told.close()


class NoCredential:
    """What azure-identity does once its secret has expired."""

    def get_token(self, *_scopes: str, **_more: object) -> _Token:
        answer = SimpleNamespace(status_code=400, reason="Bad Request", headers={})
        raise ClientAuthenticationError("the secret has expired", response=answer)


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_when_it_has_no_time_all_waits_and_is_not_sent_again_by_the_client(peer: EventGridPeer, status: int) -> None:
    told = publisher(peer)
    peer.answers_next.append(Reply(status, {"Retry-After": "1"}))
    assert [type(outcome) for outcome in told.publish(FACTS, [event()])] == [Unavailable]
    assert len(peer.http.posts()) == 1
    told.close()


def test_a_redirect_is_not_followed(peer: EventGridPeer) -> None:
    told = publisher(peer)
    with WebhookReceiver() as elsewhere:
        peer.answers_next.append(Reply(307, {"Location": elsewhere.url}))
        assert [type(outcome) for outcome in told.publish(FACTS, [event()])] == [Unavailable]
        assert elsewhere.requests == []
    told.close()


def test_of_a_refused_batch_only_the_one_to_blame_is_refused(peer: EventGridPeer) -> None:
    told = publisher(peer)
    events = [event("RED-CHAIR"), event("LARGE", 1, "x" * 2_000_000), event("SMALL-TABLE"), event("LARGE", 2)]
    assert [type(outcome) for outcome in told.publish(FACTS, events)] == [type(None), Rejected, type(None), Rejected]
    assert [accepted["id"] for accepted in peer.accepted] == ["RED-CHAIR-1", "SMALL-TABLE-1"]
    told.close()


def test_what_event_grid_is_not_is_said() -> None:
    with pytest.raises(SetupError, match="/v1/event-grid"):
        registry.receivers("eventgrid+https://:k@shop.example.com/api/events", "shop", "me")
    for url in ("eventgrid+https://", "eventgrid+https://:k@host/api/events?x=1", "eventgrid+https://u:k@host/"):
        with pytest.raises(SetupError, match=r"eventgrid\+https://:KEY@HOST"):
            registry.publishers(url, "shop")
