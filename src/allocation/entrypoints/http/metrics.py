"""Metrics for Prometheus."""

from __future__ import annotations

from allocation.entrypoints.http.call import Call, Reply
from allocation.entrypoints.http.routes import Given, Routes

routes = Routes("Health")


@routes.get("/metrics", gives={200: Given("The metrics, as text", type=str, media_type="text/plain")})
def metrics(call: Call) -> Reply:
    """Metrics in the text format of Prometheus.

    Commands by outcome, group sizes, retries, what was delivered to subscriptions and how far behind they are, lanes,
    the cache, the self-audit. If several processes serve, any of them reports the sum of all. A metric that cannot be
    determined at that moment is left out, and the failure is logged.
    """
    from allocation.adapters.telemetry.exposition import CONTENT_TYPE_LATEST, told

    return Reply(200, told(call.application), media_type=CONTENT_TYPE_LATEST)
