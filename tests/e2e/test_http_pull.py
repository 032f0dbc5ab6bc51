"""Pull over HTTP: what is received is locked, and comes again until it is acknowledged."""

from collections.abc import Iterator
from threading import Thread

import pytest

from allocation.bootstrap import Application, bootstrap
from allocation.config import Settings
from allocation.domain.commands import CreateBatch
from allocation.entrypoints.flask_app import create_app
from allocation.service_layer import pull_locks, pulling
from tests.e2e.conforming import ConformingClient, Json
from tests.fakes import SetClock

CHAIR, TABLE = "RED-CHAIR", "SMALL-TABLE"
ALL = "/v1/subscriptions/all"


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def application(clock: SetClock) -> Iterator[Application]:
    """One that stands still in time; `tests/contracts/test_pulling.py` tries all databases."""
    built = bootstrap(Settings(database_url="memory:"), clock=clock)
    yield built
    built.close()


@pytest.fixture
def shop(client: ConformingClient) -> ConformingClient:
    """A batch of chairs and one of tables, and `all` from the beginning."""
    client.put(ALL, json={"delivery": "pull", "start": "beginning"})
    client.has_batch("b1", CHAIR, 10)
    client.has_batch("b2", TABLE, 10)
    return client


def receive(client: ConformingClient, **asked: object) -> list[Json]:
    found: list[Json] = client.post(ALL + ":receive", json=asked).json["deliveries"]
    return found


def say(client: ConformingClient, what: str, *deliveries: Json, **more: object) -> list[str]:
    tokens = [d["lock_token"] for d in deliveries]
    answer = client.post(f"{ALL}:{what}", json={"lock_tokens": tokens, **more})
    assert answer.status_code == 200, answer.text
    return [o["outcome"] for o in answer.json["outcomes"]]


def lag(client: ConformingClient) -> int:
    [cursor] = client.get(ALL).json["cursors"]
    lag_events: int = cursor["lag_events"]
    return lag_events


def test_events_come_as_the_feed_has_them_and_are_done_once_acknowledged(shop: ConformingClient) -> None:
    received = receive(shop)
    assert [d["events"] for d in received] == [[event] for event in shop.events()]
    assert [d["delivery_count"] for d in received] == [1, 1]
    assert receive(shop) == []
    assert say(shop, "acknowledge", *received) == ["done", "done"]
    assert receive(shop) == []
    assert shop.get("/v1/lanes").json["lanes"] == []
    assert lag(shop) == 0
    assert say(shop, "acknowledge", *received) == ["lock_lost", "lock_lost"]


def test_nothing_overtakes_what_is_in_hand(shop: ConformingClient) -> None:
    chair, table = receive(shop)
    shop.allocate("o1", CHAIR, 1)
    shop.allocate("o2", TABLE, 1)
    assert receive(shop) == []
    say(shop, "acknowledge", table)
    [later] = receive(shop)
    assert later["events"][0]["data"]["orderid"] == "o2"
    say(shop, "acknowledge", chair, later)
    [last] = receive(shop)
    assert last["events"][0]["data"]["orderid"] == "o1"


def test_a_lock_that_runs_out_gives_back_and_one_that_is_renewed_does_not(
    shop: ConformingClient, clock: SetClock
) -> None:
    chair, table = receive(shop, lock_seconds=60)
    clock.step(40)
    renewed = shop.post(ALL + ":renew", json={"lock_tokens": [table["lock_token"]], "lock_seconds": 60}).json
    assert renewed["outcomes"][0]["locked_until"] == "2031-03-01T12:01:40Z"
    clock.step(30)
    [again] = receive(shop)
    assert (again["key"], again["delivery_count"], again["events"]) == (CHAIR, 2, chair["events"])
    assert say(shop, "acknowledge", chair, again, table) == ["lock_lost", "done", "done"]


def test_a_lock_that_ran_out_is_lost_before_another_has_it(shop: ConformingClient, clock: SetClock) -> None:
    received = receive(shop, lock_seconds=5)
    clock.step(5)
    for what in ("acknowledge", "renew", "release"):
        assert say(shop, what, *received) == ["lock_lost", "lock_lost"]


def test_after_a_failure_events_come_one_at_a_time(shop: ConformingClient) -> None:
    for n in range(3):
        shop.allocate(f"o{n}", CHAIR, 1)
    [several] = receive(shop, key=CHAIR, per_key=10)
    assert len(several["events"]) == 4
    say(shop, "release", several)
    counts = []
    for _ in range(2):
        [chair] = receive(shop, key=CHAIR, per_key=10)
        counts.append((len(chair["events"]), chair["delivery_count"]))
        say(shop, "acknowledge", chair)
    assert counts == [(1, 2), (3, 1)]


