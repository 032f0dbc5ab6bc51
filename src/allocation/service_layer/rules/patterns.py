"""LIKE's patterns. `%` is any text, `_` one character, and what follows the escape character means itself.

A pattern is split at its `%` into pieces, each of a fixed length. The first piece has to stand at the text's beginning,
the last at its end, and each of the others at its first place after the piece before: if the rest does not fit after
that place, it fits after no later one. So nothing is tried twice, and making a matcher costs no more than reading the
pattern. That matters, because patterns may come with the messages.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

from allocation.service_layer.rules.values import RuleFailed, Value, kind_of


def matcher(pattern: Value, escape: Value) -> Callable[[str], bool]:
    """Returns whether a whole text matches the pattern. Raises `RuleFailed` if the pattern is not valid."""
    if not isinstance(pattern, str):
        raise RuleFailed(f"LIKE needs a text as its pattern, but {pattern!r} is {kind_of(pattern)}")
    if escape is not None and not (isinstance(escape, str) and len(escape) == 1):
        raise RuleFailed(f"ESCAPE needs a text of one character, not {escape!r}")
    first, *others = _pieces(pattern, escape)
    if not others:
        return lambda text: len(text) == first.length and first.stands_at(text, 0)
    *between, last = others
    middle = [piece for piece in between if piece.length]

    def matches(text: str) -> bool:
        at, end = first.length, len(text) - last.length
        if at > end or not first.stands_at(text, 0) or not last.stands_at(text, end):
            return False
        for piece in middle:
            at = piece.end_of_first(text, at, end)
            if at < 0:
                return False
        return True

    return matches


def _pieces(pattern: str, escape: str | None) -> list[_Plain | _Wild]:
    if escape is None or escape not in pattern:
        return [_Wild(list(piece), "_") if "_" in piece else _Plain(piece) for piece in pattern.split("%")]
    pieces: list[list[str]] = [[]]
    characters = iter(pattern)
    for character in characters:
        if character == escape:
            literal = next(characters, None)
            if literal is None:
                raise RuleFailed(f"The pattern {pattern!r} ends in its escape character")
            pieces[-1].append(literal)
        elif character == "%":
            pieces.append([])
        else:
            pieces[-1].append(_ANY if character == "_" else character)
    return [_Wild(piece, _ANY) if _ANY in piece else _Plain("".join(piece)) for piece in pieces]


_ANY = ""
"""Stands for `_` in a pattern with an escape character, where an escaped `_` means itself."""


class _Plain:
    """A piece without `_`."""

    __slots__ = ("_piece", "length")

    def __init__(self, piece: str) -> None:
        self._piece, self.length = piece, len(piece)

    def stands_at(self, text: str, at: int) -> bool:
        return text.startswith(self._piece, at)

    def end_of_first(self, text: str, start: int, end: int) -> int:
        """Behind its first place from `start` on that ends by `end`; -1: there is none."""
        found = text.find(self._piece, start, end)
        return found if found < 0 else found + self.length


class _Wild:
    """A piece with `_`, here `any_one`: its other characters, with their places."""

    __slots__ = ("_characters", "length")

    def __init__(self, piece: Sequence[str], any_one: str) -> None:
        self.length = len(piece)
        self._characters = [(n, character) for n, character in enumerate(piece) if character != any_one]

    def stands_at(self, text: str, at: int) -> bool:
        return all(text[at + n] == character for n, character in self._characters)

    def end_of_first(self, text: str, start: int, end: int) -> int:
        """Behind its first place from `start` on that ends by `end`; -1: there is none.

        All places are tried at once: bit n of `left` says whether the piece may still stand at n.
        """
        if end - start < self.length:
            return -1
        places, left = _places(text), (1 << end - self.length + 1) - (1 << start)
        for n, character in self._characters:
            left &= places[character] >> n
            if not left:
                return -1
        return (left & -left).bit_length() - 1 + self.length


class _Places(dict[str, int]):
    """Where each character stands in a text: bit n is set if it stands at n. Computed when asked for."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __missing__(self, character: str) -> int:
        found = 0
        if character in self._text:
            found = int("".join("1" if c == character else "0" for c in reversed(self._text)), 2)
        self[character] = found
        return found


_places = lru_cache(maxsize=64)(_Places)
"""Many patterns are matched against one text, then against the next."""
