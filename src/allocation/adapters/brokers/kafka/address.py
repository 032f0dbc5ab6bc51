"""Where a Kafka is and how to talk to it, from a URL; creates topics there.

Of the URL's parameters `partitions` (4), `replication` (the broker's default) and `patience_seconds` (10) are ours.
Those with a dot in their name, such as `security.protocol`, are librdkafka's own and are passed on.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # it exports them without saying so
    AdminClient,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from allocation.service_layer.broker import STOCK_LEVEL, Capabilities
from allocation.service_layer.errors import SetupError, Unavailable

CAPABILITIES = Capabilities(durable=True, ordered_by_key=True, acknowledged=True, replayable=True, scheduled=True)
"""scheduled: by the receiver, which holds back a key that was released for later; a restart forgets the delay."""

CREDENTIALS = "kafka: name user and password as ?sasl.username=...&sasl.password=... after the hosts"
PATIENCE_SECONDS = 10.0
USUAL_PORT = 9092
COMPACTED = frozenset({STOCK_LEVEL})
"""Topics in which only the last message of a key counts."""

OURS = frozenset(
    """
    acks auto.offset.reset bootstrap.servers client.id
    delivery.report.only.error delivery.timeout.ms enable.auto.commit enable.auto.offset.store
    enable.gapless.guarantee enable.idempotence enable.partition.eof group.id
    group.instance.id group.protocol isolation.level max.in.flight
    max.in.flight.requests.per.connection message.max.bytes message.send.max.retries message.timeout.ms
    metadata.broker.list partition.assignment.strategy partitioner queuing.strategy
    request.required.acks retries transactional.id
    """.split()  # noqa: SIM905  # a list would take a line for each
)
"""Properties of librdkafka that our promises depend on, or that follow from other settings."""

OF_CONSUMERS = ("session.", "heartbeat.", "max.poll.", "fetch.", "queued.", "check.crcs")
OF_PRODUCERS = ("linger.", "queue.buffering.", "compression.", "batch.", "sticky.", "transaction.")
"""Prefixes of the properties that have a meaning for one side only."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Address:
    """`properties` are librdkafka's. `patience_seconds`: how long a call waits for the broker before it counts as
    unreachable."""

    servers: str
    partitions: int = 4
    replication: int = -1
    patience_seconds: float = PATIENCE_SECONDS
    properties: Mapping[str, str] = field(default_factory=dict)

    def client(self, not_for: tuple[str, ...] = OF_CONSUMERS + OF_PRODUCERS, **settings: object) -> dict[str, Any]:
        """A configuration of librdkafka, without those of the URL's properties that begin with one of `not_for`; in the
        names of `settings`, `_` stands for `.`."""
        chosen = {name.replace("_", "."): value for name, value in settings.items()}
        quick = {"reconnect.backoff.ms": 50, "reconnect.backoff.max.ms": 1000}
        given = {name: value for name, value in self.properties.items() if not name.startswith(not_for)}
        return {"bootstrap.servers": self.servers, "logger": log, **quick, **chosen, **given}


def address_of(url: str) -> Address:
    """Raises `SetupError` with an explanation for an invalid URL."""
    parts = urlsplit(url)
    if "@" in f"{parts.netloc}{parts.path}{parts.fragment}":
        raise SetupError(CREDENTIALS)
    servers = [_server(host) for host in parts.netloc.split(",")]
    if parts.path.strip("/"):
        raise SetupError("kafka: only ?... may follow the hosts, not a path: the service names the topics")
    if parts.fragment:
        raise SetupError("kafka: only ?... may follow the hosts, not #; in a value, write %23 instead")
    ours: dict[str, str] = {}
    properties: dict[str, str] = {}
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if "@" in name:  # no option contains one: a user and a password stand before the hosts
            raise SetupError(CREDENTIALS)
        if name in OURS:
            raise SetupError(f"kafka: {name} cannot be set: what the service promises depends on it")
        (properties if "." in name else ours)[name] = value
    address = Address(
        ",".join(servers),
        _number(ours.pop("partitions", "4"), "partitions", 1, 10_000),
        _number(ours.pop("replication", "-1"), "replication", -1, 100),
        _number(ours.pop("patience_seconds", str(int(PATIENCE_SECONDS))), "patience_seconds", 1, 300),
        properties,
    )
    if ours:
        raise SetupError(
            f"kafka: there is no option {', '.join(ours)}; the options are partitions, replication, patience_seconds"
        )
    return address


def _server(host: str) -> str:
    name, colon, port = unquote(host).rpartition(":")
    if not colon:
        name, port = port, str(USUAL_PORT)
    if not name or not port.isdecimal():
        raise SetupError(f"kafka: name each host as HOST:PORT, as in kafka://localhost:{USUAL_PORT}")
    return f"{name}:{port}"


def _number(value: str, name: str, least: int, most: int) -> int:
    if not value.removeprefix("-").isdecimal() or not least <= int(value) <= most:
        raise SetupError(f"kafka: {name} must be a whole number from {least} to {most}, not {value!r}")
    return int(value)


def have_topic(address: Address, namespace: str, topic: str) -> int:
    """Create the topic if it is missing; returns the size of the largest message that it takes, in bytes.

    An existing topic stays as it is, whatever the URL says about partitions: more of them would break the order of
    keys. Raises `Unavailable`.
    """
    name, seconds = f"{namespace}.{topic}", address.patience_seconds
    admin = AdminClient(address.client())
    try:
        if name not in admin.list_topics(timeout=seconds).topics:
            config = {"cleanup.policy": "compact"} if topic in COMPACTED else {}
            _make(admin, NewTopic(name, address.partitions, address.replication, config=config), seconds)
        return _room(admin, name, seconds)
    except KafkaException as away:
        raise unavailable(away) from away


def _make(admin: AdminClient, topic: NewTopic, seconds: float) -> None:
    try:
        admin.create_topics([topic], operation_timeout=seconds, request_timeout=seconds)[topic.topic].result()
    except KafkaException as failure:
        # Another program was faster, or the broker creates topics by itself.
        if code(failure) not in (KafkaError.TOPIC_ALREADY_EXISTS, KafkaError._UNSUPPORTED_FEATURE):
            raise


FRAMING_BYTES, USUAL_ROOM_BYTES = 200, 1_000_000


def _room(admin: AdminClient, name: str, seconds: float) -> int:
    resource = ConfigResource(ResourceType.TOPIC, name)
    try:
        told = admin.describe_configs([resource], request_timeout=seconds)[resource].result()
    except KafkaException as refusal:
        log.info("kafka: the limits of %s cannot be read, so %d bytes are assumed: %s", name, USUAL_ROOM_BYTES, refusal)
        return USUAL_ROOM_BYTES
    return max(int(told["max.message.bytes"].value) - FRAMING_BYTES, 1_000)


def code(failure: KafkaException) -> int:
    """The error code in it."""
    found: int = failure.args[0].code()
    return found


def unavailable(why: KafkaException | KafkaError | str) -> Unavailable:
    """Translates Kafka's errors."""
    error = why.args[0] if isinstance(why, KafkaException) else why
    return Unavailable(f"Kafka is not available: {error.str() if isinstance(error, KafkaError) else error}")
