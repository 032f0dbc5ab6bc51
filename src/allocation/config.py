"""Settings: read from the environment, once at the start, never at import."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Collection, Iterable
from difflib import get_close_matches
from typing import Literal

from pydantic import Field, ValidationError, field_validator
from pydantic.config import JsonDict
from pydantic_settings import BaseSettings, SettingsConfigDict

from allocation.adapters.addresses import Reachable
from allocation.adapters.urls import parts_of
from allocation.service_layer.errors import SetupError

PREFIX = "ALLOCATION_"
FOR_TESTS = f"{PREFIX}TEST_"
SECRET: JsonDict = {"secret": "whole"}
SECRET_IN_URL: JsonDict = {"secret": "in a url"}
"""What `allocation settings` hides of a setting: all of it, or everything in a URL except the address."""

_OF_KUBERNETES = re.compile(rf"{PREFIX}(SERVICE_(HOST|PORT(_\w+)?)|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)")
_log = logging.getLogger(__name__)


class Settings(BaseSettings):
    """All settings, each set as `ALLOCATION_<NAME>`. Frozen: a process keeps the settings it started with."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="ignore", env_ignore_empty=True, hide_input_in_errors=True
    )

    database_url: str = Field(
        "sqlite:///allocation.db",
        description="Where stock, promises and the log are kept: sqlite:///FILE, postgresql://USER:PASSWORD@HOST/NAME, "
        "or memory: (lost when the process ends)",
        json_schema_extra=SECRET_IN_URL,
    )
    host: str = Field("127.0.0.1", description="Address the HTTP service listens on")
    port: int = Field(5005, ge=0, le=65535, description="Port the HTTP service listens on")
    workers: int = Field(
        0, ge=0, le=64, description="Processes that serve HTTP; 0: 1 on SQLite, otherwise one per processor, at most 4"
    )
    threads: int = Field(
        16,
        ge=1,
        le=256,
        description="Threads in each process that serves HTTP; with only one, a pull cannot wait for events",
    )
    log_partitions: int = Field(
        1, ge=1, le=64, description="Partitions of the event log; fixed when the database is created"
    )
    database_pool_size: int = Field(8, ge=1, le=100, description="Database connections that each process keeps open")
    lock_timeout_seconds: float = Field(
        5.0, gt=0, le=300, description="How long a transaction waits for a lock before it is started again"
    )
    commit_patience_seconds: float = Field(
        10.0,
        gt=0,
        le=300,
        description="How long to keep trying to reach a database that became unreachable during a commit",
    )
    hot_products: int = Field(
        0,
        ge=0,
        le=1_000_000,
        description="Products, the most recently sold, whose open batches each process keeps in memory between "
        "transactions; 0: none. A repair by `allocation rebuild` takes up to 5 seconds to affect decisions",
    )
    lease_seconds: float = Field(
        15.0,
        ge=0.5,
        le=300,
        description="How long a worker that stops responding keeps its subscriptions before others may take them over",
    )
    redis_url: str = Field(
        "",
        description="Redis for the channels, as in redis://[:PASSWORD@]HOST/0; empty: none",
        json_schema_extra=SECRET_IN_URL,
    )
    cache: Literal["none", "memory", "redis"] = Field(
        "none",
        description="Where orders and products are read from: none (the database), memory (a cache in the only "
        "serving process) or redis (a shared cache, at ALLOCATION_REDIS_URL). A cache lags by a moment: see `at_least`",
    )
    publish_to: str = Field(
        "",
        description="Brokers that everything is published to, separated by spaces, as in redis+streams://HOST/0; "
        "empty: none",
        json_schema_extra=SECRET_IN_URL,
    )
    receive_from: str = Field(
        "",
        description="Brokers that `allocation consumer` receives commands from, separated by spaces; empty: none",
        json_schema_extra=SECRET_IN_URL,
    )
    event_grid_key: str = Field(
        "",
        pattern=r"^([!-~]{16,200}( [!-~]{16,200})*)?$",
        description="Secret, at least 16 characters, that Azure Event Grid must send when it pushes to /v1/event-grid; "
        "several, separated by spaces, while it is being changed; empty: all pushes are refused",
        json_schema_extra=SECRET,
    )
    event_grid_from: str = Field(
        "",
        description="Topics (resource ids) and origins whose handshakes are answered, separated by spaces, as in "
        "/subscriptions/.../topics/orders eventgrid.azure.net; empty: none",
    )
    push_origin: str = Field(
        "allocation",
        pattern=r"^[A-Za-z0-9]([A-Za-z0-9.-]{0,253}[A-Za-z0-9])?$",
        description="Name under which receivers are asked to consent to pushes (WebHook-Request-Origin)",
    )
    push_to_private: str = Field(
        "false",
        description="Networks that may be pushed to in addition to public addresses, even over plain HTTP, as in "
        "10.1.0.0/16 fd12::/16; true: all; false: none",
    )
    service_bus: str = Field(
        "",
        description="Connection string of Azure Service Bus or its emulator, for the broker servicebus://",
        json_schema_extra=SECRET,
    )
    namespace: str = Field(
        "allocation",
        pattern=r"^[a-z][a-z0-9.-]{0,49}$",
        description="Prefix of the name of every topic, stream and queue at a broker",
    )
    smtp_url: str = Field(
        "",
        description="Mail server for notifications, as in smtp://[USER:PASSWORD@]HOST:PORT or smtps://...; empty: none",
        json_schema_extra=SECRET_IN_URL,
    )
    stock_mail: str = Field(
        "stock@made.com", description="Address that gets a mail for each order line that starts to wait"
    )
    mail_sender: str = Field("allocation@made.com", description="Sender address of notifications")
    body_limit_bytes: int = Field(1_048_576, ge=1024, le=104_857_600, description="Largest request body accepted")
    audit_pause_seconds: float = Field(
        1.0, ge=0, le=3600, description="Pause between the small steps of the self-audit; 0: no self-audit"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Lowest level of messages that are logged"
    )
    log_format: Literal["text", "json"] = Field(
        "text", description="Format of the log: text for people, or one JSON object per line for programs"
    )
    metrics_port: int = Field(
        0,
        ge=0,
        le=65535,
        description="Port on which `worker` and `consumer` serve their metrics, at ALLOCATION_HOST (`serve` has them "
        "at /metrics); 0: none",
    )
    traces_to: str = Field(
        "",
        description="Collector of OpenTelemetry traces (OTLP over HTTP), as in http://HOST:4318/v1/traces; empty: none",
        json_schema_extra=SECRET_IN_URL,
    )

    def expects_event_grid(self, sender: str) -> bool:
        """Whether a topic or an origin is named in `event_grid_from`; Azure writes ids in either case."""
        return sender.lower() in self.event_grid_from.lower().split()

    @field_validator("port", mode="before")
    @classmethod
    def _own_port(cls, value: object) -> object:
        is_told = isinstance(value, str) and is_of_kubernetes(f"{PREFIX}PORT", value)
        return cls.model_fields["port"].default if is_told else value

    @field_validator("push_to_private")
    @classmethod
    def _known_networks(cls, setting: str) -> str:
        try:
            Reachable.of(setting)
        except ValueError as wrong:
            raise ValueError(f"write true, false, or networks as in 10.1.0.0/16; {wrong}") from wrong
        return setting

    @field_validator("redis_url")
    @classmethod
    def _redis_address(cls, url: str) -> str:
        return _address(url, ("redis", "rediss"), "redis://[:PASSWORD@]HOST[:PORT]/0 or rediss://...", r"(/\d*)?")

    @field_validator("smtp_url")
    @classmethod
    def _smtp_address(cls, url: str) -> str:
        return _address(url, ("smtp", "smtps"), "smtp://[USER:PASSWORD@]HOST:PORT or smtps://...", "/?")

    @field_validator("traces_to")
    @classmethod
    def _collector_address(cls, url: str) -> str:
        return _address(url, ("http", "https"), "http://HOST:4318/v1/traces or https://...")

    @field_validator("database_url")
    @classmethod
    def _known_database(cls, url: str) -> str:
        scheme = url.split(":", 1)[0].split("+", 1)[0]
        if scheme == "postgres":
            raise ValueError("write postgresql://... instead of postgres://...")
        if scheme not in {"sqlite", "postgresql", "memory"}:
            raise ValueError("use sqlite:///FILE, postgresql://USER:PASSWORD@HOST/NAME or memory:")
        if scheme == "sqlite" and (":memory:" in url or not url.partition(":///")[2]):
            raise ValueError("name a file, as in sqlite:///allocation.db; to keep nothing, write memory:")
        return url


