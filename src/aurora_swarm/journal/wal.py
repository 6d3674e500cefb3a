"""Finds damage in a write-ahead log of SQLite that SQLite itself passes over in silence.

SQLite takes the first frame whose checksum is wrong for the end of the log. That is right for a write that a crash cut
off, and it hides every commit behind a byte that has changed. A frame's checksum goes on from the one before it, so
each frame can be checked against its predecessor alone. Format: https://www.sqlite.org/fileformat2.html#walformat
"""

from __future__ import annotations

import struct
import sys
from array import array

_HEADER_BYTES = 32
_FRAME_HEADER_BYTES = 24
_MAGIC_LITTLE = 0x377F0682
_MAGIC_BIG = 0x377F0683


def damaged_frames(wal: bytes, page_size: int) -> int:
    """How many frames of the latest generation are damaged or cut off.

    Args:
        wal: The whole file.
        page_size: Bytes in a page of the database.

    Returns:
        0 for a log that is whole; 1 for a header that is damaged, since nothing behind it can be told apart.
    """
    if not wal:
        return 0
    if len(wal) < _HEADER_BYTES:
        return 1
    magic, _, size, _, salt1, salt2, sum1, sum2 = struct.unpack(">8I", wal[:_HEADER_BYTES])
    if magic not in {_MAGIC_LITTLE, _MAGIC_BIG} or size != page_size:
        return 1
    order = "little" if magic == _MAGIC_LITTLE else "big"
    if _checksum(wal[: _HEADER_BYTES - 8], (0, 0), order) != (sum1, sum2):
        return 1
    return _damaged(memoryview(wal)[_HEADER_BYTES:], page_size, (salt1, salt2), (sum1, sum2), order)


def _damaged(frames: memoryview, page_size: int, salts: tuple[int, int], checksum: tuple[int, int], order: str) -> int:
    damaged = 0
    for start in range(0, len(frames), _FRAME_HEADER_BYTES + page_size):
        frame = frames[start : start + _FRAME_HEADER_BYTES + page_size]
        if len(frame) < _FRAME_HEADER_BYTES:
            return damaged + 1
        *_, salt1, salt2, sum1, sum2 = struct.unpack(">6I", frame[:_FRAME_HEADER_BYTES])
        if salt1 != salts[0] and salt2 != salts[1]:
            break  # what an earlier generation left behind
        whole = len(frame) == _FRAME_HEADER_BYTES + page_size and (salt1, salt2) == salts
        content = bytes(frame[:8]) + bytes(frame[_FRAME_HEADER_BYTES:])
        if not whole or _checksum(content, checksum, order) != (sum1, sum2):
            damaged += 1
        checksum = (sum1, sum2)
    return damaged


def _checksum(data: bytes, start: tuple[int, int], order: str) -> tuple[int, int]:
    """SQLite's checksum over a multiple of 8 bytes, going on from `start`."""
    words = array("I", data)
    if order != sys.byteorder:
        words.byteswap()
    first, second = start
    for even, odd in zip(words[::2], words[1::2], strict=True):
        first = (first + even + second) & 0xFFFFFFFF
        second = (second + odd + first) & 0xFFFFFFFF
    return first, second
