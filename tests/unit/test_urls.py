"""Addresses that cannot be meant stop the start, and nothing that is said about them repeats a password."""

from __future__ import annotations

import traceback

import pytest

from allocation.adapters.brokers import registry
from allocation.bootstrap import bootstrap
from allocation.config import Settings, load_settings
from allocation.entrypoints.settings_table import explain
from allocation.service_layer.errors import SetupError

PASSWORDS = ["hunter2/secret", "hunter2#secret", "hunter2?secret", "31337/secret", "31337#secret", "31337?secret"]
"""Of those that are numbers the first part passes for a port."""


def told(refused: pytest.ExceptionInfo[SetupError]) -> str:
    """All that a traceback shows."""
    return "".join(traceback.format_exception(refused.value))


@pytest.mark.parametrize("password", PASSWORDS)
@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("redis_url", "redis://:{}@cache:6379/0"),
        ("redis_url", "redis://shop:{}@cache:6379/0"),
        ("smtp_url", "smtp://shop:{}@mail:25"),
        ("traces_to", "https://shop:{}@collector/v1/traces"),
    ],
)
def test_a_password_that_nobody_escaped_is_told_of_and_not_told(name: str, url: str, password: str) -> None:
    with pytest.raises(SetupError, match=f"ALLOCATION_{name.upper()} is wrong: write .* in a password write %2F") as no:
        load_settings(database_url="memory:", **{name: url.format(password)})
    assert "secret" not in told(no)
    assert "hunter2" not in told(no)
    assert "31337" not in told(no)


@pytest.mark.parametrize("password", PASSWORDS)
@pytest.mark.parametrize(
    "url",
    [
        "redis+streams://:{}@cache:6379/0",
        "redis+pubsub://:{}@cache:6379/0",
        "redis+streams://shop:{}@cache:6379/0",
        "redis+pubsub://shop:{}@cache:6379/0",
        "kafka://shop:{}@k:9092",
        "eventgrid+https://:{}@topic.example/api/events",
        "eventgrid+https://shop:{}@topic.example/api/events",
        "servicebus://shop:{}@bus",
        "redis+streams://[{}@cache",
        "redis+streams://:{}@cache\u2100/0",
        "kafka://[{}@k",
        "{}@k:9092",
    ],
)
def test_neither_is_one_in_the_url_of_a_broker(url: str, password: str) -> None:
    with pytest.raises(SetupError) as publishing:
        registry.publishers(url.format(password), "shop", {"servicebus": ""})
    with pytest.raises(SetupError) as receiving:
        registry.receivers(url.format(password), "shop", "me", {"servicebus": ""})
    for refused in (publishing, receiving):
        assert "secret" not in told(refused)
        assert "hunter2" not in told(refused)
        assert "31337" not in told(refused)


def test_a_broker_may_have_a_scheme_with_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.BROKERS, "amqp1", ("memory", ""))
    assert list(registry.publishers("amqp1:", "shop")) == ["amqp1"]


@pytest.mark.parametrize(
    ("name", "value", "like"),
    [
        ("smtp_url", "mail:1025", r"smtp://\[USER:PASSWORD@\]HOST"),
        ("smtp_url", "mail", "smtp://"),
        ("smtp_url", "smtp//mail:1025", "smtp://"),
        ("smtp_url", "http://mail:25", "smtp://"),
        ("smtp_url", "smtp://mail:abc", "smtp://"),
        ("smtp_url", "smtp://:25", "smtp://"),
        ("smtp_url", "smtp://ma il:25", "smtp://"),
        ("smtp_url", "smtp://mail:25/inbox", "smtp://"),
        ("traces_to", "collector:4318", "http://HOST:4318/v1/traces"),
        ("traces_to", "http://:4318/v1", "http://HOST"),
        ("redis_url", "localhost:6379", "redis://"),
        ("redis_url", "http://localhost:6379", "redis://"),
        ("redis_url", "redis://h:abc/0", "redis://"),
        ("redis_url", "redis://h:70000/0", "redis://"),
        ("redis_url", "redis://h/zero", "redis://"),
    ],
)
def test_an_address_that_is_none_stops_the_start_and_is_told_what_it_looks_like(
    name: str, value: str, like: str
) -> None:
    with pytest.raises(SetupError, match=f"ALLOCATION_{name.upper()} is wrong: write {like}") as refused:
        load_settings(database_url="memory:", **{name: value})
    assert value not in told(refused)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("redis_url", "redis://localhost"),
        ("redis_url", "redis://:a%2Fb%23c@[::1]:6379/15"),
        ("redis_url", "rediss://shop:p:w@cache.example/0?ssl_cert_reqs=none"),
        ("smtp_url", "smtp://mail"),
        ("smtp_url", "smtps://shop:p%40ss@mail.example:465/"),
        ("traces_to", "http://127.0.0.1:4318/v1/traces"),
        ("traces_to", "https://collector.example/v1/traces?api-key=abc"),
        ("smtp_url", ""),
    ],
)
def test_what_an_address_may_be(name: str, value: str) -> None:
    assert getattr(load_settings(database_url="memory:", **{name: value}), name) == value


def test_what_redis_cannot_read_of_an_address_is_a_sentence_too() -> None:
    unreadable = "redis://h/0?socket_timeout=hunter2"
    with pytest.raises(SetupError, match="Redis") as refused:
        bootstrap(load_settings(database_url="memory:", redis_url=unreadable))
    assert "hunter2" not in told(refused)
    with pytest.raises(SetupError, match="Redis"):
        bootstrap(load_settings(database_url="memory:", cache="redis", redis_url="redis://h/0?max_connections=x"))


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("EVENT_GRID_KEY", "hunter2://secretsecretsecret", "***"),
        ("SERVICE_BUS", "Endpoint=sb://bus/;SharedAccessKey = hunter2secret=", "***"),
        ("SERVICE_BUS", "Endpoint=sb://bus/;SharedAccessKey=hunter2secret=", "***"),
        (
            "TRACES_TO",
            "https://shop:hunter2@collector/v1/traces?api-key=hunter2&dataset=shop",
            "https://shop:***@collector/v1/traces?api-key=***&dataset=shop",
        ),
        ("REDIS_URL", "redis://:hunter2/secret@cache/0", "redis://:***@cache/0"),
        ("REDIS_URL", "redis://:hunter2", "redis://:***"),
        ("REDIS_URL", ":hunter2@cache:6379", "***"),
        ("REDIS_URL", "redis://cache:6379/0", "redis://cache:6379/0"),
        (
            "PUBLISH_TO",
            "kafka://one:9092,two:9092 redis+streams://h/0",
            "kafka://one:9092,two:9092 redis+streams://h/0",
        ),
    ],
)
def test_settings_that_are_told_hide_what_is_secret_in_them(name: str, value: str, shown: str) -> None:
    by_name = {setting.name: setting.value for setting in explain({f"ALLOCATION_{name}": value})}
    assert by_name[f"ALLOCATION_{name}"] == shown


def test_every_setting_that_holds_a_url_or_a_key_is_secret() -> None:
    """So that a new one is not forgotten: by its name, or by the :// that its words show."""
    looks_secret = {
        name
        for name, info in Settings.model_fields.items()
        if name.endswith(("_url", "_key")) or "://" in (info.description or "") or "secret" in (info.description or "")
    }
    told_as_secret = {
        name
        for name, info in Settings.model_fields.items()
        if isinstance(info.json_schema_extra, dict) and info.json_schema_extra.get("secret") in ("whole", "in a url")
    }
    assert looks_secret <= told_as_secret
