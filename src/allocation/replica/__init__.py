"""For other programs: follow the facts of an allocation service, over any transport, and miss nothing.

    replica = Replica(SqliteReplicaStore(connection, apply), HttpFeed("http://127.0.0.1:5005"))
    replica.catch_up()
    for message in transport:
        replica.take(message)
    # and every second or so:
    replica.check()

Standard library only, and nothing of the rest of this package: who does not want all that belongs to the service copies
this folder. docs/decisions/0015 tells how it heals a transport that loses messages.
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
