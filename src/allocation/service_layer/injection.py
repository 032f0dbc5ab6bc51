"""Handlers are plain functions, and get what they name among their parameters: the book's dependency injection."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial
from typing import Any, TypedDict

from allocation.domain.events import Event
from allocation.service_layer.broker import Publisher
from allocation.service_layer.cache import Cache
from allocation.service_layer.delivering import DELIVERIES_A_LEASE, all_together, one_by_one
from allocation.service_layer.errors import SetupError
from allocation.service_layer.handlers import EVENT_HANDLERS, WHEN_IDLE
from allocation.service_layer.history.ports import History
from allocation.service_layer.messagebus import Handler
from allocation.service_layer.ports import Channel, Notifications
from allocation.service_layer.read_models import ReadModels, Stock
from allocation.service_layer.subscriptions import USUAL_PAGE, Deliver, Subscription
from allocation.service_layer.waiting import Timer

PAUSES_SECONDS = {"project_stock_levels": 0.05, "publish_stock_levels": 0.05, "count_movements": 0.25}
"""How long reactions let events gather that send only the latest level of a sku, or that add up."""

PAGE, SETTLE_SECONDS = 1_000, 0.1
"""How many events a reaction that takes a page gets at once. How long a cursor may lag behind a broker or a cache,
which know what they were given; mail does not, and a projection's effect is written with its cursor."""

_COMES_ALONG = {1: "what comes with each call", 2: "the message and the unit of work"}


class Destinations(TypedDict, total=False):
    """What reactions may name among their parameters, and nothing else. Which of these are there depends on the
    settings; a reaction that names one that is not there does not run. `publisher` makes a subscription for each
    broker; `read_models` comes with each round."""

    cache: Cache
    channel: Channel
    history: History
    notifications: Notifications
    publisher: Publisher
    read_models: ReadModels
    stock: Stock
    stock_mail: str


def inject(handlers: Mapping[type, Callable[..., Any]], dependencies: Mapping[str, Any]) -> dict[type, Handler]:
    """Give each handler of a command the dependencies it names among its parameters (the unit of work comes with the
    message). Raises `SetupError` for a name that is not among the dependencies."""
    return {message: bound(handler, dependencies, 2) for message, handler in handlers.items()}


def dependencies_of(handler: Callable[..., Any], given: int) -> list[str]:
    """The names of a handler's parameters, without the first `given`, which come with each message."""
    return list(inspect.signature(handler).parameters)[given:]


def bound(handler: Callable[..., Any], dependencies: Mapping[str, Any], given: int) -> Callable[..., Any]:
    """The handler with the dependencies it names bound. Raises `SetupError` for a name that is not among them."""
    _require_known(handler, dependencies, given)
    chosen = {name: dependencies[name] for name in dependencies_of(handler, given)}
    return partial(handler, **chosen) if chosen else handler


def _require_known(handler: Callable[..., Any], known: Collection[str], given: int) -> None:
    for name in dependencies_of(handler, given):
        if name not in known:
            raise SetupError(
                f"{getattr(handler, '__name__', handler)} names {name}, which is not provided: besides "
                f"{_COMES_ALONG[given]} it may name {', '.join(sorted(known)) or 'nothing'}"
            )


def reactions(
    there: Destinations, publishers: Mapping[str, Publisher], timer: Timer, lease_seconds: float
) -> Iterator[Subscription]:
    """A subscription for each event handler whose dependencies are there; for a handler that publishes, one for each
    publisher.

    Raises `SetupError` for a handler that names something that no settings provide.
    """
    wants: dict[Callable[..., Any], set[type[Event]]] = {}
    for event, named in EVENT_HANDLERS.items():
        for handler in named:
            wants.setdefault(handler, set()).add(event)
    for handler, wanted in wants.items():
        _require_known(handler, Destinations.__annotations__, 1)
        needed = dependencies_of(handler, 1)
        destinations: Mapping[str, Mapping[str, Any]] = {handler.__name__: {}}
        if "publisher" in needed:
            destinations = {f"{handler.__name__}:{name}": {"publisher": p} for name, p in publishers.items()}
        for name, destination in destinations.items():
            chosen: dict[str, Any] = {**there, "read_models": None, **destination}
            if set(needed) <= chosen.keys():
                idle = WHEN_IDLE.get(handler)
                yield Subscription(
                    name,
                    frozenset(wanted),
                    _delivering(handler, chosen, timer, lease_seconds / DELIVERIES_A_LEASE),
                    from_the_beginning="read_models" in needed,
                    pause_seconds=PAUSES_SECONDS.get(handler.__name__, 0.0),
                    idle=None if idle is None else bound(idle, chosen, 1),
                    page=PAGE if _takes_pages(handler) else USUAL_PAGE,
                    settle_seconds=0.0 if {"read_models", "notifications"} & set(needed) else SETTLE_SECONDS,
                )


def _delivering(
    handler: Callable[..., Any], dependencies: Mapping[str, Any], timer: Timer, most_seconds: float
) -> Deliver:
    """The handler with its dependencies bound, except the events and the read models, which come with each round."""
    _, *named = inspect.signature(handler).parameters
    chosen = {name: dependencies[name] for name in named if name != "read_models"}
    projects = "read_models" in named

    def handle(events: Any, read_models: ReadModels) -> Any:
        return handler(events, **chosen, **({"read_models": read_models} if projects else {}))

    return all_together(handle) if _takes_pages(handler) else one_by_one(handle, timer, most_seconds)


def _takes_pages(handler: Callable[..., Any]) -> bool:
    """Whether a reaction's first parameter is called `page`; else it takes one event at a time."""
    return next(iter(inspect.signature(handler).parameters)) == "page"
