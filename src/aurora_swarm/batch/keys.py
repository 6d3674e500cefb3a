"""What identifies a piece of work: the hash of everything that determines its answer. Pure."""

from __future__ import annotations

import hashlib
from collections import Counter

import msgspec

from aurora_swarm.values.call import Sampling
from aurora_swarm.values.message import Message

_FORMAT = 1
"""Part of every key: raise it when the same ingredients lead to another answer than before."""


class Determinants(msgspec.Struct, frozen=True):
    """What determines an answer besides the input.

    Args:
        model: Model name.
        sampling: How tokens are picked.
        schema: JSON schema of the answer, encoded; empty for free text.
        tools: For each tool its name, description, parameters and configuration, encoded.
        max_turns: Turns at most.
        max_retries: Re-asks at most.
        tool_choice: Whether a tool must be used.
    """

    model: str
    sampling: Sampling
    schema: bytes
    tools: tuple[bytes, ...]
    max_turns: int
    max_retries: int
    tool_choice: str


class KeyMaker:
    """Makes content keys for one run.

    Args:
        determinants: What all inputs of the run share.
    """

    def __init__(self, determinants: Determinants) -> None:
        shared = hashlib.sha256(f"aurora-swarm:{_FORMAT}:".encode())
        shared.update(msgspec.json.encode(determinants))
        self._shared = shared
        self._seen: Counter[bytes] = Counter()

    def key(self, messages: tuple[Message, ...], grants: bytes = b"") -> str:
        """The key of one input.

        Equal inputs get different keys, by how often they occurred before, so that each keeps an answer of its own.

        Args:
            messages: How the conversation begins; holds the system prompt and the rendered input.
            grants: What this agent's tools may touch, and in which state it is.
        """
        digest = self._shared.copy()
        digest.update(msgspec.json.encode((messages, grants)))
        content = digest.digest()[:16]
        occurrence = self._seen[content]
        self._seen[content] += 1
        return content.hex() if occurrence == 0 else f"{content.hex()}-{occurrence}"
