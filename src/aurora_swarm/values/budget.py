"""What may be spent, by anyone who sets agents to work."""

from __future__ import annotations

import msgspec

from aurora_swarm.values.reply import Usage


class Price(msgspec.Struct, frozen=True):
    """What a model costs, in US dollars per million tokens.

    Args:
        prompt: Prompt tokens that no cache had.
        completion: Generated tokens.
        cached: Prompt tokens from a cache; the price of `prompt` when None.
    """

    prompt: float
    completion: float
    cached: float | None = None

    def of(self, usage: Usage) -> float:
        """What tokens cost, in US dollars."""
        cached = self.prompt if self.cached is None else self.cached
        fresh = usage.prompt_tokens - usage.cached_tokens
        return (fresh * self.prompt + usage.cached_tokens * cached + usage.completion_tokens * self.completion) / 1e6


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """What may be spent at most; None bounds nothing. Hard: it is reserved before and settled after.

    Args:
        tokens: Prompt and completion tokens together.
        usd: Money, by a `Price`.
        wall_s: Seconds from the start.
        tool_calls: Executions of tools.
        width: Agents under way at a time.
    """

    tokens: int | None = None
    usd: float | None = None
    wall_s: float | None = None
    tool_calls: int | None = None
    width: int | None = None
