"""The results of one call of a replica, and of all its calls."""

from __future__ import annotations

from dataclasses import dataclass, field

from .facts import Fact
from .marks import Marks
from .stores import ReplicaStore


@dataclass(slots=True)
class Counts:
    """How facts and messages came, since this replica was made.

    `by_transport` and `by_feed`: facts applied. `duplicates`: messages dropped because their version was already
    passed. `fetched`: events that the feed gave; `questions`: how often it was asked; `unanswered`: how often in vain.
    `gaps`: how often a version was missing. `refused`: messages from which no fact could be read (counted by `run`).
    """

    by_transport: int = 0
    by_feed: int = 0
    duplicates: int = 0
    fetched: int = 0
    questions: int = 0
    unanswered: int = 0
    gaps: int = 0
    refused: int = 0


@dataclass(slots=True)
class Round:
    """What is going to be written: facts and how they came, the versions after them, marks."""

    store: ReplicaStore
    marks: dict[int, Marks]
    facts: list[Fact] = field(default_factory=list)
    by_feed: int = 0
    versions: dict[str, int] = field(default_factory=dict)
    touched: set[int] = field(default_factory=set)

    def version(self, sku: str) -> int:
        if sku not in self.versions:
            self.versions[sku] = self.store.version(sku)
        return self.versions[sku]

    def see(self, fact: Fact) -> None:
        known = self.marks.get(fact.partition, Marks())
        if known.has(fact.seq):
            return
        if fact.partition not in self.touched:
            known = self.marks[fact.partition] = known.copy()
            self.touched.add(fact.partition)
        known.add(fact.seq)

    def put(self, fact: Fact, by_feed: bool) -> None:
        self.facts.append(fact)
        self.by_feed += by_feed
        self.versions[fact.sku] = fact.version
        self.see(fact)
