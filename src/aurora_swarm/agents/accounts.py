"""What one budget holds, what has gone out of it, and what a call can cost and has cost. Pure."""

from __future__ import annotations

import math
from typing import NamedTuple

import msgspec

from aurora_swarm.errors import (
    BudgetError,
    CallError,
    ConnectError,
    OverloadedError,
    RequestRejectedError,
    UsageError,
    WrongModelError,
)
from aurora_swarm.pools.budgets import text_length
from aurora_swarm.values.budget import Budget, Price
from aurora_swarm.values.call import Call
from aurora_swarm.values.outcome import Outcome
from aurora_swarm.values.reply import Usage

_TEMPLATE_TOKENS, _MESSAGE_TOKENS, _TOOL_FACTOR = 64, 16, 2
"""What a chat template adds at most: to a prompt, to each message, and how much wider it writes offered tools."""

PICO = 10**12
"""Parts of a dollar that money is counted in."""

_PLENTY = 10**12
"""More tokens than any model generates."""


class Amount(NamedTuple):
    """What a step takes.

    Args:
        tokens: Prompt and completion tokens.
        pico_usd: Money, in millionths of a millionth of a US dollar.
        tool_calls: Executions of tools.
    """

    tokens: int = 0
    pico_usd: int = 0
    tool_calls: int = 0

    def plus(self, other: Amount) -> Amount:
        """The sum."""
        return Amount(self[0] + other[0], self[1] + other[1], self[2] + other[2])

    def minus(self, other: Amount) -> Amount:
        """The difference."""
        return Amount(self[0] - other[0], self[1] - other[1], self[2] - other[2])


