"""Which broker a URL names. One line for each scheme; the module and its client are loaded when the scheme is used."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from importlib import import_module
from urllib.parse import urlsplit

from allocation.adapters.urls import ESCAPED
from allocation.service_layer.broker import Publisher, Receiver
from allocation.service_layer.errors import SetupError
from allocation.service_layer.provisioning import Provisioner

BROKERS: dict[str, tuple[str, str]] = {
    # scheme: (module in this package, extra that installs its client; empty: it needs none)
    "memory": ("memory", ""),
    "redis+pubsub": ("redis_pubsub", "redis"),
    "redis+streams": ("redis_streams", "redis"),
    "rediss+pubsub": ("redis_pubsub", "redis"),
    "rediss+streams": ("redis_streams", "redis"),
    "kafka": ("kafka", "kafka"),
    "eventgrid+https": ("event_grid", "azure"),
    "servicebus": ("service_bus", "azure"),
}


NONE: Mapping[str, str] = {}

_SCHEME = re.compile(r"[a-z+-]+")  # anything else that is not known may be part of a password, so it is not repeated


def publishers(urls: str, namespace: str, connections: Mapping[str, str] = NONE) -> dict[str, Publisher]:
    """A publisher for each URL of a list, by its scheme. None connects before it is used.

    `connections` are connection strings by scheme: they say where a broker is if its URL does not.

    Raises `SetupError` for a scheme that is unknown or given twice, or whose client is not installed.
    """
    found: dict[str, Publisher] = {}
    for scheme, url in _each(urls):
        found[scheme] = _module(scheme).publisher(url, namespace, *_connection(scheme, connections))
    return found


def receivers(urls: str, namespace: str, owner: str, connections: Mapping[str, str] = NONE) -> dict[str, Receiver]:
    """A receiver for each URL of a list, by its scheme; `owner` names this process to the broker. Raises as above."""
    found: dict[str, Receiver] = {}
    for scheme, url in _each(urls):
        found[scheme] = _module(scheme).receiver(url, namespace, owner, *_connection(scheme, connections))
    return found


def provisioners(urls: str, namespace: str, connections: Mapping[str, str] = NONE) -> list[Provisioner]:
    """A provisioner for each URL whose broker needs something created before it is used. Raises as above."""
    found = {scheme: (_module(scheme), url) for scheme, url in _each(urls)}
    return [
        module.provisioner(url, namespace, *_connection(scheme, connections))
        for scheme, (module, url) in found.items()
        if hasattr(module, "provisioner")
    ]


def _connection(scheme: str, connections: Mapping[str, str]) -> tuple[str, ...]:
    return (connections[scheme],) if scheme in connections else ()


def _each(urls: str) -> Iterator[tuple[str, str]]:
    seen: set[str] = set()
    for url in urls.split():
        scheme, colon, _ = url.partition(":")
        if not colon or not (scheme in BROKERS or _SCHEME.fullmatch(scheme)):
            raise SetupError(f"Name brokers by URLs, as in redis+streams://HOST/0; the schemes are {_known()}")
        try:
            urlsplit(url)
        except ValueError:  # its words repeat the URL
            raise SetupError(f"{scheme}: this is not a valid URL; {ESCAPED}") from None
        if scheme in seen:
            raise SetupError(f"Two brokers of the scheme {scheme} are named; name only one")
        seen.add(scheme)
        yield scheme, url


def _known() -> str:
    return ", ".join(sorted(BROKERS)) or "none"


def _module(scheme: str):  # type: ignore[no-untyped-def]  # a module with `publisher` and `receiver`
    if scheme not in BROKERS:
        raise SetupError(f"There is no broker {scheme!r}; the brokers are {_known()}")
    module, extra = BROKERS[scheme]
    try:
        return import_module(f"allocation.adapters.brokers.{module}")
    except ModuleNotFoundError as missing:
        raise SetupError(f"{scheme}: needs a client: pip install 'allocation[{extra}]'") from missing