def test_what_is_released_comes_again_after_its_delay(shop: ConformingClient, clock: SetClock) -> None:
    chair, table = receive(shop)
    assert say(shop, "release", chair) == ["done"]
    [again] = receive(shop)
    assert (again["key"], again["delivery_count"]) == (CHAIR, 2)
    say(shop, "release", again, table, delay_seconds=30)
    assert receive(shop) == []
    clock.step(30)
    assert [(d["key"], d["delivery_count"]) for d in receive(shop)] == [(CHAIR, 3), (TABLE, 2)]


def test_after_ten_deliveries_it_is_parked(shop: ConformingClient) -> None:
    for n in range(10):
        chair = next(d for d in receive(shop) if d["key"] == CHAIR)
        assert chair["delivery_count"] == n + 1
        say(shop, "release", chair)
    assert receive(shop) == []
    [lane] = [x for x in shop.get("/v1/lanes").json["lanes"] if x["key"] == CHAIR]
    assert (lane["due_at"], lane["attempts"]) == (None, 10)
    assert lane["reason"].startswith("MaxDeliveryCountExceeded")


def test_what_is_rejected_waits_with_its_reason_until_it_is_discarded(shop: ConformingClient) -> None:
    chair, table = receive(shop)
    shop.allocate("o1", CHAIR, 1)
    say(shop, "acknowledge", table)
    assert say(shop, "reject", chair, reason="no such customer") == ["done"]
    [lane] = shop.get("/v1/lanes").json["lanes"]
    assert (lane["key"], lane["due_at"], lane["reason"]) == (CHAIR, None, "Rejected: no such customer")
    assert receive(shop) == []
    said = {"event": lane["next_event"], "who": "anna", "why": "told them"}
    assert shop.post(f"/v1/lanes/all/{CHAIR}/discard", json=said).status_code == 204
    [next_one] = receive(shop)
    assert (next_one["events"][0]["data"]["orderid"], next_one["delivery_count"]) == ("o1", 1)


def test_what_is_discarded_while_it_is_held_is_skipped_if_it_is_then_rejected(shop: ConformingClient) -> None:
    chair, _ = receive(shop)
    shop.allocate("o1", CHAIR, 1)
    said = {"event": "0-1", "who": "anna", "why": "told them"}
    assert shop.post(f"/v1/lanes/all/{CHAIR}/discard", json=said).status_code == 204
    assert say(shop, "reject", chair, reason="no such customer") == ["done"]
    [next_one] = receive(shop)
    assert next_one["events"][0]["data"]["orderid"] == "o1"


def test_an_event_that_is_yet_to_come_cannot_be_discarded(shop: ConformingClient) -> None:
    """A puller of one sku has come further than the cursor; its lane waits for what comes next."""
    [table] = receive(shop, key=TABLE)
    say(shop, "acknowledge", table)
    [lane] = shop.get("/v1/lanes").json["lanes"]
    said = {"event": lane["next_event"], "who": "anna", "why": "told them"}
    assert shop.post(f"/v1/lanes/all/{TABLE}/discard", json=said).status_code == 404
    shop.allocate("o1", TABLE, 1)
    [next_one] = receive(shop, key=TABLE)
    assert next_one["events"][0]["data"]["orderid"] == "o1"


def test_what_is_rejected_comes_again_when_somebody_says_retry(shop: ConformingClient) -> None:
    chair, _ = receive(shop)
    say(shop, "reject", chair, reason="not today")
    assert shop.post(f"/v1/lanes/all/{CHAIR}/retry").status_code == 204
    [again] = receive(shop)
    assert again["events"] == chair["events"]


def test_a_session_gets_only_its_sku_and_others_miss_nothing(shop: ConformingClient) -> None:
    shop.allocate("o1", TABLE, 1)
    [table] = receive(shop, key=TABLE, per_key=5)
    assert [e["subject"] for e in table["events"]] == [TABLE, TABLE]
    assert receive(shop, key=TABLE) == []
    say(shop, "acknowledge", table)
    shop.allocate("o2", TABLE, 1)
    rest = receive(shop)
    assert [(d["key"], len(d["events"])) for d in rest] == [(TABLE, 1), (CHAIR, 1)]
    assert rest[0]["events"][0]["data"]["orderid"] == "o2"
    say(shop, "acknowledge", *rest)
    assert receive(shop) == []
    assert (lag(shop), shop.get("/v1/lanes").json["lanes"]) == (0, [])


