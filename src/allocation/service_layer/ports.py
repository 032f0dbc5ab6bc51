"""What reactions need of the world outside, as ports."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime


class Notifications(ABC):
    """Tells people. Callers may not assume that a message is read, nor that it arrives once: a second one under the
    same `message_id` is the same message, and mail programs show it once."""

    @abstractmethod
    def send(self, destination: str, subject: str, body: str, message_id: str) -> None:
        """Returns when the message was accepted for delivery. Raises `Unavailable` if there is nobody to accept it,
        `Rejected` if it is refused for good."""


class Channel(ABC):
    """Tells programs, on a named channel. Callers may not assume that anybody listens, nor that a listener hears
    everything: a channel forgets. Messages of one caller arrive in order."""

    @abstractmethod
    def publish(self, name: str, message: Mapping[str, object]) -> None:
        """Returns when the broker has taken the message. Raises `Unavailable` if it cannot be reached."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that came in and could not be handled: what it was, where it came from, and why not."""

    id: str
    source: str
    body: str
    reason: str
    time: datetime


class DeadLetters(ABC):
    """Where messages end that nobody can handle, so that nothing is lost and the next one is served."""

    @abstractmethod
    def park(self, source: str, body: bytes, reason: str) -> None:
        """Keep a message, durably. Raises `Unavailable`."""

    @abstractmethod
    def parked(self, limit: int = 100, behind: str | None = None) -> list[DeadLetter]:
        """What is kept, the newest first; `behind` the one of this id, which may be gone by now. Raises
        `Unavailable`, as all of these."""

    @abstractmethod
    def letter(self, letter_id: str) -> DeadLetter | None:
        """One of them; None if it is not kept, or not any more."""

    @abstractmethod
    def remove(self, letter_id: str) -> bool:
        """Forget one for good. Answers whether it was there."""

    @abstractmethod
    def count(self) -> int:
        """How much is kept."""
