"""For other programs: follow the facts of an allocation service, over any transport, and miss nothing.

    replica = Replica(SqliteReplicaStore(connection, apply), HttpFeed("http://127.0.0.1:5005"))
    replica.catch_up()
    for message in transport:
        replica.take(message)
    # and every second or so:
    replica.check()

Uses only the standard library, and nothing from the rest of this package: a program that does not want the whole
service can copy this folder. docs/decisions/0015 explains how it recovers what a transport loses.
"""

from .facts import AnotherLog, Fact, FeedUnavailable, NotAFact, OutOfTurn, ReplicaError, fact_from, message_from
from .feed import Feed, HttpFeed
from .follower import Replica
from .rounds import Counts
from .stores import MemoryReplicaStore, ReplicaStore, SqliteReplicaStore

__all__ = [
    "AnotherLog",
    "Counts",
    "Fact",
    "Feed",
    "FeedUnavailable",
    "HttpFeed",
    "MemoryReplicaStore",
    "NotAFact",
    "OutOfTurn",
    "Replica",
    "ReplicaError",
    "ReplicaStore",
    "SqliteReplicaStore",
    "fact_from",
    "message_from",
]
