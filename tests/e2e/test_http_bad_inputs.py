"""What nobody should send, and what it gets. Nothing here changes anything, and no answer holds a trace."""

import json
import re
from typing import Any

import pytest
from werkzeug.test import TestResponse

from allocation.bootstrap import bootstrap
from allocation.config import Settings
from allocation.domain.errors import Refused
from allocation.entrypoints.flask_app import all_routes, create_app
from allocation.entrypoints.http.parsing import _STRING_OR_BRACKET, _STRING_OR_OTHER
from allocation.entrypoints.http.problems import KINDS
from tests.e2e.conforming import ConformingClient

LINE = {"orderid": "order-1", "sku": "RED-CHAIR", "qty": 10, "if_short": "wait"}
BATCH = {"ref": "batch-9", "sku": "RED-CHAIR", "qty": 10, "eta": None}
GOOD = json.dumps(LINE).encode()
JSON = {"content_type": "application/json"}


@pytest.fixture(scope="module")
def shop() -> ConformingClient:
    """One service for the whole module: it must come out of all this as it went in."""
    client = ConformingClient(create_app(bootstrap(Settings(database_url="memory:"))).test_client())
    client.has_batch("batch-1", "RED-CHAIR", 100)
    return client


@pytest.fixture(autouse=True)
def _nothing_changes(shop: ConformingClient) -> Any:
    before = shop.events()
    yield
    assert shop.events() == before


def is_problem(answer: TestResponse, status: int) -> Any:
    assert answer.status_code == status, answer.text
    assert answer.content_type == "application/problem+json"
    assert answer.json["status"] == status
    assert answer.json["detail"]
    assert "Traceback" not in answer.text
    assert ".py" not in answer.text
    return answer.json


TO_QTY = b'{"orderid": "order-1", "sku": "RED-CHAIR", "qty": '
QTY_AT = len(TO_QTY)


def with_qty(raw: str) -> bytes:
    return TO_QTY + raw.encode() + b"}"


UNREADABLE: dict[str, tuple[bytes, int | None]] = {  # and the offset of what is wrong
    "empty body": (b"", 0),
    "blank body": (b" \n\t ", 4),
    "truncated JSON": (GOOD[:-1], len(GOOD) - 1),
    "truncated within a string": (b'{"orderid": "ord', 12),
    "trailing junk": (GOOD + b" {}", len(GOOD) + 1),
    "trailing comma": (b'{"qty": 1,}', 10),
    "invalid UTF-8": (b'{"orderid": "\xff"}', 13),
    "overlong UTF-8": (b'{"orderid": "\xc0\xaf"}', 13),
    "a surrogate in UTF-8": (b'{"orderid": "\xed\xa0\x80"}', 13),
    "a 5,000-digit integer": (with_qty("9" * 5000), QTY_AT),
    "a 5,000-digit fraction": (with_qty("0." + "9" * 5000), QTY_AT),
    "100,000-deep array": (b"[" * 100_000, 100),
    "100,000-deep array, closed": (b"[" * 100_000 + b"]" * 100_000, 100),
    "100,000-deep object": (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, 500),
    "NaN": (with_qty("NaN"), QTY_AT),
    "Infinity": (with_qty("Infinity"), QTY_AT),
    "-Infinity": (with_qty("-Infinity"), QTY_AT),
    "1e400": (with_qty("1e400"), QTY_AT),
    "-1e400": (with_qty("-1e400"), QTY_AT),
    "NaN in a field nobody knows": (b'{"what": "NaN", "ever": [1, NaN]}', 28),
    "duplicate keys": (b'{"qty": 1, "qty": 2}', None),
    "duplicate keys, the same value": (b'{"qty": 1, "sku": "A", "qty": 1}', None),
    "duplicate keys, spelt differently": (b'{"qty": 1, "\\u0071ty": 1}', None),
    "duplicate keys, deep inside": (b'{"what": [{"a": 1, "a": 2}]}', None),
    "duplicate strange keys": (b'{"\\ud800\\u0000": 1, "\\ud800\\u0000": 1}', None),
    "UTF-16 body": (GOOD.decode().encode("utf-16"), 0),
    "UTF-16 body without a mark": (GOOD.decode().encode("utf-16-le"), 1),
    "UTF-32 body": (GOOD.decode().encode("utf-32-be"), 0),
    "UTF-8 with a mark": (b"\xef\xbb\xbf" + GOOD, 0),
    "a raw control character in a string": (b'{"orderid": "a\nb"}', 14),
    "single quotes": (b"{'qty': 1}", 1),
    "a comment": (b"{} // what", 3),
    "a number with a leading zero": (with_qty("01"), QTY_AT + 1),
}


