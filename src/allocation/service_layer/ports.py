"""What reactions need from outside, as ports."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime


class Notifications(ABC):
    """Sends messages to people. Callers may not assume that a message is read, nor that it arrives only once: a second
    one with the same `message_id` is the same message, and mail programs show it once."""

    @abstractmethod
    def send(self, destination: str, subject: str, body: str, message_id: str) -> None:
        """Returns when the message has been accepted for delivery. Raises `Unavailable` if nothing is there to accept
        it, `Rejected` if it is refused for good."""


class Channel(ABC):
    """Sends messages to programs, on a named channel. Callers may not assume that anybody listens, nor that a listener
    gets every message: a channel keeps none. Messages of one caller arrive in order."""

    @abstractmethod
    def publish(self, name: str, message: Mapping[str, object]) -> None:
        """Returns when the broker has accepted the message. Raises `Unavailable` if it cannot be reached."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that came in and could not be handled: what it was, where it came from, and the reason."""

    id: str
    source: str
    body: str
    reason: str
    time: datetime


class DeadLetters(ABC):
    """Where messages are kept that could not be handled, so that nothing is lost and the next one can be handled."""

    @abstractmethod
    def keep(self, source: str, body: bytes, reason: str) -> None:
        """Store a message, durably. Raises `Unavailable`."""

    @abstractmethod
    def newest(self, limit: int = 100, behind: str | None = None) -> list[DeadLetter]:
        """What is kept, the newest first; `behind`: only what follows the one with this id, which may be gone by now.
        Raises `Unavailable`, as all of these methods do."""

    @abstractmethod
    def letter(self, letter_id: str) -> DeadLetter | None:
        """One of them; None if it is not kept, or no longer."""

    @abstractmethod
    def remove(self, letter_id: str) -> bool:
        """Delete one for good. Returns whether it was there."""

    @abstractmethod
    def count(self) -> int:
        """How many are kept."""
