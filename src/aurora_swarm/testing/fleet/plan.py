"""What a simulated server is like."""

from __future__ import annotations

import math
import random
from typing import Literal

import msgspec

from aurora_swarm.errors import UsageError

Engine = Literal["vllm", "sglang", "llamacpp", "generate", "anthropic", "bedrock"]
Spread = Literal["constant", "uniform", "lognormal"]

CHARS_PER_TOKEN = 4
"""A simulated tokenizer: every so many characters are a token."""

_NOT_NEGATIVE = (
    "latency_s",
    "per_token_s",
    "prefill_per_token_s",
    "tokens",
    "batch_slowdown",
    "thrash_above",
    "cache_blocks",
)


class ServerPlan(msgspec.Struct, frozen=True):
    """How one simulated server behaves while it is well.

    A sequence takes ``latency_s``, then its uncached prompt tokens times ``prefill_per_token_s``, then its generated
    tokens times t(b), all of it divided by ``speed``. While b sequences run, a token of each takes
    ``t(b) = per_token_s * (1 + batch_slowdown * (b - 1) / capacity)``; above ``thrash_above`` that grows with the
    square of ``b / thrash_above``, so that more load gives fewer tokens, as where the KV cache is too small.

    Args:
        engine: Whose paths, metrics and manners it has. ``generate`` knows ``/generate`` and ``/health`` alone;
            ``anthropic`` and ``bedrock`` speak as those providers do, to rehearse a run that will be paid for.
        model: The model that it lists.
        max_context: Tokens of prompt and answer at most; more is refused with 400.
        capacity: Sequences that run at a time; for llama.cpp the number of its slots.
        max_queue: Sequences that wait at most, in order of arrival, silently; further requests get 429. None for no
            bound.
        latency_s: Seconds that every sequence takes beside its tokens.
        per_token_s: Seconds for one generated token of a sequence that runs alone.
        tokens: Tokens of an answer, unless the request allows fewer.
        spread: How the number of tokens varies: ``constant``, ``uniform`` (1 to twice `tokens`) or ``lognormal`` (its
            median is `tokens`).
        batch_slowdown: How much slower a token is with all of the capacity in use; 1.0 is twice as slow.
        thrash_above: Sequences above which the server thrashes; 0 for never.
        prefill_per_token_s: Seconds for a prompt token that is not cached.
        cache_blocks: Blocks of 16 tokens in the prefix cache; 0 for no cache. llama.cpp keeps the latest prompt of each
            slot instead.
        speed: 2.0 is twice as fast in everything.
        answer: What it answers; empty for an echo of the prompt's last 400 characters.
        turns: What it answers in a conversation in which it has said nothing yet, something once, and so on; the last
            one from then on. ``{prompt}`` becomes what the user said first, up to 40 characters of it, as in a JSON
            string. So it plays a model that calls a tool and then answers. Where tools are offered by the server's own
            protocol, ``{"tool": NAME, "arguments": {...}}`` is a call by it, and ``{"answer": ...}`` its answer.
            Empty for `answer` throughout.
        refuses: Prompts that hold this text are refused with 400; empty for none.
    """

    engine: Engine = "vllm"
    model: str = "simulated"
    max_context: int = 32_768
    capacity: int = 64
    max_queue: int | None = None
    latency_s: float = 0.0
    per_token_s: float = 0.0
    tokens: int = 16
    spread: Spread = "constant"
    batch_slowdown: float = 0.0
    thrash_above: int = 0
    prefill_per_token_s: float = 0.0
    cache_blocks: int = 8_192
    speed: float = 1.0
    answer: str = ""
    turns: tuple[str, ...] = ()
    refuses: str = ""

    def __post_init__(self) -> None:
        for name in _NOT_NEGATIVE:
            value = getattr(self, name)
            if not (value >= 0 and math.isfinite(value)):
                raise UsageError(f"{name} is {value}", remedy="give a number that is not negative")
        if self.capacity < 1 or self.max_context < 1 or (self.max_queue is not None and self.max_queue < 0):
            raise UsageError("capacity and max_context must be at least 1, max_queue at least 0")
        if not (self.speed > 0 and math.isfinite(self.speed)):
            raise UsageError(f"speed is {self.speed}", remedy="give a number above 0")

    def token_s(self, running: int) -> float:
        """Seconds that a token takes for each of the sequences that run.

        Args:
            running: How many run.
        """
        slowed = self.per_token_s / self.speed * (1 + self.batch_slowdown * max(running - 1, 0) / self.capacity)
        over = running / self.thrash_above if self.thrash_above else 1.0
        return slowed * max(over, 1.0) ** 2

    @property
    def varies(self) -> bool:
        """Whether a token's time depends on the load."""
        return bool(self.per_token_s and (self.batch_slowdown or self.thrash_above))

    def draw_tokens(self, allowed: int | None, dice: random.Random) -> tuple[int, bool]:
        """Tokens of one answer.

        Args:
            allowed: What the request allows; None for any number.
            dice: Where chance comes from.

        Returns:
            How many, and whether the request cut them short.
        """
        wanted = self.tokens
        if self.spread == "uniform":
            wanted = dice.randint(1, max(2 * self.tokens - 1, 1))
        elif self.spread == "lognormal":
            wanted = max(round(dice.lognormvariate(math.log(max(self.tokens, 1)), 0.6)), 1)
        return (wanted, False) if allowed is None or allowed >= wanted else (allowed, True)


def count_tokens(text: str) -> int:
    """Tokens of a text, as simulated servers count them."""
    return -(-len(text) // CHARS_PER_TOKEN)
