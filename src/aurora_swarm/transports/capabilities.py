"""What each kind of backend can do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from aurora_swarm.values.capabilities import Capabilities

_ENGINE = Capabilities()
_PAID = Capabilities(native_tools=True, prefetch=False, concurrency=16)

CAPABILITIES: Mapping[str, Capabilities] = {
    "vllm": _ENGINE,
    "sglang": _ENGINE,
    "dynamo": msgspec.structs.replace(_ENGINE, agent_hints=True, priority=True),
    "llamacpp": _ENGINE,
    "local": _ENGINE,
    "openai": _PAID,
    "anthropic": msgspec.structs.replace(_PAID, cache_marks=True, concurrency=8),
    "bedrock": msgspec.structs.replace(_PAID, cache_marks=True, concurrency=8),
    "http": _ENGINE,
    "https": _ENGINE,
    "completions": _ENGINE,
    "generate": msgspec.structs.replace(_ENGINE, schemas=False, prefetch=False),
}
"""By kind. `native_tools` is True where it can be relied on; the others are asked for tools by a constrained step,
which works on every engine, and whoever knows better says so.
"""


def capabilities_of(kind: str, *, priority: bool = False) -> Capabilities:
    """What endpoints of one kind can do.

    Args:
        kind: A key of `CAPABILITIES`; what is none is taken for an OpenAI-compatible engine.
        priority: Whether they were started to schedule by a priority field.
    """
    known = CAPABILITIES.get(kind, _ENGINE)
    return msgspec.structs.replace(known, priority=True) if priority else known


def meet(several: Iterable[Capabilities]) -> Capabilities:
    """What can be asked of every one of several kinds.

    Args:
        several: At least one.
    """
    first, *others = several
    for other in others:
        first = Capabilities(
            first.native_tools and other.native_tools,
            first.schemas and other.schemas,
            first.priority and other.priority,
            first.cache_marks and other.cache_marks,
            first.agent_hints and other.agent_hints,
            first.prefetch and other.prefetch,
            min(first.concurrency, other.concurrency),
        )
    return first
