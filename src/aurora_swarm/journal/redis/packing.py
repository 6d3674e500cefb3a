"""Lists for scripts: MessagePack as Redis 6.2 reads it, which knows text of any bytes, but no `bin`."""

from __future__ import annotations

from collections.abc import Sequence


def packed(parts: Sequence[bytes | int]) -> bytes:
    """A flat list of byte strings and of numbers from 0 on."""
    return b"".join((b"\xdd", len(parts).to_bytes(4, "big"), *map(_part, parts)))


def packed_lists(*lists: Sequence[bytes | int]) -> bytes:
    """A list of such lists."""
    return b"".join((b"\xdd", len(lists).to_bytes(4, "big"), *map(packed, lists)))


def _part(part: bytes | int) -> bytes:
    if isinstance(part, int):
        return b"\xcf" + part.to_bytes(8, "big")
    return b"\xdb" + len(part).to_bytes(4, "big") + part