def test_only_what_is_wanted_comes_and_the_cursor_goes_past_the_rest(shop: ConformingClient) -> None:
    rules = [{"name": "allocated", "filter": "type = 'Allocated' AND qty >= 5"}]
    shop.put(ALL, json={"delivery": "pull", "rules": rules})
    for n in range(1, 5):
        shop.allocate(f"o{n}", CHAIR, n)
    assert receive(shop) == []
    assert lag(shop) == 0
    shop.allocate("o9", TABLE, 9)
    assert [d["events"][0]["data"]["orderid"] for d in receive(shop)] == ["o9"]


def test_a_search_that_takes_long_is_told_to_go_on(shop: ConformingClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pull_locks, "PAGE", 1)
    monkeypatch.setattr(pulling, "LONGEST_SEARCH_SECONDS", 0.0)
    shop.put(ALL, json={"delivery": "pull", "rules": [{"name": "allocated", "filter": "type = 'Allocated'"}]})
    shop.allocate("o1", CHAIR, 1)
    first, second = (shop.post(ALL + ":receive", json={}).json for _ in range(2))
    assert first == {"deliveries": [], "has_seen_all": False}
    assert [d["key"] for d in second["deliveries"]] == [CHAIR]
    assert shop.post(ALL + ":receive", json={}).json == {"deliveries": [], "has_seen_all": True}


def test_copies_of_an_event_travel_under_one_token(shop: ConformingClient) -> None:
    rules = [
        {"name": "plain", "correlation": {"type": "BatchCreated"}},
        {"name": "double", "filter": "qty = 10", "action": "SET qty = qty * 2; REMOVE ref; SET [my crate] = 'x'"},
    ]
    shop.put(ALL, json={"delivery": "pull", "rules": rules})
    plain, copy = receive(shop, most=1)[0]["events"]
    assert plain["data"] == {"ref": "b1", "sku": CHAIR, "qty": 10, "eta": None}
    assert copy["data"] == {"sku": CHAIR, "qty": 20, "eta": None, "my crate": "x"}
    assert (copy["rulename"], copy["id"]) == ("double", plain["id"] + ":double")
    assert {k: copy[k] for k in ("sequence", "productversion")} == {k: plain[k] for k in ("sequence", "productversion")}


def test_an_event_whose_rule_cannot_be_worked_out_is_parked_and_not_lost(shop: ConformingClient) -> None:
    rules = [{"name": "odd", "filter": "qty / (qty - 10) = 0"}]
    shop.put(ALL, json={"delivery": "pull", "rules": rules})
    assert receive(shop) == []
    lanes = shop.get("/v1/lanes").json["lanes"]
    assert {(x["key"], x["due_at"]) for x in lanes} == {(CHAIR, None), (TABLE, None)}
    assert all("Rule odd" in x["reason"] for x in lanes)
    shop.put(ALL, json={"delivery": "pull"})
    shop.post(f"/v1/lanes/all/{CHAIR}/retry")
    assert [d["key"] for d in receive(shop)] == [CHAIR]


def test_strange_tokens_have_no_lock(shop: ConformingClient) -> None:
    [chair, _] = receive(shop)
    partition, seq, lock = chair["lock_token"].split("-")
    strange = ["x", "-", "0-", "9-1-a", f"{partition}-{int(seq) + 1}-{lock}", "٣-1-a"]
    answer = shop.post(ALL + ":acknowledge", json={"lock_tokens": strange}).json
    assert [o["outcome"] for o in answer["outcomes"]] == ["lock_lost"] * len(strange)
    assert say(shop, "acknowledge", chair) == ["done"]


@pytest.mark.parametrize("reason", ["", "a\0b", "two\nlines", "x" * 1001])
def test_a_reason_is_a_line_of_text(shop: ConformingClient, reason: str) -> None:
    [chair, _] = receive(shop)
    refused = shop.post(ALL + ":reject", json={"lock_tokens": [chair["lock_token"]], "reason": reason})
    assert refused.status_code == 422
    said = {"event": "0-1", "who": reason, "why": "sold out"}
    assert shop.post(f"/v1/lanes/all/{CHAIR}/discard", json=said).status_code == 422


def test_who_waits_is_woken_by_a_commit(application: Application) -> None:
    client = ConformingClient(create_app(application).test_client())
    client.put(ALL, json={"delivery": "pull"})
    got: list[Json] = []
    waiting = Thread(target=lambda: got.extend(receive(client, wait_seconds=20)))
    waiting.start()
    application.bus.handle(CreateBatch("b1", CHAIR, 1))
    waiting.join(timeout=10)
    assert [d["key"] for d in got] == [CHAIR]


def test_metrics_tell_what_is_in_hand(shop: ConformingClient, clock: SetClock) -> None:
    receive(shop, lock_seconds=60)
    assert 'state="in hand",subscription="all"} 2.0' in shop.get("/metrics").text
    clock.step(60)
    assert 'state="retrying",subscription="all"} 2.0' in shop.get("/metrics").text
