"""What identifies a piece of work: the hash of everything that determines its answer. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

import msgspec

from aurora_swarm.values.call import Sampling
from aurora_swarm.values.message import Message

_FORMAT = 2
"""Part of every key: raise it when the same ingredients lead to another answer than before."""


class Determinants(msgspec.Struct, frozen=True):
    """What determines an answer besides the input.

    Where a run is done is not among it: a model is known by its name, on whatever endpoints it is served.

    Args:
        model: Model name.
        sampling: How tokens are picked.
        schema: JSON schema of the answer, encoded; empty for free text.
        tools: For each tool its name, description, parameters and configuration, encoded.
        max_turns: Turns at most.
        max_retries: Re-asks at most.
        tool_choice: Whether a tool must be used.
        protocol: How tools are asked for; as it was settled on, never ``auto``.
        compaction: What happens to a conversation that outgrows the context, with whatever bounds it; empty where
            nothing happens.
        layout: How what all inputs share is laid out in front of them.
        runtime: What leads the conversation, with its version; empty for our own turns.
        reminder: What is said after a tool's answer, before the task is filled in.
    """

    model: str
    sampling: Sampling
    schema: bytes
    tools: tuple[bytes, ...]
    max_turns: int
    max_retries: int
    tool_choice: str
    protocol: str = ""
    compaction: str = ""
    layout: str = ""
    runtime: str = ""
    reminder: str = ""


class KeyMaker:
    """Makes content keys for one run.

    Args:
        determinants: What all inputs of the run share.
    """

    def __init__(self, determinants: Determinants) -> None:
        shared = hashlib.sha256(f"aurora-swarm:{_FORMAT}:".encode())
        shared.update(msgspec.json.encode(determinants))
        self._shared = shared
        self._occurrences = Occurrences()

    def key(self, messages: tuple[Message, ...], grants: bytes | Sequence[bytes] = b"") -> str:
        """The key of one input.

        Equal inputs get different keys, by how often they occurred before, so that each keeps an answer of its own.

        Args:
            messages: How the conversation begins; holds the system prompt and the rendered input.
            grants: What this agent's tools may touch, and in which state it is; best apart for each tool.
        """
        digest = self._shared.copy()
        digest.update(_encoded((messages, grants)))
        content = digest.digest()[:16]
        occurrence = self._occurrences.count(content)
        return content.hex() if occurrence == 0 else f"{content.hex()}-{occurrence}"


def _encoded(ingredients: object) -> bytes:
    try:
        return msgspec.json.encode(ingredients)
    except UnicodeEncodeError:  # half a surrogate pair: whoever sends it refuses it, and says where it is
        return json.dumps(msgspec.to_builtins(ingredients)).encode()


class Occurrences:
    """How often each content occurred before, in ten bits for each.

    The first contents are counted one by one. Those after them are marked in a Bloom filter, together with the number
    of the occurrence: the first number that is not marked is the next. A content may so get a number that is too high
    (of a million contents, about one), never one that an equal content had. The same contents in the same order get
    the same numbers in every run; in another order a number that was too high may differ, and that input's work is
    done again.

    All marks of a content lie in one block of 64 bytes, so that each costs one look into a memory far larger than a
    processor's cache. Source: Putze, Sanders and Singler, Cache-, Hash- and Space-Efficient Bloom Filters (2007).

    Args:
        exact: Contents that are counted one by one.
        bits: Size of the first filter, a power of two; each further one is twice as large. Memory is taken when it is
            used.
    """

    def __init__(self, exact: int = 10_000, bits: int = 2**26) -> None:
        self._exact = exact
        self._counts: dict[bytes, int] = {}
        self._bits = max(bits, 8 * _BLOCK)
        self._filters: list[bytearray] = []
        self._room = 0

    def count(self, content: bytes) -> int:
        """How often a content occurred before; this occurrence is counted from now on.

        Args:
            content: A digest of it, 16 bytes.
        """
        before = self._counts.get(content, 0)
        if before or len(self._counts) < self._exact:
            self._counts[content] = before + 1
            return before
        marks = _marks_of(content)
        number = 0
        if self._are_set(*marks):
            number = self._first_unmarked(content)
            marks = _marks_of(_numbered(content, number))
        self._set(*marks)
        return number

    def _first_unmarked(self, content: bytes) -> int:
        """Doubles its steps until it is past the last marked number, then halves them: equal inputs may be many."""
        low, high = 0, 1
        while self._is_marked(content, high):
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._is_marked(content, middle) else (low, middle)
        return high

    def _is_marked(self, content: bytes, number: int) -> bool:
        return self._are_set(*_marks_of(_numbered(content, number)))

    def _are_set(self, place: int, marks: int) -> bool:
        for filled in self._filters:
            start = (place & (len(filled) >> _BLOCK_SHIFT) - 1) << _BLOCK_SHIFT
            if int.from_bytes(filled[start : start + _BLOCK], "little") & marks == marks:
                return True
        return False

    def _set(self, place: int, marks: int) -> None:
        if not self._room:
            size = self._bits << len(self._filters)
            self._filters.append(bytearray(size // 8))
            self._room = size // _BITS_PER_CONTENT
        self._room -= 1
        filling = self._filters[-1]
        start = (place & (len(filling) >> _BLOCK_SHIFT) - 1) << _BLOCK_SHIFT
        known = int.from_bytes(filling[start : start + _BLOCK], "little")
        filling[start : start + _BLOCK] = (known | marks).to_bytes(_BLOCK, "little")


_BITS_PER_CONTENT = 10
_BLOCK_SHIFT = 6
_BLOCK = 1 << _BLOCK_SHIFT


def _numbered(content: bytes, number: int) -> bytes:
    """What stands for one occurrence of a content."""
    if number == 0:
        return content
    return hashlib.blake2b(content + number.to_bytes(8, "big"), digest_size=16).digest()


def _marks_of(content: bytes) -> tuple[int, int]:
    """The block that a content's marks are in, before that is cut to how many there are; and six marks of 512 bits."""
    bits = int.from_bytes(content, "big")
    marks = (
        1 << (bits & 511)
        | 1 << (bits >> 9 & 511)
        | 1 << (bits >> 18 & 511)
        | 1 << (bits >> 27 & 511)
        | 1 << (bits >> 36 & 511)
        | 1 << (bits >> 45 & 511)
    )
    return bits >> 64, marks
