"""What a model answers."""

from __future__ import annotations

import msgspec

from aurora_swarm.values.message import ToolCall


class Usage(msgspec.Struct, frozen=True, gc=False):
    """Tokens spent. Adds up with ``+``.

    Args:
        prompt_tokens: Tokens of the prompts, cached ones included.
        completion_tokens: Tokens generated.
        cached_tokens: Prompt tokens that the engine took from its prefix cache.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        """Prompt and completion together."""
        return self.prompt_tokens + self.completion_tokens

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.cached_tokens + other.cached_tokens,
        )


class Reply(msgspec.Struct, frozen=True, gc=False):
    """One complete answer.

    Args:
        text: What the model said; may be empty.
        finish_reason: ``stop``, ``length``, ``tool_calls`` or ``content_filter``; an abort never becomes a reply.
        usage: Tokens, as the server counted them; zeros where it does not say.
        model: The model that answered, by the server's word.
        ttft_s: Seconds to the first token, for streamed answers; None otherwise.
        tool_calls: What it called by the server's own tool protocol, in its order; each id once.
    """

    text: str
    finish_reason: str = "stop"
    usage: Usage = Usage()
    model: str = ""
    ttft_s: float | None = None
    tool_calls: tuple[ToolCall, ...] = ()


class Delta(msgspec.Struct, frozen=True):
    """One piece of a streamed answer; the last one carries the whole as `reply`.

    Args:
        text: The new text.
        reply: Set on the last piece only.
    """

    text: str
    reply: Reply | None = None


class Embeddings(msgspec.Struct, frozen=True):
    """Vectors for a list of texts, in the order of the texts.

    Args:
        vectors: One vector per text, all of the same length.
        usage: Tokens spent.
        model: The model that answered.
    """

    vectors: tuple[tuple[float, ...], ...]
    usage: Usage = Usage()
    model: str = ""


class EndpointInfo(msgspec.Struct, frozen=True):
    """What a probe learned of an endpoint.

    Args:
        models: Names that it serves; empty where the wire has no way to ask.
        max_context: Tokens that prompt and answer of one sequence may have together, for the first model; None where
            the server does not say.
        engine: ``vllm``, ``llamacpp``, ``sglang`` ..., or empty when unknown.
        latency_s: How long the probe took.
        slots: Sequences that it runs at a time; None where it does not say.
    """

    models: tuple[str, ...] = ()
    max_context: int | None = None
    engine: str = ""
    latency_s: float = 0.0
    slots: int | None = None


class EndpointLoad(msgspec.Struct, frozen=True):
    """What an engine says of its own load; all its clients together.

    Args:
        running: Sequences in its batch.
        waiting: Sequences in its queue.
        cache_usage: Share of its KV cache in use, 0 to 1; None where it does not say.
    """

    running: int
    waiting: int
    cache_usage: float | None = None
