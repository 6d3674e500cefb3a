"""What a swarm elsewhere may spend of a purse here: reserved before it begins, settled with what it reports. Pure.

A purse in this process sees every call before it is made; of one elsewhere it hears only at the end. So the whole of
what the other may spend is taken out first, in this purse and in all above it. What nobody reports was spent.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from aurora_swarm.agents.budgets import USEFUL_TOKENS, Hold, Purse
from aurora_swarm.errors import BudgetError, ConnectError
from aurora_swarm.values.budget import Budget, Price
from aurora_swarm.values.call import Call, Sampling
from aurora_swarm.values.outcome import Outcome
from aurora_swarm.values.reply import Reply, Usage

_NOTHING = Outcome(None, ConnectError("nothing was begun"), None)


class Spent(msgspec.Struct, frozen=True):
    """What a swarm has spent, by its own account.

    Args:
        tokens: Tokens spent, or that may have been: those of calls that nobody counted are in it.
        usage: Tokens as servers counted them.
        tool_calls: Tools executed.
    """

    tokens: int = 0
    usage: Usage = Usage()
    tool_calls: int = 0

    @property
    def total(self) -> int:
        """Tokens spent, by whichever count has more of them."""
        return max(self.tokens, self.usage.total_tokens)

    def as_usage(self, price: Price | None = None) -> Usage:
        """The tokens as a purse books them: those that nobody counted are the dearest ones that they can be.

        Args:
            price: What they cost where they are booked.
        """
        prompt, cached, completion = self.usage.prompt_tokens, self.usage.cached_tokens, self.usage.completion_tokens
        more = self.total - self.usage.total_tokens
        if price is None or _completion_is_dearest(price):
            completion += more
        else:
            prompt += more
            cached += more if (price.cached or 0.0) > price.prompt else 0
        if prompt == 0 and completion > 0:  # every call has a prompt
            prompt, completion = 1, completion - 1
        return Usage(prompt, completion, cached)


def _completion_is_dearest(price: Price) -> bool:
    return price.completion >= max(price.prompt, price.cached or 0.0)


def free_in(purse: Purse, now: float) -> Budget:
    """What is neither spent nor reserved in a purse and all above it; None where nothing bounds it.

    Args:
        purse: Which.
        now: The time.
    """
    tokens, usd, tool_calls = [], [], []
    for each in purse.chain:
        budget, has = each.budget, each.statistics()
        if budget.tokens is not None:
            tokens.append(max(budget.tokens - has.tokens - has.reserved_tokens, 0))
        if budget.usd is not None:
            usd.append(max(budget.usd - has.usd - has.reserved_usd, 0.0))
        if budget.tool_calls is not None:
            tool_calls.append(max(budget.tool_calls - has.tool_calls - has.reserved_tool_calls, 0))
    return Budget(
        tokens=min(tokens, default=None),
        usd=min(usd, default=None),
        tool_calls=min(tool_calls, default=None),
        wall_s=purse.left_s(now),
    )


def share_of(budget: Budget, share: float) -> Budget:
    """A part of what a budget bounds; its time is not shared, since all work at once.

    Args:
        budget: Of which.
        share: 0 to 1.
    """
    return Budget(
        tokens=None if budget.tokens is None else int(budget.tokens * share),
        usd=None if budget.usd is None else budget.usd * share,
        tool_calls=None if budget.tool_calls is None else int(budget.tool_calls * share),
        wall_s=budget.wall_s,
    )


class _Held(NamedTuple):
    purse: Purse
    hold: Hold


class Grant:
    """All that is free in a purse, taken out of it for one who spends it elsewhere.

    To be settled exactly once, whatever becomes of it.

    Args:
        purse: Out of which.
        now: The time.

    Attributes:
        budget: What the other may spend; not in money, since it pays other prices.

    Raises:
        BudgetError: Nothing useful is left. Nothing is changed.
    """

    def __init__(self, purse: Purse, now: float) -> None:
        self._price = purse.price
        free = free_in(purse, now)
        tokens = _tokens_for(free, purse.price)
        if tokens is not None and tokens < USEFUL_TOKENS:
            raise BudgetError(f"{tokens} tokens are left", bound="tokens", remedy="allow more tokens, or more money")
        self._tools: _Held | None = None
        self._tokens = None if tokens is None else self._take(purse, tokens, now)
        try:
            self._tools = self._take_tools(purse, free.tool_calls, now)
        except BudgetError:
            self.settle(None)
            raise
        self.budget = Budget(tokens=tokens, tool_calls=free.tool_calls, wall_s=free.wall_s)

    @property
    def is_bounded(self) -> bool:
        """Whether anything had to be reserved."""
        return self._tokens is not None or bool(self.budget.tool_calls)

    def settle(self, spent: Spent | None) -> None:
        """Book what was spent and put the rest back.

        Args:
            spent: By the other's account; None when nothing was begun.
        """
        if spent is None or not spent.total:
            self._settle(_NOTHING, 0 if spent is None else spent.tool_calls)
        else:
            self._settle(Outcome(Reply("", usage=spent.as_usage(self._price)), None, None), spent.tool_calls)

    def lose(self) -> None:
        """Book all of it: the other may have spent it, and will not say."""
        self._settle(None, self.budget.tool_calls or 0)

    def _settle(self, outcome: Outcome | None, tool_calls: int) -> None:
        if self._tokens is not None:
            self._tokens.purse.settle(self._tokens.hold, outcome)
        if self._tools is not None:
            self._tools.purse.settle_tools(self._tools.hold, tool_calls)

    @staticmethod
    def _take(purse: Purse, tokens: int, now: float) -> _Held:
        """Reserve tokens at the dearest price that any of them may have."""
        price = purse.price
        prompt = 0 if price is None or _completion_is_dearest(price) else tokens - 1
        own = Purse(Budget(), None, purse, prompt_tokens=lambda _call: prompt)
        _, hold = own.reserve(Call((), sampling=Sampling(max_tokens=tokens - prompt)), now)
        return _Held(own, hold)

    @staticmethod
    def _take_tools(purse: Purse, count: int | None, now: float) -> _Held | None:
        return _Held(purse, purse.reserve_tools(count, now)) if count else None


def _tokens_for(free: Budget, price: Price | None) -> int | None:
    if free.usd is None or price is None:
        return free.tokens
    dearest = max(price.prompt, price.completion, price.cached or 0.0)
    affordable = int(free.usd * 1e6 / dearest) - 1 if dearest > 0 else None
    bounds = [bound for bound in (free.tokens, affordable) if bound is not None]
    return max(min(bounds), 0) if bounds else None