@pytest.mark.parametrize("name", UNREADABLE)
@pytest.mark.parametrize("path", ["/v1/allocations", "/v1/batches", "/allocate", "/add_batch"])
def test_a_body_that_is_no_json_is_400_and_says_where(shop: ConformingClient, name: str, path: str) -> None:
    body, offset = UNREADABLE[name]
    problem = is_problem(shop.post(path, data=body, **JSON), 400)
    assert problem.get("offset") == offset


@pytest.mark.parametrize(
    ("path", "body", "detail"),
    [
        ("/v1/allocations", b'{"orderid": "o', "The body is not JSON: unterminated string"),
        ("/v1/allocations", b'{"orderid": 5, "sku": "A", "qty": 1}', "orderid must be text"),
        ("/v1/allocations:batch", b'{"lines": []}', "lines must have at least 1 item"),
        ("/v1/allocations:batch", b'{"lines": {}}', "lines must be a list"),
        ("/v1/what-if", b'{"commands": [{}]}', "commands/0 must have the name 'type'"),
        ("/v1/what-if", b'{"commands": [{"type": "Burn"}]}', "commands/0 must have as 'type' one of 'CreateBatch', "),
    ],
)
def test_a_fault_is_told_in_words_of_ours(shop: ConformingClient, path: str, body: bytes, detail: str) -> None:
    told = shop.post(path, data=body, **JSON).get_json()["detail"]
    assert told.startswith(detail)
    assert not told.endswith(" at")


def test_a_byte_order_mark_is_called_one(shop: ConformingClient) -> None:
    problem = is_problem(shop.post("/v1/allocations", data=b"\xef\xbb\xbf" + GOOD, **JSON), 400)
    assert problem["detail"].startswith("The body begins with a byte order mark; send it without")


def test_line_and_column_are_counted_from_one(shop: ConformingClient) -> None:
    problem = is_problem(shop.post("/v1/allocations", data=b'{"qty": 1,\n "sku": }', **JSON), 400)
    assert (problem["line"], problem["column"]) == (2, 9)


UNHEEDED = [
    (route.method, re.sub(r"<\w+>", "batch-1", route.path), header)
    for route in all_routes()
    if route.method not in ("GET", "OPTIONS")
    for header in ("If-Match", "If-None-Match")
    if header not in route.heeds
]


@pytest.mark.parametrize(("method", "path", "header"), UNHEEDED)
def test_a_condition_that_nobody_looks_at_is_refused(
    shop: ConformingClient, method: str, path: str, header: str
) -> None:
    problem = is_problem(shop.open(method, path, json={"qty": 7}, headers={header: "*"}), 400)
    assert (problem["type"], problem["header"]) == ("/docs#problem-bad-header", header)


def test_questions_may_bring_any_condition(shop: ConformingClient) -> None:
    for path in ("/v1/stock", "/v1/batches/batch-1"):  # RFC 9110: what is not evaluated of a GET costs a longer answer
        assert shop.get(path, headers={"If-Match": '"9"'}).status_code == 200


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in LINE.items() if key != name}


WRONG_IDS: dict[str, str] = {
    "NUL": "a\0b",
    "control character": "a\x1bb",
    "newline at the end": "order-1\n",
    "zero-width space": "a\u200bb",
    "right-to-left mark": "a\u202eb",
    "accented letter": "caf\xe9",
    "full-width letter": "\uff21",
    "emoji": "\U0001f6cb",
    "empty": "",
    "blank": "   ",
    "space inside": "RED CHAIR",
    "slash": "RED/CHAIR",
    "10,000 characters": "x" * 10_000,
    "256 characters": "x" * 256,
    "'; DROP TABLE": "'; DROP TABLE order_lines; --",
}

