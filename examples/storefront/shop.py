"""What shoppers see. Every answer comes from the copy; nobody is asked."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from urllib.parse import quote

from flask import Flask, Response, jsonify, request

from examples.storefront.stock_copy import LARGEST_QTY, Level, StockCopy, now

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8"><meta name="viewport" content="width=device-width"><meta http-equiv="refresh" content="2">
<title>Storefront</title>
<style>
  body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem }}
  table {{ border-collapse: collapse; width: 100% }}
  th, td {{ text-align: left; padding: .3rem 1rem .3rem 0; border-bottom: 1px solid #8884 }}
  td:last-child, th:last-child {{ text-align: right; color: #888 }}
  .stale {{ color: #b45309 }}
</style>
<h1>Storefront</h1>
<p{stale}>{knowledge}</p>
<table><tr><th>Product<th>Now<th>Later<th>version</tr>
{rows}
</table>
{example}
"""


def create_shop(copy: StockCopy, trouble: Callable[[], str]) -> Flask:
    """The storefront over a copy; `trouble` tells why the allocation service cannot be asked, empty if it can. Why is
    for the log: shoppers see only that it does not answer."""
    app = Flask(__name__, static_folder=None)

    @app.get("/can-i-buy/<sku>")
    def can_i_buy(sku: str) -> tuple[Response, int]:
        text = request.args.get("qty", "1")
        if not (text.isascii() and text.isdigit() and len(text) <= 10 and 1 <= int(text) <= LARGEST_QTY):
            return jsonify(detail=f"qty must be a whole number from 1 to {LARGEST_QTY}"), 422
        current_at, level, qty = copy.current_at(), copy.level(sku), int(text)
        if level is None and current_at is None:
            return jsonify(detail="This storefront knows nothing yet; ask again in a moment"), 503
        if level is None:
            return jsonify(sku=sku, detail="This product is not sold here", **_of_when(copy)), 404
        lot = level.earliest_for(qty)
        return jsonify(
            sku=sku,
            qty=qty,
            can_buy=lot is not None,
            comes=None if lot is None else _when(lot.eta),
            most=level.most,
            version=level.version,
            **_of_when(copy),
        ), 200

    @app.get("/")
    def page() -> str:
        current_at, is_away, levels = copy.current_at(), bool(trouble()), copy.levels()
        if current_at is None:
            knowledge = "This storefront knows nothing yet."
        else:
            age = (now() - current_at).total_seconds()
            seconds = f"{age:.0f}"
            knowledge = f"The data shown here is {seconds} second{'' if seconds == '1' else 's'} old."
        if is_away:
            knowledge += " The allocation service does not answer."
        return _PAGE.format(
            stale=' class="stale"' if is_away else "",
            knowledge=knowledge,
            rows="\n".join(map(_row, levels)),
            example=_example(levels[0]) if levels else "",
        )

    return app


def _of_when(copy: StockCopy) -> dict[str, object]:
    """How old the knowledge is that an answer stands on."""
    current_at = copy.current_at()
    if current_at is None:
        return {"known_at": None, "age_seconds": None}
    return {"known_at": current_at.isoformat(), "age_seconds": round((now() - current_at).total_seconds(), 1)}


def _when(eta: object) -> str:
    return "now" if eta is None else str(eta)


def _row(level: Level) -> str:
    here = sum(lot.qty for lot in level.available if lot.eta is None)
    later = ", ".join(f"{lot.qty:,} on {lot.eta}" for lot in level.available if lot.eta is not None)
    return f"<tr><td>{escape(level.sku)}<td>{here:,}<td>{later}<td>{level.version}</tr>"


def _example(level: Level) -> str:
    address = escape(f"/can-i-buy/{quote(level.sku, safe='')}?qty=3")
    return f'<p>For programs: <a href="{address}">{address}</a></p>'
