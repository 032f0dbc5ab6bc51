"""The Kafka that the other tests stand on: a real one where it can be had, and it is said where it cannot."""

from pathlib import Path

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from tests.servers import kafka
from tests.servers.kafka import ExternalKafka, Kafka, PrivateKafka, kafka_for_tests
from tests.servers.kafka_mock import MockKafka
from tests.servers.process import ServerError

LONG_SECONDS = 20.0


def test_it_is_apache_kafka(kafka_server: Kafka) -> None:
    if not kafka_server.is_real:
        pytest.skip(kafka_server.source)
    admin = AdminClient({"bootstrap.servers": kafka_server.bootstrap})
    assert admin.describe_cluster(request_timeout=LONG_SECONDS).result().controller.id == 1
    topic = NewTopic("it-is-kafka", 1, 1, config={"cleanup.policy": "compact"})  # which the mock cannot make
    admin.create_topics([topic], request_timeout=LONG_SECONDS)["it-is-kafka"].result()
    admin.delete_topics(["it-is-kafka"], request_timeout=LONG_SECONDS)["it-is-kafka"].result()


def test_a_named_kafka_is_used_and_left_running(kafka_server: Kafka, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(kafka.VARIABLE, kafka_server.bootstrap)
    with kafka_for_tests() as named:
        assert isinstance(named, ExternalKafka)
        assert named.bootstrap == kafka_server.bootstrap
    assert kafka.answers(kafka_server.bootstrap, LONG_SECONDS)


@pytest.mark.parametrize("missing", ["java", "mvn"])
def test_where_no_kafka_can_be_had_a_mock_stands_in_and_says_so(
    missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(kafka.VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(kafka.shutil, "which", lambda name: None if name == missing else f"/usr/bin/{name}")
    monkeypatch.setattr(kafka, "require_java", kafka.require_java if missing == "java" else lambda: None)
    mock = kafka_for_tests()
    assert isinstance(mock, MockKafka)
    assert mock.source.startswith("NO REAL KAFKA")
    assert not mock.is_real


def test_what_maven_cannot_fetch_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def fails(command: list[str]) -> None:
        raise ServerError(f"{command[0]} failed: no such repository")

    monkeypatch.setattr(kafka, "run", fails)
    monkeypatch.setattr(kafka, "require_java", lambda: None)
    monkeypatch.setattr(kafka.shutil, "which", lambda name: f"/usr/bin/{name}")
    with pytest.raises(ServerError, match="no such repository"):
        PrivateKafka()
    assert list((tmp_path / "allocation").iterdir()) == []


def test_the_mock_cluster_takes_messages_and_loses_a_broker() -> None:
    with MockKafka(brokers=2) as cluster:
        cluster.make_topic("chairs", 2)
        cluster.lead("chairs", 0, 1)
        cluster.lead("chairs", 1, 2)
        cluster.down(1)
        outcomes: dict[int, bool] = {}
        producer = Producer({"bootstrap.servers": cluster.bootstrap, "message.timeout.ms": 1500, "log_level": 0})
        for partition in (0, 1):
            producer.produce(
                "chairs",
                b"RED-CHAIR",
                partition=partition,
                on_delivery=lambda error, message: outcomes.update({message.partition(): error is None}),
            )
        producer.flush(LONG_SECONDS)
        assert outcomes == {0: False, 1: True}
        cluster.up(1)
