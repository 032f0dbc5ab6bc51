"""Makes entities at the peer by plain Atom entries, past our own provisioning."""

from __future__ import annotations

import http.client

ENTRY = (
    '<entry xmlns="http://www.w3.org/2005/Atom"><content type="application/xml">'
    '<{kind}Description xmlns="http://schemas.microsoft.com/netservices/2010/10/servicebus/connect">{told}'
    "</{kind}Description></content></entry>"
)


def make(admin_port: int, path: str, kind: str, **told: object) -> None:
    """`kind` is Queue, Topic or Subscription; `told` are the elements of its description."""
    elements = "".join(f"<{name}>{value}</{name}>" for name, value in told.items())
    connection = http.client.HTTPConnection("127.0.0.1", admin_port)
    connection.request("PUT", f"/{path}", ENTRY.format(kind=kind, told=elements))
    assert connection.getresponse().status == http.HTTPStatus.CREATED, path
    connection.close()


def make_ours(admin_port: int, namespace: str, lock: str = "PT30S", deliveries: int = 1000) -> None:
    """What our adapter expects: the queue of commands with sessions, and the topics, each with a subscription `all`."""
    queue = {"LockDuration": lock, "MaxDeliveryCount": deliveries, "RequiresSession": "true"}
    make(admin_port, f"{namespace}.commands", "Queue", RequiresDuplicateDetection="true", **queue)
    for topic in ("facts", "stock_level"):
        make(admin_port, f"{namespace}.{topic}", "Topic", RequiresDuplicateDetection="true")
        make(admin_port, f"{namespace}.{topic}/subscriptions/all", "Subscription", RequiresSession="true")
