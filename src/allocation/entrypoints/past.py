"""`allocation history`, `trace`, `explain`, `shop`, `what-if`: the time machine on the command line."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING, BinaryIO

import click
import msgspec

from allocation.config import load_settings
from allocation.entrypoints import opened
from allocation.entrypoints.bounded import not_json, read_whole
from allocation.entrypoints.console import JsonList, as_json, print_json, to_its_end
from allocation.entrypoints.moments import parse_at

if TYPE_CHECKING:  # imported when a command runs, as in `cli`
    from allocation.bootstrap import Application
    from allocation.entrypoints.http.history import HistoryPage, OrderHistory
    from allocation.entrypoints.http.what_if import WhatIfAnswer
    from allocation.service_layer.history.ports import At
    from allocation.service_layer.history.steps import Step
    from allocation.views import StateViews


def _parsed(_context: click.Context, _parameter: click.Parameter, text: str | None) -> At:
    try:
        return None if text is None else parse_at(text)
    except ValueError as wrong:
        raise click.BadParameter(str(wrong)) from None


at_option = click.option(
    "--at",
    callback=_parsed,
    metavar="WHEN",
    help="Use the state at a moment (2031-05-01T09:30:00Z) or at a place in the log (0-17). For a moment just past, "
    "changes still being written may be missing. A place always gives the same result if the log has one partition; of "
    "several, the others are as they were at the moment of that place.  [default: now]",
)


def views_at(application: Application, at: At) -> StateViews:
    """The views of the present, or of the past if `at` names it. Raises `UnknownPosition`."""
    from allocation.views import PastViews

    return application.views if at is None else PastViews(application.history, at)


@click.command(short_help="Who asked for what, what happened, and when.")
@click.argument("sku", required=False)
@click.option("--order", "orderid", help="The history of this order.")
@click.option("--batch", "ref", help="The history of this batch.")
@click.option("--after", default="", metavar="PLACE", help="Continue after this place, which the last run printed.")
@click.option(
    "--limit", type=click.IntRange(1, 10_000), default=1000, show_default=True, help="Stop after this many events."
)
@as_json
def history(sku: str | None, orderid: str | None, ref: str | None, after: str, limit: int, as_json: bool) -> None:
    """Who asked what of a product, an order or a batch, what happened because of it, and when.

    If there are more events than --limit, a line on stderr says how to continue: after a version of the product, or
    for an order after a cursor of the log (--after also accepts a place in the log, as in 0-17).

    \b
    Examples:
      allocation history RED-CHAIR
      allocation history --order order-17
      allocation history --batch batch-3 --json
    """
    if sum(x is not None for x in (sku, orderid, ref)) != 1:
        raise click.UsageError("Name exactly one of a SKU, --order and --batch.")
    page: HistoryPage | OrderHistory
    with opened.application() as application:
        if orderid is not None:
            steps, page = _history_of_order(application, orderid, after, limit)
        else:
            steps, page = _history(application, sku, ref, _version(after), limit)
    if not steps:
        name = next(x for x in (sku, orderid, ref) if x is not None)
        raise click.ClickException(f"Nothing has happened to {name}" + (" since." if after else "."))
    if as_json:
        print_json(msgspec.to_builtins(page))
    else:
        from allocation.entrypoints.past_told import print_steps

        print_steps(steps)
    _tell_how_to_go_on(page.next)


def _history(
    application: Application, sku: str | None, ref: str | None, after: int, limit: int
) -> tuple[Sequence[Step], HistoryPage]:
    from allocation.entrypoints.http.history import history_page
    from allocation.service_layer.history.steps import history_of_batch, history_of_product

    if ref is not None:
        steps = history_of_batch(application.history, ref, after, limit)
    else:
        steps = history_of_product(application.history, sku or "", after, limit)
    return steps, history_page(steps, limit)


def _history_of_order(
    application: Application, orderid: str, after: str, limit: int
) -> tuple[Sequence[Step], OrderHistory]:
    from allocation.entrypoints.http.cursors import ForgedCursor, decode_cursor
    from allocation.entrypoints.http.history import order_history
    from allocation.service_layer.history.steps import history_of_order

    try:
        behind = decode_cursor(after, application.settings.log_partitions) if after else []
    except ForgedCursor:
        raise click.BadParameter("this is not a cursor of this log.", param_hint="--after") from None
    page = history_of_order(application.history, orderid, behind, limit)
    return page.steps, order_history(page)


def _version(after: str) -> int:
    if after and not (after.isascii() and after.isdigit() and len(after) <= 18):
        raise click.BadParameter("must be a version of the product, a whole number.", param_hint="--after")
    return int(after or 0)


def _tell_how_to_go_on(following: str | int | None) -> None:
    if following is not None:
        click.echo(f"To continue: --after {following}", err=True)


@click.command(short_help="What followed from one request, as a tree.")
@click.argument("correlation_id")
@as_json
def trace(correlation_id: str, as_json: bool) -> None:
    """What followed from one request: its commands, their events, how those were delivered, and what they caused.

    CORRELATION_ID is the X-Correlation-Id of an answer; events and log lines carry it, too. (A request that was refused
    and came without an Idempotency-Key left nothing behind.) If a trace is too long to show, it says what is left out.

    \b
    Example:
      allocation trace 019f3c2b5d0971d2a3b4c5d6e7f80912
    """
    from allocation.entrypoints.http.traces import trace_read, wants_of
    from allocation.service_layer.history.trace import trace as traced

    with opened.application() as application:
        wants, now = wants_of(application), application.clock.now()
        found = traced(application.history, application.subscriptions, wants, correlation_id, now)
    if not found.commands:
        raise click.ClickException(f"Nothing is recorded under the correlation id {correlation_id}.")
    if as_json:
        print_json(msgspec.to_builtins(trace_read(found)))
    else:
        from allocation.entrypoints.past_told import print_trace

        print_trace(correlation_id, found)


@click.command(short_help="Why an order line is on its batch, or is waiting.")
@click.argument("orderid")
@click.argument("sku")
@click.option(
    "--after", type=click.IntRange(0, 10**18 - 1), default=0, help="Only decisions after this version of the product."
)
@click.option(
    "--limit", type=click.IntRange(1, 10_000), default=100, show_default=True, help="Stop after this many decisions."
)
@as_json
def explain(orderid: str, sku: str, after: int, limit: int, as_json: bool) -> None:
    """Why an order line is where it is: for each decision, every batch in order of preference, and why it was chosen or
    passed over.

    Each decision is made again on the product as it was then. If today's rules decide otherwise, the output says so. A
    line that was refused left no event, and is unknown here: `allocation what-if --at` decides it again as of that day.

    \b
    Example:
      allocation explain order-17 RED-CHAIR
    """
    from allocation.entrypoints.http.explanations import explanation
    from allocation.service_layer.history.explain import explain as explained

    with opened.application() as application:
        decisions = explained(application.history, orderid, sku, after, limit)
    if not decisions and after:
        raise click.ClickException(f"There is no decision about {sku} for order {orderid} after version {after}.")
    if not decisions:
        raise click.ClickException(f"Order {orderid} never had a line for {sku}; one that was refused does not count.")
    told = explanation(orderid, sku, decisions, limit)
    if as_json:
        print_json(msgspec.to_builtins(told))
    else:
        from allocation.entrypoints.past_told import print_decisions

        print_decisions(orderid, sku, decisions)
    _tell_how_to_go_on(told.next)


@click.command(short_help="The whole shop, product by product, now or in the past.")
@at_option
@click.option("--after", default="", metavar="SKU", help="Only products after this sku.")
@click.option("--limit", type=click.IntRange(1, 10**9), help="Stop after this many products.")
@as_json
def shop(at: At, after: str, limit: int | None, as_json: bool) -> None:
    """The whole shop, in order of skus, folded from the log: what is free, and which order lines wait.

    If the log cannot be read at some place, the products before it are shown; with --json, `stopped` gives the reason.
    After --limit products, a line on stderr says how to continue.

    \b
    Example:
      allocation shop --at 2031-05-01
    """
    from allocation.entrypoints.http.past import product_of_shop
    from allocation.entrypoints.past_told import ShopTable
    from allocation.views import PastViews

    with opened.application() as application:
        found = islice(PastViews(application.history, at).shop(after), limit)
        number, last = 0, None
        with to_its_end(JsonList("products") if as_json else ShopTable()) as listed:
            for product in found:
                number, last = number + 1, product.sku
                listed.add(msgspec.to_builtins(product_of_shop(product)))
    if last is None and not as_json and not after:
        raise click.ClickException("The shop had no products then." if at else "The shop has no products.")
    if number == limit:  # whether there are more is not known: a product more would be read only for that
        _tell_how_to_go_on(last)


@click.command("what-if", short_help="Which promises would change if these commands were given.")
@click.argument("file", type=click.File("rb"))
@at_option
@as_json
def what_if(file: BinaryIO, at: At, as_json: bool) -> None:
    """What would be different if the commands in FILE (- is stdin) were given, now or at a moment of the past.

    FILE holds a JSON list. Each command has the fields that its HTTP route accepts, and a type: CreateBatch,
    ChangeBatchQuantity, ChangeBatchEta, ChangeBatch, Allocate, Deallocate. The real rules decide, in memory. Nothing is
    committed, and nobody is notified.

    \b
    Example:
      echo '[{"type": "ChangeBatchEta", "ref": "batch-2", "eta": "2031-05-06"}]' | allocation what-if -
    """
    from allocation.entrypoints.past_told import print_difference

    most_bytes = load_settings().body_limit_bytes
    raw = read_whole(file, most_bytes, "Ask about fewer commands at a time, or raise ALLOCATION_BODY_LIMIT_BYTES.")
    answer = _imagined(raw, at)
    if as_json:
        print_json(msgspec.to_builtins(answer))
    else:
        print_difference(answer)


def _imagined(raw: bytes, at: At) -> WhatIfAnswer:
    from allocation.entrypoints.http.errors import Invalid, Malformed
    from allocation.entrypoints.http.parsing import read_json, validated
    from allocation.entrypoints.http.what_if import WhatIfRequest, difference_read
    from allocation.service_layer.history.what_if import products_named

    try:
        read = read_json(raw) if raw.strip() else None
        if not isinstance(read, list):
            raise click.ClickException("This is not a JSON list of commands; `allocation what-if --help` shows one.")
        if not read:
            raise click.ClickException("The list has no command; `allocation what-if --help` shows one that has.")
        asked = validated(WhatIfRequest, {"commands": read})
    except Malformed as wrong:
        raise not_json(wrong) from None
    except Invalid as wrong:
        told = [f"{(fault.pointer or '').removeprefix('#/commands/')} {fault.detail}" for fault in wrong.faults]
        raise click.ClickException("These are not commands:\n  " + "\n  ".join(told)) from None
    commands = [imagined.command() for imagined in asked.commands]
    with opened.application() as application:
        products = products_named(application.history, commands, application.history.cut(at))
        return difference_read(application.what_if.of(products, commands))
