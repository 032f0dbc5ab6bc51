"""A real Apache Kafka for the tests: one that was named, else a private one, else (said loudly) a mock.

In this order: the brokers of `ALLOCATION_TEST_KAFKA` (HOST:PORT, several separated by commas), a private broker in
KRaft mode from Maven Central's `org.apache.kafka:kafka_2.13` where Java and Maven are there, librdkafka's own mock
cluster. The broker's libraries are kept in the user's cache folder, so only a machine's first run fetches them.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Protocol

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from tests.servers.kafka_mock import MockKafka
from tests.servers.process import LOOPBACK, PrivateServer, ServerError, free_port

VARIABLE = "ALLOCATION_TEST_KAFKA"
VERSION = "4.3.1"
OLDEST_JAVA = 17
HEAP = ("-Xms64m", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
CLASSES = "classes.jsa"
QUIET = ("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",)

POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>allocation.tests</groupId><artifactId>kafka</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{VERSION}</version>
    </dependency>
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version></dependency>
  </dependencies>
</project>
"""


class Kafka(Protocol):
    """What tests ask of any Kafka, private or not."""

    source: str

    @property
    def bootstrap(self) -> str:
        """`host:port`, several separated by commas."""

    @property
    def is_real(self) -> bool:
        """Whether it is Apache Kafka, and no mock."""


def kafka_for_tests() -> ExternalKafka | PrivateKafka | MockKafka:
    """The server for a whole test session, not started yet: use it as a context manager."""
    if named := os.environ.get(VARIABLE):
        return ExternalKafka(named)
    try:
        return PrivateKafka()
    except ServerError as missing:
        mock = MockKafka(brokers=1)
        mock.source = f"NO REAL KAFKA but {mock.source}, because {missing}"
        return mock


class ExternalKafka:
    """Brokers that somebody else runs. Tests make topics there, under names of their own, and leave them."""

    is_real = True

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap
        self.source = f"Kafka, the server that {VARIABLE} names"

    def __enter__(self) -> ExternalKafka:
        if not answers(self.bootstrap, 20):
            raise ServerError(f"{VARIABLE} names {self.bootstrap}, where no Kafka answers")
        return self

    def __exit__(self, *_: object) -> None:
        """It goes on running."""


class PrivateKafka(PrivateServer):
    """One Apache Kafka broker of our own, its own controller too. Survives `kill()`: what it took in is in files.

    Raises `ServerError` when made, if there is no Java 17, or no Maven and no libraries from an earlier run.
    """

    name = "kafka"
    start_limit_seconds = 90.0
    is_real = True

    def __init__(self, *, durable: bool = False) -> None:
        self._libraries = libraries()
        self._classes = f"-XX:SharedArchiveFile={self._libraries.parent / CLASSES}"
        super().__init__(durable=durable)
        self._controller_port = free_port()
        self.source = f"Apache Kafka {VERSION}, private, KRaft, from Maven Central"

    @property
    def bootstrap(self) -> str:
        return f"{LOOPBACK}:{self.port}"

    def command(self) -> list[str]:
        return java(self._libraries, self._classes, "kafka.Kafka", str(self._properties))

    def prepare(self) -> None:
        if not self._data.exists():
            shutil.copytree(self._libraries.parent / "formatted", self._data)
            self._properties.write_text(properties(self._data, self.port, self._controller_port))

    def is_ready(self) -> bool:
        return answers(self.bootstrap, 0.5)

    def close(self) -> None:
        self.kill()  # nobody wants what it would write
        super().close()

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    @property
    def _properties(self) -> Path:
        return self.folder / "server.properties"


def properties(data: Path, port: int, controller_port: int) -> str:
    """The smallest broker: every inner topic has one copy and few partitions, groups form at once."""
    settings = {
        "process.roles": "broker,controller",
        "node.id": 1,
        "controller.quorum.voters": f"1@{LOOPBACK}:{controller_port}",
        "listeners": f"PLAINTEXT://{LOOPBACK}:{port},CONTROLLER://{LOOPBACK}:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://{LOOPBACK}:{port}",
        "controller.listener.names": "CONTROLLER",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "log.dirs": data,
        "log.segment.bytes": 16 * 1024**2,
        "log.index.size.max.bytes": 1024**2,
        "log.cleaner.dedupe.buffer.size": 4 * 1024**2,
        "auto.create.topics.enable": "false",
        "offsets.topic.replication.factor": 1,
        "offsets.topic.num.partitions": 1,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "transaction.state.log.num.partitions": 1,
        "broker.heartbeat.interval.ms": 200,
        "broker.session.timeout.ms": 1000,  # one that was killed is let in again after this
        "group.initial.rebalance.delay.ms": 0,
        "group.min.session.timeout.ms": 500,
    }
    return "".join(f"{name}={value}\n" for name, value in settings.items())


def answers(bootstrap: str, seconds: float) -> bool:
    client = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0, "error_cb": lambda _: None})
    try:
        return bool(client.list_topics(timeout=seconds).brokers)
    except KafkaException:
        return False


def libraries() -> Path:
    """The folder of the broker's jars; fetched by Maven once a version, with a data folder formatted beside it."""
    require_java()
    kept = cache() / f"kafka-{VERSION}"
    if not (kept / "formatted").exists():
        fetch(kept)
        archive_classes(kept / CLASSES)
    return kept / "jars"


def cache() -> Path:
    """What may be kept between runs, and be deleted at any time."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "allocation"


def require_java() -> None:
    found = shutil.which("java")
    if found is None:
        raise ServerError("there is no Java")
    told = subprocess.run([found, "-version"], capture_output=True, text=True, check=True).stderr
    match = re.search(r'version "(\d+)', told)
    if match is None or int(match.group(1)) < OLDEST_JAVA:
        raise ServerError(f"Java is older than {OLDEST_JAVA}: {told.strip()[:80]}")


def fetch(kept: Path) -> None:
    """Make the folder `kept` whole, or not at all: several test runs may come here at once."""
    if shutil.which("mvn") is None:
        raise ServerError("there is no Maven to fetch it")
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept.parent) as folder:
        pom, made = Path(folder) / "pom.xml", Path(folder) / "made"
        pom.write_text(POM)
        run(["mvn", "-B", "-q", "-f", str(pom), "dependency:copy-dependencies", f"-DoutputDirectory={made / 'jars'}"])
        settings = Path(folder) / "server.properties"
        settings.write_text(properties(made / "formatted", 1, 2))
        tool = ["kafka.tools.StorageTool", "format", "-t", "YWxsb2NhdGlvbi10ZXN0cw", "-c", str(settings)]
        run(java(made / "jars", *tool))
        try:
            made.rename(kept)
        except OSError:
            if not kept.exists():  # else another run was quicker
                raise


def archive_classes(archive: Path) -> None:
    """Start once and keep the classes as Java has them in memory: later starts take half the time."""
    making = archive.with_name(f"{archive.name}-{os.getpid()}")
    first = PrivateKafka()
    first._classes = f"-XX:ArchiveClassesAtExit={making}"
    with first:
        first.stop()  # it is written at an orderly end
    making.replace(archive)


def java(jars: Path, *arguments: str) -> list[str]:
    """A program of the jars; of the arguments those for Java itself come first."""
    return [shutil.which("java") or "java", *HEAP, *QUIET, "-cp", f"{jars}/*", *arguments]


def run(command: list[str]) -> None:
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, stdin=subprocess.DEVNULL)
    if ran.returncode != 0:
        raise ServerError(f"{command[0]} failed: {(ran.stdout + ran.stderr).strip()[-500:]}")
