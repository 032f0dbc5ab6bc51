"""Azure Event Grid, outgoing: CloudEvents to a custom topic, through Microsoft's own client.

The URL is the topic's endpoint: `eventgrid+https://:KEY@TOPIC.REGION.eventgrid.azure.net/api/events`, with the key
escaped as in any URL (`/` is `%2F`, `+` is `%2B`, `=` is `%3D`). Without a key, a token is requested, as azure-identity
finds it in the environment. All our topics go to that one; the attribute `topic` (`NAMESPACE.facts` and so on)
distinguishes them, and Event Grid's filters can test it. What comes in from Event Grid comes by HTTP: `/v1/event-grid`.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote, urlunsplit

import msgspec
from azure.core.credentials import AzureKeyCredential
from azure.core.exceptions import AzureError, ClientAuthenticationError, HttpResponseError
from azure.core.messaging import CloudEvent
from azure.eventgrid import EventGridPublisherClient

from allocation.adapters.batches import OneOfThem, in_batches
from allocation.adapters.cloudevents import JSON, SOURCE
from allocation.adapters.urls import broker_parts
from allocation.service_layer.broker import Capabilities, Message, Publisher, Receiver
from allocation.service_layer.errors import Rejected, SetupError, Unavailable

CAPABILITIES = Capabilities()
"""None: it pushes to its own subscribers, in any order, for a day. All we know is that it has accepted something."""

MOST_EVENTS, MOST_BYTES = 5_000, 1_000_000  # a request may have 1,048,576 bytes (Event Grid, "Quotas and limits")
MORE_BYTES = 200  # of an event, as their client writes it: spaces after commas, and our topic
CONNECT_SECONDS, ANSWER_SECONDS = 5, 30
LIKE = "eventgrid+https://:KEY@HOST/api/events"


def publisher(url: str, namespace: str) -> Publisher:
    """Raises `SetupError` for a URL without an endpoint, or without a key where no token can be obtained."""
    parts = broker_parts(url, LIKE)
    if parts.query or parts.username:
        raise SetupError(f"{parts.scheme}: name an endpoint, as in {LIKE}")
    endpoint = urlunsplit(("https", parts.netloc.rpartition("@")[2], parts.path or "/api/events", "", ""))
    return EventGridPublisher(endpoint, _credential(unquote(parts.password or "")), namespace)


def receiver(url: str, namespace: str, owner: str) -> Receiver:
    """Raises `SetupError`: there is nothing to receive from."""
    raise SetupError(
        "Event Grid cannot be received from: it pushes to POST /v1/event-grid, see ALLOCATION_EVENT_GRID_KEY"
    )


def _credential(key: str) -> Any:
    if key:
        return AzureKeyCredential(key)
    try:
        from azure.identity import DefaultAzureCredential
    except ModuleNotFoundError as missing:
        raise SetupError(
            "eventgrid+https: without a key it needs azure-identity: pip install 'allocation[azure]'"
        ) from missing
    return DefaultAzureCredential()


class EventGridPublisher(Publisher):
    """`credential`: a key, or a provider of tokens, in the classes of azure-core."""

    capabilities = CAPABILITIES

    def __init__(self, endpoint: str, credential: Any, namespace: str) -> None:
        _hush()
        self._client, self._namespace = EventGridPublisherClient(endpoint, credential), namespace

    def publish(self, topic: str, messages: Sequence[Message]) -> Sequence[Exception | None]:
        def send(batch: Sequence[Message]) -> Exception | None:
            return self._send(topic, batch)

        return in_batches(messages, send, MOST_EVENTS, MOST_BYTES, MORE_BYTES)

    def close(self) -> None:
        self._client.close()

    def _send(self, topic: str, messages: Sequence[Message]) -> Exception | None:
        """Sends once, within the time limit: the subscription decides when to try again."""
        events = [_cloud_event(message, f"{self._namespace}.{topic}") for message in messages]
        try:
            self._client.send(
                events,
                retry_total=0,
                permit_redirects=False,
                connection_timeout=CONNECT_SECONDS,
                read_timeout=ANSWER_SECONDS,
            )
        except ClientAuthenticationError as shut:  # of Event Grid, or of who gives out tokens: wrong for all messages
            return Unavailable(f"Event Grid does not let us in ({shut.status_code}): {shut.message}"[:500])
        except HttpResponseError as failed:
            words = f"Event Grid answered {failed.status_code}: {failed.message}"[:500]
            if failed.status_code not in (400, 413):
                return Unavailable(words)
            return Rejected(words) if len(messages) == 1 else OneOfThem(words)
        except AzureError as away:
            return Unavailable(f"Event Grid cannot be reached: {away}"[:500])
        return None


def _cloud_event(message: Message, topic: str) -> CloudEvent[Any]:
    return CloudEvent(
        id=message.id,
        source=SOURCE,
        type=message.type,
        subject=message.key,
        time=message.time,
        datacontenttype=JSON,
        data=msgspec.to_builtins(message.data),
        extensions={**message.extensions, "topic": topic},
    )


def _hush() -> None:
    """Microsoft's client mistakes the limits of a request for attributes of each event, logs a warning about it each
    time, and continues. It also logs a line for each request."""
    logging.getLogger("azure.eventgrid._legacy._generated._serialization").setLevel(logging.ERROR)
    logging.getLogger("azure.core.pipeline.policies.http_logging_policy").setLevel(logging.WARNING)