WRONG_LINES: dict[str, tuple[Any, str]] = {  # and the pointer to what is wrong
    "null as body": (None, "#"),
    "[] as body": ([], "#"),
    "a bare string as body": ("order-1", "#"),
    "a number as body": (7, "#"),
    "true as body": (True, "#"),
    "a list of lines": ([LINE], "#"),
    "missing orderid": (without("orderid"), "#/orderid"),
    "missing sku": (without("sku"), "#/sku"),
    "missing qty": (without("qty"), "#/qty"),
    "unknown field": (LINE | {"price": 5}, "#/price"),
    "unknown field with a strange name": (LINE | {"a/b~\0": 5}, "#/a~1b~0\\u0000"),
    "unknown field with a lone surrogate in its name": (LINE | {"\ud800": 5}, "#"),
    "the book's class smuggled in": (LINE | {"__class__": "Batch"}, "#/__class__"),
    "qty 0": (LINE | {"qty": 0}, "#/qty"),
    "qty -1": (LINE | {"qty": -1}, "#/qty"),
    "qty -1000": (LINE | {"qty": -1000}, "#/qty"),
    "qty 1.5": (LINE | {"qty": 1.5}, "#/qty"),
    "qty 1.0": (LINE | {"qty": 1.0}, "#/qty"),
    'qty "1"': (LINE | {"qty": "1"}, "#/qty"),
    "qty true": (LINE | {"qty": True}, "#/qty"),
    "qty null": (LINE | {"qty": None}, "#/qty"),
    "qty a list": (LINE | {"qty": [1]}, "#/qty"),
    "qty 2^31": (LINE | {"qty": 2**31}, "#/qty"),
    "qty 2^63": (LINE | {"qty": 2**63}, "#/qty"),
    "qty of 300 digits": (LINE | {"qty": 10**299}, "#/qty"),
    "orderid a number": (LINE | {"orderid": 7}, "#/orderid"),
    "orderid null": (LINE | {"orderid": None}, "#/orderid"),
    "orderid an object": (LINE | {"orderid": {"id": "1"}}, "#/orderid"),
    "lone surrogate in an id": (LINE | {"orderid": "a\ud800b"}, "#/orderid"),
    "if_short of another word": (LINE | {"if_short": "WAIT"}, "#/if_short"),
    "if_short null": (LINE | {"if_short": None}, "#/if_short"),
    "if_short true": (LINE | {"if_short": True}, "#/if_short"),
    **{f"id: {name}": (LINE | {"sku": text}, "#/sku") for name, text in WRONG_IDS.items()},
}


@pytest.mark.parametrize("name", WRONG_LINES)
def test_a_line_that_does_not_fit_is_422_and_says_what_where(shop: ConformingClient, name: str) -> None:
    body, pointer = WRONG_LINES[name]
    problem = is_problem(shop.post("/v1/allocations", data=json.dumps(body), **JSON), 422)
    assert [fault["pointer"] for fault in problem["errors"]] == [pointer]


def test_every_fault_is_listed(shop: ConformingClient) -> None:
    problem = is_problem(shop.post("/v1/allocations", json={"sku": "RED CHAIR", "qty": 0, "price": 1}), 422)
    assert problem["detail"] == "4 things are wrong; the first: orderid is missing"
    assert problem["errors"] == [
        {"detail": "is missing", "pointer": "#/orderid"},
        {"detail": "must be 1 to 255 printable ASCII characters without space or slash", "pointer": "#/sku"},
        {"detail": "must be 1 or more", "pointer": "#/qty"},
        {"detail": "is not known here", "pointer": "#/price"},
    ]


def test_a_thousand_faults_are_not_all_listed(shop: ConformingClient) -> None:
    problem = is_problem(shop.post("/v1/allocations", json={f"f{n}": n for n in range(1000)}), 422)
    assert len(problem["errors"]) == 50


def test_an_id_of_255_characters_is_an_id(shop: ConformingClient) -> None:
    assert shop.allocate("o" * 255, "S" * 255, 1).status_code == 404


