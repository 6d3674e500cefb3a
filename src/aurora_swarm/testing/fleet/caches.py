"""Prefix caches as engines keep them: blocks for a whole server, or the latest prompt of each slot. Pure."""

from __future__ import annotations

import os.path
from collections import OrderedDict
from collections.abc import Iterator
from typing import Protocol

from aurora_swarm.testing.fleet.plan import CHARS_PER_TOKEN, ServerPlan

BLOCK_TOKENS = 16
_BLOCK_CHARS = BLOCK_TOKENS * CHARS_PER_TOKEN


class PrefixCache(Protocol):
    """Tells how much of a prompt need not be computed."""

    def begin(self, prompt: str, slot: int) -> tuple[int, int]:
        """A prompt is computed.

        Args:
            prompt: All of it.
            slot: The slot that the request asks for; -1 for any.

        Returns:
            Tokens that are cached, and the slot to give back with `end`.
        """
        ...

    def end(self, slot: int) -> None:
        """A sequence has ended."""
        ...


class BlockCache:
    """The least recently used of a number of blocks goes first; blocks are there as soon as their prompt is begun.

    Args:
        blocks: How many fit.
    """

    def __init__(self, blocks: int) -> None:
        self._blocks = blocks
        self._known: OrderedDict[int, None] = OrderedDict()

    def begin(self, prompt: str, slot: int) -> tuple[int, int]:  # noqa: ARG002 - there are none
        """See `PrefixCache`; a block counts only where all blocks before it are there."""
        if not self._blocks or len(prompt) < _BLOCK_CHARS:
            return 0, -1
        known, cached, hit = self._known, 0, True
        for key in _block_keys(prompt):
            hit = hit and key in known
            cached += hit
            known[key] = None
            known.move_to_end(key)
        while len(known) > self._blocks:
            known.popitem(last=False)
        return cached * BLOCK_TOKENS, -1

    def end(self, slot: int) -> None:
        """Nothing changes: blocks stay."""


class SlotCache:
    """Each slot keeps its latest prompt. A prompt goes to the free slot that shares most with it, else to the oldest.

    Args:
        slots: How many there are.
    """

    def __init__(self, slots: int) -> None:
        self._prompts = [""] * slots
        self._free: OrderedDict[int, None] = OrderedDict.fromkeys(range(slots))

    def begin(self, prompt: str, slot: int) -> tuple[int, int]:
        """See `PrefixCache`. One more than there are slots has no slot, and nothing cached."""
        if not self._free:
            return 0, -1
        if slot not in self._free:
            slot = max(self._free, key=lambda free: _shared(self._prompts[free], prompt))
        shared = _shared(self._prompts[slot], prompt)
        del self._free[slot]
        self._prompts[slot] = prompt
        return shared // CHARS_PER_TOKEN, slot

    def end(self, slot: int) -> None:
        """The slot is free, and keeps its prompt."""
        if slot >= 0:
            self._free[slot] = None


def open_cache(plan: ServerPlan) -> PrefixCache:
    """The cache of a plan's engine."""
    return SlotCache(plan.capacity) if plan.engine == "llamacpp" else BlockCache(plan.cache_blocks)


def _block_keys(prompt: str) -> Iterator[int]:
    key = 0
    for start in range(0, len(prompt) - _BLOCK_CHARS + 1, _BLOCK_CHARS):
        key = hash((key, prompt[start : start + _BLOCK_CHARS]))
        yield key


def _shared(one: str, other: str) -> int:
    return len(os.path.commonprefix((one, other)))  # noqa: RUF071 - characters are what is meant
