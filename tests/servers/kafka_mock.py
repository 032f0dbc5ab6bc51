"""librdkafka's own mock cluster, which lies inside the wheel confluent-kafka: several brokers in one process.

It speaks Kafka's protocol to any client and can take a broker down, but it is no Kafka: it keeps nothing on disk, knows
no transactions and makes no topics when asked to. For faults that one real broker cannot have.
"""

from __future__ import annotations

import ctypes
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]


class MockKafka:
    """The cluster, in a process of its own that ends with this one. Not started yet: use it as a context manager."""

    is_real = False

    def __init__(self, brokers: int = 3) -> None:
        self.brokers = brokers
        self.bootstrap = ""
        self.source = "librdkafka's mock cluster"
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> MockKafka:
        command = [sys.executable, "-m", "tests.servers.kafka_mock", str(self.brokers)]
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        self.bootstrap = self._answer()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.communicate(timeout=20)  # closes its standard input: it ends

    def make_topic(self, name: str, partitions: int) -> None:
        self._say("topic", name, partitions)

    def lead(self, topic: str, partition: int, broker: int) -> None:
        """Make a broker (1, 2, ...) the leader of a partition."""
        self._say("lead", topic, partition, broker)

    def down(self, broker: int) -> None:
        self._say("down", broker)

    def up(self, broker: int) -> None:
        self._say("up", broker)

    def _say(self, *words: object) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(" ".join(map(str, words)) + "\n")
        self._process.stdin.flush()
        if (told := self._answer()) != "0":
            raise RuntimeError(f"the mock cluster did not {' '.join(map(str, words))}: error {told}")

    def _answer(self) -> str:
        assert self._process is not None
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


def _library() -> ctypes.CDLL:
    import confluent_kafka

    beside = Path(confluent_kafka.__file__).parents[1] / "confluent_kafka.libs"
    found = ctypes.CDLL(str(next(beside.glob("librdkafka*.so*"))))
    pointer, text, integer = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int32
    for name, result, arguments in (
        ("conf_new", pointer, []),
        ("conf_set", ctypes.c_int, [pointer, text, text, text, ctypes.c_size_t]),
        ("new", pointer, [ctypes.c_int, pointer, text, ctypes.c_size_t]),
        ("mock_cluster_new", pointer, [pointer, ctypes.c_int]),
        ("mock_cluster_bootstraps", text, [pointer]),
        ("mock_group_initial_rebalance_delay_ms", None, [pointer, integer]),
        ("mock_topic_create", ctypes.c_int, [pointer, text, ctypes.c_int, ctypes.c_int]),
        ("mock_partition_set_leader", ctypes.c_int, [pointer, text, integer, integer]),
        ("mock_broker_set_down", ctypes.c_int, [pointer, integer]),
        ("mock_broker_set_up", ctypes.c_int, [pointer, integer]),
    ):
        function = getattr(found, f"rd_kafka_{name}")
        function.restype, function.argtypes = result, arguments
    return found


def main(brokers: int) -> None:
    """Serve until standard input ends; each line of it is a change, answered by librdkafka's error code."""
    library, why = _library(), ctypes.create_string_buffer(512)
    settings = library.rd_kafka_conf_new()
    library.rd_kafka_conf_set(settings, b"log_level", b"0", why, 512)
    client = library.rd_kafka_new(0, settings, why, 512)
    cluster = library.rd_kafka_mock_cluster_new(client, brokers)
    library.rd_kafka_mock_group_initial_rebalance_delay_ms(cluster, 0)
    changes: dict[str, Callable[..., int]] = {
        "topic": lambda name, count: library.rd_kafka_mock_topic_create(cluster, name.encode(), int(count), 1),
        "lead": lambda name, partition, broker: library.rd_kafka_mock_partition_set_leader(
            cluster, name.encode(), int(partition), int(broker)
        ),
        "down": lambda broker: library.rd_kafka_mock_broker_set_down(cluster, int(broker)),
        "up": lambda broker: library.rd_kafka_mock_broker_set_up(cluster, int(broker)),
    }
    _tell(library.rd_kafka_mock_cluster_bootstraps(cluster).decode())
    for line in sys.stdin:
        what, *words = line.split()
        _tell(str(changes[what](*words)))


def _tell(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]))