class Account:
    """What one budget holds, and what has gone out of it.

    Args:
        budget: What may be spent.

    Attributes:
        spent: What steps have taken.
        held: What is reserved for steps under way.
        agents: Agents under way.
        refused: What was refused here.
        began_s: When the first agent began; None before.
    """

    def __init__(self, budget: Budget) -> None:
        self.spent = self.held = Amount()
        self.agents = 0
        self.refused = 0
        self.began_s: float | None = None
        self._budget = budget
        usd = None if budget.usd is None else math.floor(budget.usd * PICO)
        self._caps = (budget.tokens, usd, budget.tool_calls)

    def check(self, amount: Amount) -> None:
        """Make sure that an amount is left.

        Raises:
            BudgetError: It is not.
        """
        if self.has(amount):
            return
        for place, cap in enumerate(self._caps):
            if cap is not None and amount[place] > cap - self.spent[place] - self.held[place]:
                raise self._refuse(place, cap, amount[place])

    def check_time(self, now: float) -> None:
        """Make sure that there is time.

        Raises:
            BudgetError: There is none.
        """
        if self.left_s(now) == 0:
            self.refused += 1
            raise BudgetError(
                f"the time is over: {self._budget.wall_s:g} s were allowed", bound="wall_s", remedy="allow more wall_s"
            )

    def check_width(self) -> None:
        """Make sure that one more agent may be under way.

        Raises:
            BudgetError: It may not.
        """
        width = self._budget.width
        if width is not None and self.agents >= width:
            self.refused += 1
            problem = f"{self.agents} agents are under way, and {width} may be"
            raise BudgetError(problem, bound="width", remedy="allow more width, or start fewer agents at a time")

    def left_s(self, now: float) -> float | None:
        """Seconds that are left, None for no bound."""
        if self._budget.wall_s is None:
            return None
        began_s = now if self.began_s is None else self.began_s
        return max(self._budget.wall_s - (now - began_s), 0.0)

    def room(self, prompt: int, rates: Rates) -> int:
        """Tokens that may be generated for a prompt with what is not spent; below 0 where not even the prompt fits."""
        tokens, usd, _ = self._caps
        rooms = [_PLENTY]
        if tokens is not None:
            rooms.append(tokens - self.spent.tokens - prompt)
        if usd is not None and rates.completion:
            rooms.append((usd - self.spent.pico_usd - prompt * rates.prompt) // rates.completion)
        return min(rooms)

    def has(self, amount: Amount, *, with_reserved: bool = False) -> bool:
        """Whether an amount is left, or would be if nothing were reserved."""
        for place, cap in enumerate(self._caps):
            if cap is not None and amount[place]:
                left = cap - self.spent[place] - (0 if with_reserved else self.held[place])
                if amount[place] > left:
                    return False
        return True

    def _refuse(self, place: int, cap: int, wanted: int) -> BudgetError:
        self.refused += 1
        bound = ("tokens", "usd", "tool_calls")[place]
        held = self.held[place]
        left = cap - self.spent[place] - held
        waits = f" ({_in_words(place, held)} are reserved for steps under way)" if held else ""
        problem = f"{_in_words(place, left)} of {_in_words(place, cap)} are left{waits}, "
        problem += f"and the next step could take {_in_words(place, wanted)}"
        return BudgetError(problem, bound=bound, remedy=f"allow more {bound}, or lower max_tokens")


class Rates:
    """Prices per token in whole millionths of a millionth of a dollar, rounded up.

    Args:
        price: What the model costs; None for nothing.

    Attributes:
        prompt: Of a prompt token at most.
        completion: Of a generated token.
    """

    def __init__(self, price: Price | None) -> None:
        fresh = _rate(price.prompt) if price is not None else 0
        self.completion = _rate(price.completion) if price is not None else 0
        self._cached = fresh if price is None or price.cached is None else _rate(price.cached)
        self._fresh = fresh
        self.prompt = max(fresh, self._cached)

    def most(self, prompt: int, completion: int) -> Amount:
        """What a call can cost at most."""
        return Amount(prompt + completion, prompt * self.prompt + completion * self.completion)

    def of(self, usage: Usage) -> Amount:
        """What a call has cost."""
        cached = min(max(usage.cached_tokens, 0), usage.prompt_tokens)
        completion = max(usage.completion_tokens, 0)
        fresh = usage.prompt_tokens - cached
        pico = fresh * self._fresh + cached * self._cached + completion * self.completion
        return Amount(usage.prompt_tokens + completion, pico)


def most_prompt_tokens(call: Call) -> int:
    """Tokens that no prompt of a call exceeds, whatever the tokenizer: one per byte, and what chat templates add."""
    tokens = _TEMPLATE_TOKENS + len(call.schema or b"")
    for message in call.messages:
        tokens += _MESSAGE_TOKENS + text_length(message.content)
        for called in message.tool_calls:
            tokens += _MESSAGE_TOKENS + len(called.name) + len(msgspec.json.encode(called.arguments))
    for tool in call.tools:
        written = len(tool.name) + text_length(tool.description) + len(tool.parameters)
        tokens += _MESSAGE_TOKENS + _TOOL_FACTOR * written
    return tokens


def cost_of(reserved: Amount, outcome: Outcome | None, rates: Rates) -> Amount:
    """What a call has cost.

    Args:
        reserved: The worst that it could cost.
        outcome: How it ended; None when it was cancelled.
        rates: What tokens cost.
    """
    if outcome is None:
        return reserved
    unseen = any(_may_have_worked(failure.error) for failure in outcome.failures)
    if outcome.reply is None:
        return reserved if unseen else Amount()
    if outcome.reply.usage.prompt_tokens <= 0:
        return reserved
    cost = rates.of(outcome.reply.usage)
    return Amount(*map(max, cost, reserved)) if unseen else cost


def _in_words(place: int, number: int) -> str:
    """An entry of an `Amount`."""
    return (f"{number:,} tokens", f"${number / PICO:.6f}", f"{number:,} tool calls")[place]


def _may_have_worked(error: CallError) -> bool:
    return not isinstance(error, ConnectError | OverloadedError | RequestRejectedError | WrongModelError)


def _rate(usd_per_million: float) -> int:
    return math.ceil(round(usd_per_million * 1e6, 3))


def check_numbers(budget: Budget, price: Price | None) -> None:
    """Make sure that a budget can be kept.

    Raises:
        UsageError: Money is bounded and nobody says what the model costs, or a number is below 0.
    """
    if budget.usd is not None and price is None:
        raise UsageError("a budget in money needs a price", remedy="give price=Price(prompt=..., completion=...)")
    bounds = (budget.tokens, budget.usd, budget.wall_s, budget.tool_calls, budget.width)
    prices = () if price is None else (price.prompt, price.completion, price.cached)
    for number in (*bounds, *prices):
        if number is not None and not 0 <= number < math.inf:
            raise UsageError(f"{number} is no bound and no price", remedy="give numbers of 0 or more")