WRONG_ETAS: dict[str, Any] = {
    "2026-02-30": "2026-02-30",
    "a month 13": "2026-13-01",
    "the year 0": "0000-01-01",
    "a number": 20310501,
    "a number in text": "20310501",
    "seconds since 1970": "1700000000",
    "a datetime": "2031-05-01T00:00:00Z",
    "a datetime at midnight": "2031-05-01T00:00:00",
    "a week date": "2031-W18-4",
    "one digit short": "2031-5-1",
    "other digits": "\u0662\u0660\u0663\u0661-05-01",
    "a blank after": "2031-05-01 ",
    "a newline after": "2031-05-01\n",
    "empty": "",
    "true": True,
    "a list": ["2031-05-01"],
    "lone surrogate": "\ud800",
}


@pytest.mark.parametrize("name", WRONG_ETAS)
def test_an_eta_is_a_day_or_null(shop: ConformingClient, name: str) -> None:
    new = shop.post("/v1/batches", data=json.dumps(BATCH | {"eta": WRONG_ETAS[name]}), **JSON)
    change = shop.patch("/v1/batches/batch-1", data=json.dumps({"eta": WRONG_ETAS[name]}), **JSON)
    for answer in (new, change):
        assert is_problem(answer, 422)["errors"][0]["pointer"] == "#/eta"


WRONG_BATCHES: dict[str, Any] = {
    **{f"missing {name}": {k: v for k, v in BATCH.items() if k != name} for name in BATCH},
    **{f"ref: {name}": BATCH | {"ref": text} for name, text in WRONG_IDS.items()},
    **{f"qty {qty!r}": BATCH | {"qty": qty} for qty in (0, -1, 1.5, "1", True, None, 2**31, 2**63)},
    "unknown field": BATCH | {"colour": "red"},
}


@pytest.mark.parametrize("name", WRONG_BATCHES)
@pytest.mark.parametrize("path", ["/v1/batches", "/add_batch"])
def test_a_batch_that_does_not_fit_is_422(shop: ConformingClient, name: str, path: str) -> None:
    is_problem(shop.post(path, json=WRONG_BATCHES[name]), 422)


WRONG_CHANGES: dict[str, Any] = {
    "nothing": {},
    "null": None,
    "qty null": {"qty": None},
    "qty null beside an eta": {"qty": None, "eta": None},
    "unknown field": {"qty": 1, "ref": "batch-2"},
    **{f"qty {qty!r}": {"qty": qty} for qty in (-1, 1.5, "1", True, 2**31, 2**63)},
}


@pytest.mark.parametrize("name", WRONG_CHANGES)
def test_a_change_that_does_not_fit_is_422(shop: ConformingClient, name: str) -> None:
    is_problem(shop.patch("/v1/batches/batch-1", data=json.dumps(WRONG_CHANGES[name]), **JSON), 422)


PATHS_OF_IDS = [
    ("GET", "/v1/batches/{}"),
    ("PATCH", "/v1/batches/{}"),
    ("GET", "/v1/allocations/{}/RED-CHAIR"),
    ("DELETE", "/v1/allocations/order-1/{}"),
    ("GET", "/v1/orders/{}"),
    ("GET", "/v1/products/{}"),
    ("GET", "/allocations/{}"),
]


@pytest.mark.parametrize("text", ["a%00b", "%FF", "%E2%80%8B", "caf%C3%A9", "%20", "a%0A", "x" * 256, "x" * 10_000])
@pytest.mark.parametrize(("method", "path"), PATHS_OF_IDS)
def test_an_id_in_the_path_that_is_none_is_422(shop: ConformingClient, method: str, path: str, text: str) -> None:
    body = {"json": {"qty": 1}} if method == "PATCH" else {}
    problem = is_problem(shop.open(method, path.format(text), **body), 422)
    assert problem["errors"][0]["parameter"] in ("ref", "orderid", "sku")


WRONG_TYPES: dict[str, dict[str, str]] = {
    "no Content-Type": {},
    "text/plain": {"Content-Type": "text/plain"},
    "a form": {"Content-Type": "application/x-www-form-urlencoded"},
    "something like JSON": {"Content-Type": "application/jsonp"},
    "text/json": {"Content-Type": "text/json"},
    "JSON in another charset": {"Content-Type": "application/json; charset=utf-16"},
    "Content-Encoding: gzip": {"Content-Type": "application/json", "Content-Encoding": "gzip"},
    "Content-Encoding: br": {"Content-Type": "application/json", "Content-Encoding": "br"},
}


