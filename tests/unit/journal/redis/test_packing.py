"""What is packed for a script is what a reader of MessagePack reads."""

from __future__ import annotations

import pytest

from aurora_swarm.journal.redis.packing import joined, packed, piece


def read(data: bytes) -> list[bytes | int]:
    """As the library inside Redis reads a flat list."""
    assert data[:1] == b"\xdd"
    count, at, parts = int.from_bytes(data[1:5], "big"), 5, list[bytes | int]()
    for _ in range(count):
        if data[at] == 0xCF:
            parts.append(int.from_bytes(data[at + 1 : at + 9], "big"))
            at += 9
        else:
            assert data[at] == 0xDB
            size = int.from_bytes(data[at + 1 : at + 5], "big")
            parts.append(data[at + 5 : at + 5 + size])
            at += 5 + size
    assert at == len(data)
    return parts


@pytest.mark.parametrize("parts", [[], [b""], [0, 2**63, b"\xff\x00"], [b"x" * 70_000, 1]])
def test_parts_are_read_as_they_were(parts: list[bytes | int]) -> None:
    assert read(packed(parts)) == parts


def test_pieces_make_one_list() -> None:
    assert read(joined([piece([b"a", 1]), piece([]), piece([b"b"])])) == [b"a", 1, b"b"]


def test_a_negative_number_is_refused() -> None:
    with pytest.raises(OverflowError):
        piece([-1])
