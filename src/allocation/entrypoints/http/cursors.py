"""The cursor of the feeds: positions in the log, as a token that is opaque to clients.

A program that follows the messages of a broker knows positions, but has no token; so plain positions are accepted, too.
"""

from __future__ import annotations

import binascii
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from zlib import crc32

from allocation.service_layer.envelope import LogPosition
from allocation.service_layer.errors import UnknownPosition

_POSITION = re.compile(r"(0|[1-9][0-9]{0,3})-(0|[1-9][0-9]{0,17})")
_POSITIONS = re.compile(rf"{_POSITION.pattern}(\.{_POSITION.pattern})*")


class ForgedCursor(ValueError):
    """This token was not made by `encode_cursor`."""


def encode_cursor(positions: Sequence[LogPosition]) -> str:
    """The checksum guards against mistakes of a client, not against malice: a cursor gives access to nothing that the
    feed does not show anyway."""
    plain = ".".join(map(str, positions)).encode()
    return urlsafe_b64encode(crc32(plain).to_bytes(4) + plain).rstrip(b"=").decode()


def decode_cursor(token: str, partitions: int) -> list[LogPosition]:
    """The positions, at most one for each partition. Raises `ForgedCursor`, and `UnknownPosition` for a position in a
    partition that the log does not have: that cursor is of another log.

    Plain positions are accepted, too, as in `0-17.1-4`: no token looks like that, because each has a letter.
    """
    is_plain = _POSITIONS.fullmatch(token) is not None
    plain = token if is_plain else _opened(token)
    found = [_POSITION.fullmatch(part) for part in plain.split(".")] if plain else []
    positions = [LogPosition(int(match[1]), int(match[2])) for match in found if match is not None]
    known = {position.partition for position in positions}
    # Encoding it again finds the other faults: other spellings of the same bytes, a wrong checksum, characters that
    # base64 skips.
    if len(known) < len(found) or not (is_plain or encode_cursor(positions) == token):
        raise ForgedCursor(token)
    for position in positions:
        if position.partition >= partitions:
            raise UnknownPosition(position)
    return positions


def _opened(token: str) -> str:
    """What a token holds, without its checksum."""
    try:
        raw = urlsafe_b64decode(token + "=" * (-len(token) % 4))
    except (ValueError, binascii.Error):
        raise ForgedCursor(token) from None
    return raw[4:].decode("ascii", "replace")
