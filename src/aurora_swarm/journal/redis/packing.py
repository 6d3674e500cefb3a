"""Lists for scripts: MessagePack as Redis 6.2 reads it, which knows text of any bytes, but no `bin`."""

from __future__ import annotations

from collections.abc import Iterable

Piece = tuple[int, bytes]
"""Part of a list: how many things, and these in their encoding."""


def piece(parts: Iterable[bytes | int]) -> Piece:
    """Byte strings, and numbers from 0 on.

    Raises:
        OverflowError: A number is negative.
    """
    encoded = list(map(_encoded, parts))
    return len(encoded), b"".join(encoded)


def joined(pieces: Iterable[Piece]) -> bytes:
    """The list that pieces make."""
    pieces = list(pieces)
    count = sum(number for number, _ in pieces)
    return b"".join((b"\xdd", count.to_bytes(4, "big"), *(body for _, body in pieces)))


def packed(parts: Iterable[bytes | int]) -> bytes:
    """A list of byte strings and numbers."""
    return joined([piece(parts)])


def _encoded(part: bytes | int) -> bytes:
    if isinstance(part, int):
        return b"\xcf" + part.to_bytes(8, "big")
    return b"\xdb" + len(part).to_bytes(4, "big") + part