def load_settings(**overrides: object) -> Settings:
    """The settings of this process. Names in the environment that look like settings and are not are logged.

    Raises `SetupError` with a sentence about each wrong value.
    """
    set_here = {name for name, value in os.environ.items() if value and not is_of_kubernetes(name, value)}
    _tell_what_is_no_setting(set_here)
    try:
        return Settings(**overrides)  # type: ignore[arg-type]  # checked by pydantic, which is what this call is for
    except ValidationError as invalid:
        raise SetupError("\n".join(_sentence(dict(error)) for error in invalid.errors())) from None


def is_of_kubernetes(name: str, value: str) -> bool:
    """Whether Kubernetes set it. Kubernetes gives each container variables with the addresses of the Services; for one
    called `allocation`, their names begin like ours, `ALLOCATION_PORT=tcp://...` among them."""
    return bool(_OF_KUBERNETES.fullmatch(name.upper()) or (name.upper() == f"{PREFIX}PORT" and "://" in value))


def _tell_what_is_no_setting(names: Iterable[str]) -> None:
    """Only logged, not refused: another program, or a later version of this one, may have set them."""
    known = [field.upper() for field in Settings.model_fields]
    for name in sorted({name.upper() for name in names}):
        short = name.removeprefix(PREFIX)
        if name.startswith(PREFIX) and not name.startswith(FOR_TESTS) and short not in known:
            meant = "".join(f" Did you mean {PREFIX}{near}?" for near in get_close_matches(short, known, 1))
            _log.warning(
                "%s is not a setting, and has no effect.%s `allocation settings` lists all settings.", name, meant
            )


def _address(url: str, schemes: Collection[str], like: str, path: str = ".*") -> str:
    """A setting that is an address, or empty. Raises `ValueError`; its text repeats nothing of the setting."""
    if url:
        parts_of(url, schemes, like, path)
    return url


def _sentence(error: dict[str, object]) -> str:
    location = error.get("loc")
    name = str(location[0]) if isinstance(location, tuple) and location else ""
    message = str(error.get("msg", "")).removeprefix("Value error, ")
    return f"{PREFIX}{name.upper()} is wrong: {message[:1].lower()}{message[1:]}. `allocation settings` explains it."