@pytest.mark.parametrize("name", WRONG_TYPES)
def test_what_is_not_sent_as_plain_json_is_415(shop: ConformingClient, name: str) -> None:
    answer = shop.post("/v1/allocations", data=GOOD, headers=WRONG_TYPES[name])
    is_problem(answer, 415)
    assert answer.headers["Accept"] == "application/json"


@pytest.mark.parametrize(
    "content_type",
    ["application/json;charset=UTF-8", 'Application/JSON ; charset="utf-8"', "application/vnd.shop+json"],
)
def test_json_by_another_spelling_is_read(shop: ConformingClient, content_type: str) -> None:
    body = json.dumps(LINE | {"sku": "RED-CHIAR"})
    is_problem(shop.post("/v1/allocations", data=body, content_type=content_type), 404)


def test_who_wants_html_from_the_api_gets_json(shop: ConformingClient) -> None:
    answer = shop.get("/v1/batches/batch-1", headers={"Accept": "text/html"})
    assert (answer.status_code, answer.content_type) == (200, "application/json")


def test_a_body_over_the_limit_is_413(shop: ConformingClient) -> None:
    is_problem(shop.post("/v1/allocations", data=b" " * 1_048_577, **JSON), 413)
    is_problem(shop.post("/v1/allocations", data=b" " * 1_048_576, **JSON), 400)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/v1/allocations", {"POST", "OPTIONS"}),
        ("GET", "/v1/allocations", {"POST", "OPTIONS"}),
        ("DELETE", "/v1/batches/batch-1", {"GET", "HEAD", "PATCH", "OPTIONS"}),
        ("POST", "/v1/orders/order-1", {"GET", "HEAD", "OPTIONS"}),
        ("GET", "/allocate", {"POST", "OPTIONS"}),
        ("BREW", "/v1/events", {"GET", "HEAD", "OPTIONS"}),
    ],
)
def test_a_wrong_method_is_405_and_says_which_are_allowed(
    shop: ConformingClient, method: str, path: str, allowed: set[str]
) -> None:
    answer = shop.open(method, path)
    is_problem(answer, 405)
    assert set(answer.headers["Allow"].split(", ")) == allowed


@pytest.mark.parametrize(
    "path",
    ["/v1", "/v2/orders/order-1", "/v1/orders", "/v1/orders/", "/v1/orders/a/b", "/v1//orders/order-1",
     "//v1/batches/batch-1", "/V1/batches/batch-1", "/v1/batches/batch-1/", "/v1/batches/..%2Fbatch-1", "/static/x"],
)  # fmt: skip
def test_an_unknown_path_is_404(shop: ConformingClient, path: str) -> None:
    is_problem(shop.plain.get(path, base_url="http://localhost"), 404)


def test_every_refusal_of_the_domain_is_told_as_a_problem_of_its_own() -> None:
    ours = {kind for kind in Refused.__subclasses__() if kind.__module__ == Refused.__module__}
    assert ours <= set(KINDS)
    slugs = [kind.slug for kind in KINDS.values()]
    assert len(set(slugs)) == len(slugs)


@pytest.mark.parametrize("pattern", [_STRING_OR_OTHER, _STRING_OR_BRACKET])
def test_a_string_that_never_ends_is_looked_at_once(pattern: re.Pattern[str]) -> None:
    """Looked at from each of its quotes anew, a megabyte of them would hold the process for an hour."""
    assert [found.span() for found in pattern.finditer('"' + r"\"" * 1_000)] == [(0, 2_001)]


@pytest.mark.parametrize("path", ["/v1/products/RED-CHAIR/history", "/v1/batches/batch-1/history"])
def test_the_largest_version_that_may_be_asked_for_can_be(shop: ConformingClient, path: str) -> None:
    assert shop.get(f"{path}?after={10**18 - 1}").status_code == 200
    is_problem(shop.get(f"{path}?after={10**18}"), 422)
