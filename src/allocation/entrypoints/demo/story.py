"""Tells the story of the day. Every figure printed is an answer of the service over HTTP."""

from __future__ import annotations

import os
import shutil
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any

import click

from allocation.entrypoints.demo import shop
from allocation.entrypoints.demo.service import Service, running_service
from allocation.entrypoints.demo.shop import Ordered
from allocation.entrypoints.demo.text import heading, items, paragraph, title, when

_SKUS = tuple(dict.fromkeys(batch.sku for batch in shop.STOCK))


def tell() -> None:
    """Print the story; takes a few seconds. Raises `Unavailable` if the service does not start or answers oddly."""
    begin = time.monotonic()
    title("A day in a small furniture shop")
    paragraph("Starting the service, with an SQLite database in a temporary folder ...")
    with running_service() as service:
        paragraph(f"It is listening at {service.url}. Everything below comes from its answers.")
        day = Day(service)
        day.take_in_stock()
        day.take_orders()
        day.hear_twice_and_refuse()
        day.cancel()
        day.delay()
        day.fall_short()
        day.show_one_order()
        day.check_the_books()
    title(f"That was the day, in {time.monotonic() - begin:.0f} seconds. Nothing is left running.")
    tell_what_next()


class Day:
    """One day of the shop. Remembers how far it has read the event feed, and what the feed said about every line."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._today = date.today()  # noqa: DTZ011  # the day where the demo is watched
        self._after = ""
        self._sequences: list[int] = []
        self._lines: dict[tuple[str, str], str | None] = {}

    def take_in_stock(self) -> None:
        heading(f"In the morning, {len(shop.STOCK)} batches are in stock or on their way", "POST /v1/batches")
        for batch in shop.STOCK:
            body = {"ref": batch.ref, "sku": batch.sku, "qty": batch.qty, "eta": batch.eta(self._today)}
            self._service.expect(201, "POST", "/v1/batches", body)
        for sku in _SKUS:
            batches = self._service.expect(200, "GET", f"/v1/products/{sku}")["batches"]
            items(f"  {sku:<16}", [f"{x['qty']} {when(x['eta'])} ({x['ref']})" for x in batches])

    def take_orders(self) -> None:
        orders = {line.orderid for line in shop.DAY}
        heading(f"{len(orders)} orders with {len(shop.DAY)} lines come in", "POST /v1/allocations")
        promised: dict[str | None, list[str]] = {}
        for line in shop.DAY:
            status, answer = self._allocate(line, "wait")
            place = answer["batchref"] if status == 201 else f"waiting for {line.sku}"
            promised.setdefault(place, []).append(f"{line.orderid} ({line.qty})")
        for sku in _SKUS:
            click.echo(f"  {sku}")
            for x in self._service.expect(200, "GET", f"/v1/products/{sku}")["batches"]:
                taken = f"{x['qty'] - x['available']} of {x['qty']}"
                items(f"    {x['ref']:<11} {when(x['eta']):<11}{taken:>9}  ", promised.get(x["ref"], ["-"]))
            if waiting := promised.get(f"waiting for {sku}"):
                items(f"    {'waiting':<32}  ", waiting)
        self._news()

    def hear_twice_and_refuse(self) -> None:
        twice, hasty = shop.SENT_TWICE, shop.WILL_NOT_WAIT
        heading(f"{twice.orderid} is sent twice; {hasty.orderid} cannot wait", "POST /v1/allocations")
        status, answer = self._allocate(twice, "wait")
        paragraph(
            f"{twice.orderid}: {status}, still {twice.qty} {twice.sku} from {answer['batchref']}. "
            "Nothing is allocated twice."
        )
        status, problem = self._allocate(hasty, "refuse")
        free = " and ".join(f"{x['qty']} {when(x['eta'])}" for x in problem["available"])
        paragraph(f"{hasty.orderid}: {status}, {problem['title']}. It needs {hasty.qty} {hasty.sku}; {free} are free.")

    def cancel(self) -> None:
        line = shop.CANCELLED
        heading(f"{line.orderid} is cancelled", f"DELETE /v1/allocations/{line.orderid}/{line.sku}")
        self._service.expect(204, "DELETE", f"/v1/allocations/{line.orderid}/{line.sku}")
        for event, data in self._news():
            if event == "Allocated":
                paragraph(f"{data['orderid']}, which waited, gets {data['qty']} {data['sku']} from {data['batchref']}.")

    def delay(self) -> None:
        batch = shop.LATE
        heading(f"{batch.ref} is late", f"PATCH /v1/batches/{batch.ref}")
        before = self._service.expect(200, "GET", f"/v1/batches/{batch.ref}")["eta"]
        later = batch._replace(days=(batch.days or 0) + shop.LATE_BY_DAYS).eta(self._today)
        after = self._service.expect(200, "PATCH", f"/v1/batches/{batch.ref}", {"eta": later})["eta"]
        moved = [orderid for (orderid, _), ref in self._lines.items() if ref == batch.ref]
        paragraph(f"{' and '.join(moved)} keep their {batch.sku}, now due {when(after)} instead of {when(before)}.")
        self._news()

    def fall_short(self) -> None:
        batch, whole = shop.SHORT, shop.ARRIVED_WHOLE
        heading(f"{batch.ref} has only {whole} of {batch.qty} in one piece", f"PATCH /v1/batches/{batch.ref}")
        before = dict(self._lines)
        self._service.expect(200, "PATCH", f"/v1/batches/{batch.ref}", {"qty": whole})
        gave_way = {data["orderid"]: data["qty"] for event, data in self._news() if event == "Deallocated"}
        paragraph("The newest orders lose their stock; what is free in other batches goes to the oldest of them.")
        for orderid, qty in sorted(gave_way.items()):
            ref, what = self._lines[orderid, batch.sku], f"{orderid}, {qty} {batch.sku}:"
            if ref == before[orderid, batch.sku]:
                paragraph(f"{what} still from {ref}.")
            elif ref is None:
                paragraph(f"{what} waits for the next batch.")
            else:
                eta = self._service.expect(200, "GET", f"/v1/batches/{ref}")["eta"]
                paragraph(f"{what} now from {ref}, {when(eta)}.")

    def show_one_order(self) -> None:
        heading(f"What {shop.A_CUSTOMER} can be told", f"GET /v1/orders/{shop.A_CUSTOMER}")
        for line in self._service.expect(200, "GET", f"/v1/orders/{shop.A_CUSTOMER}")["lines"]:
            paragraph(f"{line['qty']} {line['sku']}: {line['status']}, {line['batchref']}, {when(line['eta'])}")

    def check_the_books(self) -> None:
        heading("At night, the books are checked", "GET /v1/events")
        self._news()
        gapless = self._sequences == list(range(1, len(self._sequences) + 1))
        told = {
            (orderid, line["sku"]): line["batchref"]
            for orderid in {orderid for orderid, _ in self._lines}
            for line in self._service.expect(200, "GET", f"/v1/orders/{orderid}")["lines"]
        }
        waiting = [f"{orderid} for {sku}" for (orderid, sku), ref in self._lines.items() if ref is None]
        paragraph(
            f"The log has {len(self._sequences)} events, {'without a gap' if gapless else 'WITH GAPS'}. Replayed "
            f"from the first, they give {'the same' if told == self._lines else 'NOT THE'} {len(self._lines)} lines "
            "that the orders have: "
            f"{len(self._lines) - len(waiting)} promised, {len(waiting)} waiting ({', '.join(waiting)})."
        )

    def _allocate(self, line: Ordered, if_short: str) -> tuple[int, dict[str, Any]]:
        return self._service.ask("POST", "/v1/allocations", {**line._asdict(), "if_short": if_short})

    def _news(self) -> list[tuple[str, dict[str, Any]]]:
        """The events of the feed that were not read yet: the name and data of each."""
        news: list[tuple[str, dict[str, Any]]] = []
        while True:
            page = self._service.expect(200, "GET", f"/v1/events?limit=1000{self._after}")
            if not page["events"]:
                return news
            self._after = f"&after={page['next']}"
            for event in page["events"]:
                self._sequences.append(int(event["sequence"]))
                news.append((name := event["type"].rpartition(".")[2], data := event["data"]))
                if name in ("Allocated", "Deallocated", "Backordered"):
                    self._lines[data["orderid"], data["sku"]] = data["batchref"] if name == "Allocated" else None
                elif name == "Cancelled":
                    del self._lines[data["orderid"], data["sku"]]


def tell_what_next() -> None:
    beside = Path(sys.executable).with_name("allocation")
    program = "allocation" if shutil.which("allocation") or not beside.exists() else os.path.relpath(beside)
    paragraph("Three things to try (they keep their data in ./allocation.db):")
    click.echo(
        f"""
  printf 'ref,sku,qty,eta\\nlampshades-1,RETRO-LAMPSHADE,20,\\n' |
    {program} import --batches -
  {program} stock RETRO-LAMPSHADE
  {program} serve          # then open http://127.0.0.1:5005/docs
"""
    )
