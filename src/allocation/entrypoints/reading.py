"""The output for people of `stock`, `movements`, `order` and `settings`."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import astuple, fields
from datetime import date
from typing import Any

import msgspec

from allocation.entrypoints.console import console, day, table
from allocation.entrypoints.settings_table import Setting
from allocation.service_layer.answers import Promise
from allocation.service_layer.read_models import Movements
from allocation.views import ProductView

MOST_WAITING = 20


def product_json(product: ProductView) -> dict[str, Any]:
    """What `GET /v1/products/<sku>` returns, under the same names, and a little more."""
    return {**msgspec.to_builtins(product), "available_now": product.available_now}


def print_product(product: ProductView) -> None:
    screen = console()
    screen.print(f"{product.sku}, version {product.version}: {product.available_now:,} available now")
    rows = [(b.ref, day(b.eta), b.qty, b.available) for b in product.batches]
    screen.print(table("batch", "arrives", ">bought", ">available", rows=rows))
    if product.waiting_lines:
        lines = "1 order line waits" if product.waiting_lines == 1 else f"{product.waiting_lines:,} order lines wait"
        screen.print(f"{lines}, for {product.waiting_qty:,} pieces in total; the oldest first:")
        screen.print(table("order", ">qty", rows=[(x.orderid, x.qty) for x in product.waiting[:MOST_WAITING]]))
        if product.waiting_lines > MOST_WAITING:
            screen.print(f"... and {product.waiting_lines - MOST_WAITING:,} more.")


def movements_json(sku: str, moved: Sequence[tuple[date, Movements]]) -> dict[str, Any]:
    """What `GET /v1/products/<sku>/movements` returns."""
    return {"sku": sku, "days": [{"day": day.isoformat(), **msgspec.to_builtins(m)} for day, m in moved]}


def print_movements(sku: str, moved: Sequence[tuple[date, Movements]]) -> None:
    rows = [(day.isoformat(), *astuple(m)) for day, m in moved]
    screen = console()
    if not rows:
        screen.print(f"{sku}: no movements have been counted yet.")
        return
    screen.print(f"{sku}, pieces by day")
    columns = [f">{field.name}" for field in fields(Movements)]
    screen.print(table("day", *columns, rows=rows))


def print_order(orderid: str, lines: Sequence[Promise]) -> None:
    rows = [(x.sku, x.qty, x.status, x.batchref or "", day(x.eta) if x.batchref else "") for x in lines]
    screen = console()
    screen.print(f"Order {orderid}")
    screen.print(table("sku", ">qty", "status", "batch", "can leave", rows=rows))


def print_settings(settings: Iterable[Setting]) -> None:
    screen = console()
    for setting in settings:
        source = "default" if setting.source == "default" else f"environment; default {setting.default or 'nothing'}"
        screen.print(f"{setting.name} = {setting.value}   ({source})", style="bold", soft_wrap=True)
        screen.print(textwrap.fill(setting.meaning, 80, initial_indent="    ", subsequent_indent="    "))
