"""`allocation topology`: where commands come from, who reads the log, and where each reader delivers, as configured."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import get_args
from urllib.parse import urlsplit

import click
import msgspec

from allocation.config import Settings
from allocation.domain.events import Event
from allocation.entrypoints import opened
from allocation.entrypoints.console import console, print_json, table
from allocation.entrypoints.provisioning import provision
from allocation.service_layer.broker import COMMANDS, FACTS, STOCK_LEVEL
from allocation.service_layer.definitions import Definition, NamedRule
from allocation.service_layer.handlers import EVENT_HANDLERS
from allocation.service_layer.rules.values import literal

PULLED_BY = "consumers that pull"


@dataclass(frozen=True, slots=True)
class Producer:
    """A source of commands; `runs` is the program that receives them."""

    name: str
    place: str
    runs: str


@dataclass(frozen=True, slots=True)
class Route:
    """A subscription: which events it gets, what it does with them, and where they go."""

    subscription: str
    events: str
    does: str
    place: str
    runs: str


@dataclass(frozen=True, slots=True)
class Topology:
    producers: list[Producer]
    routes: list[Route]


def topology_of(settings: Settings, subscriptions: list[str], definitions: Iterable[Definition]) -> Topology:
    """The topology under these settings: `subscriptions` are those that a worker has under them, `definitions` those
    that users have defined."""
    routes = [_route(settings, name) for name in subscriptions]
    return Topology(list(_producers(settings)), routes + [_defined(settings, one) for one in definitions])


def _producers(settings: Settings) -> Iterator[Producer]:
    yield Producer("HTTP", f"http://{settings.host}:{settings.port}", "allocation serve")
    yield Producer("files", "CSV, Parquet", "allocation import")
    if settings.redis_url:
        module = "python -m allocation.entrypoints.redis_eventconsumer"
        yield Producer("Redis pub/sub", "channel change_batch_quantity", module)
    if settings.event_grid_key:
        yield Producer("Azure Event Grid", "POST /v1/event-grid", "allocation serve")
    for url in settings.receive_from.split():
        yield Producer(_scheme(url), f"{settings.namespace}: {COMMANDS}", "allocation consumer")


def _route(settings: Settings, subscription: str) -> Route:
    name, _, broker = subscription.partition(":")
    handler = next(h for handlers in EVENT_HANDLERS.values() for h in handlers if h.__name__ == name)
    wanted = [event.__name__ for event, handlers in EVENT_HANDLERS.items() if handler in handlers]
    events = "every event" if len(wanted) == len(get_args(Event)) else ", ".join(wanted)
    does = (inspect.getdoc(handler) or name).partition("\n")[0].partition(": ")[0].rstrip(".:")
    return Route(subscription, events, does, _place(settings, name, broker), deliverer(settings))


def _defined(settings: Settings, definition: Definition) -> Route:
    """Shows only the host of an address: what comes after it may be a secret."""
    events = " or ".join(_wanted(rule) for rule in definition.rules)
    if definition.sink is None:
        return Route(definition.name, events, "Waits for consumers to pull", PULLED_BY, "allocation serve")
    place = f"webhook at {urlsplit(definition.sink.url).hostname}"
    does = "Pushes" if definition.stopped is None else f"Is stopped: {definition.stopped}"
    return Route(definition.name, events, does, place, deliverer(settings))


def _wanted(rule: NamedRule) -> str:
    if rule.filter is not None:
        return rule.filter
    return " and ".join(f"{name} = {literal(value)}" for name, value in rule.correlation) or "every event"


def deliverer(settings: Settings) -> str:
    """The program that delivers for all subscriptions, except for those that are pulled from."""
    return "allocation serve" if settings.database_url.startswith(("sqlite", "memory")) else "allocation worker"


def _place(settings: Settings, handler: str, broker: str) -> str:
    topics = {"publish_facts": FACTS, "publish_stock_levels": STOCK_LEVEL}
    if handler in topics:
        return f"{broker}, {settings.namespace}: {topics[handler]}"
    others = {
        "publish_allocated_event": "Redis pub/sub, channel line_allocated",
        "send_out_of_stock_notification": f"mail to {settings.stock_mail}",
        "keep_cache": f"cache in {settings.cache}",
    }
    return others.get(handler, "read model in the database")


def _scheme(url: str) -> str:
    return url.partition(":")[0]


def mermaid(topology: Topology) -> str:
    """The topology as a Mermaid flowchart: producers on the left, then the log, its readers, and their destinations."""
    lines = ["flowchart LR", '  bus["message bus"] --> log[("log")]']
    for number, producer in enumerate(topology.producers):
        lines.append(f'  in{number}["{_said(producer.name)}<br/>{_said(producer.place)}"] --> bus')
    for number, route in enumerate(topology.routes):
        lines.append(
            f'  log -- "{_said(route.events)}" --> sub{number}["{_said(route.subscription)}"]'
            f' --> out{number}["{_said(route.place)}"]'
        )
    return "\n".join(lines)


def _said(text: str) -> str:
    return text.replace('"', "#quot;").replace("<", "#lt;").replace(">", "#gt;")


@click.group(invoke_without_command=True, short_help="Who sends commands, who reads the log, where readers deliver.")
@click.option("--mermaid", "as_mermaid", is_flag=True, help="Print a Mermaid flowchart, for documentation.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
@click.pass_context
def topology(ctx: click.Context, as_mermaid: bool, as_json: bool) -> None:
    """Where commands come from, who reads the log, and where each reader delivers, according to the settings.

    No broker is asked: this shows what is configured, not what is running.

    \b
    Example:
      ALLOCATION_PUBLISH_TO=kafka://localhost:9092 allocation topology --mermaid
    """
    if ctx.invoked_subcommand is not None:
        return
    with opened.application() as application:
        definitions = application.subscribers.by_name().values()
        found = topology_of(application.settings, application.worker.names(), definitions)
    if as_json:
        print_json(msgspec.to_builtins(found))
    elif as_mermaid:
        click.echo(mermaid(found))
    else:
        told = console()
        told.print(table("commands from", "at", "run by", rows=[(p.name, p.place, p.runs) for p in found.producers]))
        rows = [(r.subscription, r.events, r.place, r.runs) for r in found.routes]
        told.print(table("subscription", "takes", "ends at", "run by", rows=rows))


topology.add_command(provision)
