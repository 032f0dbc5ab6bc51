"""Bytes of AMQP messages that proton does not take apart by itself."""

from __future__ import annotations

from collections.abc import Iterator

from proton import Message

DATA = 0x75
FIXED_BYTES = {0x4: 0, 0x5: 1, 0x6: 2, 0x7: 4, 0x8: 8, 0x9: 16}


def messages_in(encoded: bytes) -> list[Message]:
    """One message; or all of a batch (message format 0x80013700), which is a message whose body is several sections of
    data, each a whole encoded message."""
    parts = list(data_sections(encoded))
    if parts and all(part[:2] in (b"\x00\x53", b"\x00\x80") for part in parts):
        return [decoded(part) for part in parts]
    return [decoded(encoded)]


def decoded(encoded: bytes) -> Message:
    message = Message()
    message.decode(encoded)
    return message


def data_sections(encoded: bytes) -> Iterator[bytes]:
    """The contents of the top-level sections of data; none if the body is of another kind."""
    at = 0
    while at < len(encoded) and encoded[at] == 0:
        section = _behind(encoded, at + 1)
        end = _behind(encoded, section)
        if encoded[section - 1] == DATA:
            yield bytes(encoded[section + (2 if encoded[section] == 0xA0 else 5) : end])
        at = end


def _behind(encoded: bytes, at: int) -> int:
    """Where the value that begins here ends."""
    kind, at = encoded[at], at + 1
    if kind == 0:  # a described value: descriptor, then value
        return _behind(encoded, _behind(encoded, at))
    if kind >> 4 in FIXED_BYTES:
        return at + FIXED_BYTES[kind >> 4]
    if kind >> 4 in (0xA, 0xC, 0xE):
        return at + 1 + encoded[at]
    return at + 4 + int.from_bytes(encoded[at : at + 4], "big")
