"""What agents may still spend: taken out of every purse above before a step, put back as far as it was not needed.

Pure: calls, counts and `now` in, refusals out. Purses form a tree (a run, its swarms, their agents). Whatever is
reserved or spent in one counts in all those above it, so that together they never spend more than any of them holds.

**The worst is reserved.** A call takes as many tokens as its prompt can have, one for each byte and some for the chat
template, and as many as it may generate; a call without a bound gets one. In money, all of it costs the dearest price
that it may have. Money is counted in whole millionths of a millionth of a dollar, so that sums are exact.

**What nobody counted costs what was reserved.** A call that failed or was cancelled after a server may have begun it,
or whose answer says nothing of tokens, costs its whole reservation. So does an answer before which such an attempt
failed. Attempts that a server refused (400, 429 ...) or never got cost nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
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
from aurora_swarm.pools.budgets import text_length, with_max_tokens
from aurora_swarm.values.budget import Budget, Price
from aurora_swarm.values.call import Call
from aurora_swarm.values.outcome import Outcome
from aurora_swarm.values.reply import Usage

UNBOUNDED_TOKENS = 4096
"""What a call that sets no bound may generate at most, where tokens or money are bounded."""

USEFUL_TOKENS = 64
"""A bound is lowered to what is left while a quarter of it, and at least so much, remains; else the call is refused."""

_TEMPLATE_TOKENS, _MESSAGE_TOKENS, _TOOL_FACTOR = 64, 16, 2
"""What a chat template adds at most: to a prompt, to each message, and how much wider it writes offered tools."""

_PICO = 10**12


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
        return Amount(*(mine + its for mine, its in zip(self, other, strict=True)))

    def minus(self, other: Amount) -> Amount:
        """The difference."""
        return Amount(*(mine - its for mine, its in zip(self, other, strict=True)))


class PurseStatistics(msgspec.Struct, frozen=True):
    """What went through one purse and those below it.

    Args:
        tokens: Tokens spent.
        usd: Money spent, in US dollars.
        tool_calls: Tools executed.
        reserved_tokens: Tokens held for steps under way.
        reserved_usd: Money held for them.
        reserved_tool_calls: Executions held for them.
        agents: Agents under way.
        refused: Steps and agents that were refused here.
    """

    tokens: int
    usd: float
    tool_calls: int
    reserved_tokens: int
    reserved_usd: float
    reserved_tool_calls: int
    agents: int
    refused: int


class Hold:
    """What is reserved for one step until it is settled, which it is exactly once.

    Args:
        amount: What is reserved.
    """

    __slots__ = ("amount", "is_settled")

    def __init__(self, amount: Amount) -> None:
        self.amount = amount
        self.is_settled = False


class Purse:
    """One budget, and the place where all that it bounds is counted.

    Args:
        budget: What may be spent.
        price: What the model costs; that of the purse above when None.
        parent: The purse that this one is part of.
        prompt_tokens: Tokens that a call's prompt has at most; what the purse above goes by, or `most_prompt_tokens`,
            when None. If it says too little, more can be spent than is held.

    Raises:
        UsageError: Money is bounded and nobody says what the model costs, or a number is below 0.
    """

    def __init__(
        self,
        budget: Budget,
        price: Price | None = None,
        parent: Purse | None = None,
        *,
        prompt_tokens: Callable[[Call], int] | None = None,
    ) -> None:
        self.budget = budget
        self.price: Price | None = price if price is not None or parent is None else parent.price
        self.chain: tuple[Purse, ...] = (self,) if parent is None else (self, *parent.chain)
        above = most_prompt_tokens if parent is None else parent.prompt_tokens
        self.prompt_tokens: Callable[[Call], int] = prompt_tokens or above
        _check(budget, self.price)
        self._rates = _Rates(self.price)
        self._account = _Account(budget)
        self._bounds_calls = any(p.budget.tokens is not None or p.budget.usd is not None for p in self.chain)

    def enter(self, now: float) -> None:
        """An agent begins; it is bounded by this purse and all above. The clocks of purses that were unused start.

        Raises:
            BudgetError: Too many are under way, or the time is over. Nothing is changed.
        """
        accounts = self._accounts()
        for account in accounts:
            account.check_time(now)
            account.check_width()
        for account in accounts:
            account.began_s = now if account.began_s is None else account.began_s
            account.agents += 1

    def leave(self) -> None:
        """An agent has ended."""
        for account in self._accounts():
            account.agents -= 1

    def reserve(self, call: Call, now: float) -> tuple[Call, Hold]:
        """Take the worst that a call to the model can cost out of this purse and all above.

        Args:
            call: What is to be asked.
            now: The time.

        Returns:
            The call, its ``max_tokens`` lowered to what is left where that still leaves a useful answer; and the hold,
            to be given to `settle`.

        Raises:
            BudgetError: The bound, what is left of it, and what the call would take. Nothing is changed.
        """
        asked = call.sampling.max_tokens
        wanted = UNBOUNDED_TOKENS if asked is None else asked
        prompt = self.prompt_tokens(call)
        if not self._bounds_calls:
            return call, self._take(self._rates.most(prompt, wanted), now)
        least = min(wanted, max(USEFUL_TOKENS, 0 if asked is None else wanted // 4))
        rooms = [account.room(prompt, self._rates) for account in self._accounts()]
        granted = max(least, min(wanted, *rooms))
        return with_max_tokens(call, granted), self._take(self._rates.most(prompt, granted), now)

    def settle(self, hold: Hold, outcome: Outcome | None) -> None:
        """Book what a call cost, and put the rest of its reservation back.

        Args:
            hold: As of `reserve`.
            outcome: How the call ended; None when it was cancelled.
        """
        self._settle(hold, _cost(hold.amount, outcome, self._rates))

    def reserve_tools(self, count: int, now: float) -> Hold:
        """Take so many executions of tools.

        Raises:
            BudgetError: The bound, what is left of it, and what was wanted. Nothing is changed.
        """
        return self._take(Amount(tool_calls=count), now)

    def settle_tools(self, hold: Hold, executed: int) -> None:
        """Book the executions that there were, and put the rest back."""
        self._settle(hold, Amount(tool_calls=executed))

    def left_s(self, now: float) -> float | None:
        """Seconds until the first of the purses' times is over; None when none is bounded. Never below 0."""
        times = (account.left_s(now) for account in self._accounts())
        return min((left for left in times if left is not None), default=None)

    def statistics(self) -> PurseStatistics:
        """A frozen snapshot."""
        account = self._account
        spent, held = account.spent, account.held
        return PurseStatistics(
            tokens=spent.tokens,
            usd=spent.pico_usd / _PICO,
            tool_calls=spent.tool_calls,
            reserved_tokens=held.tokens,
            reserved_usd=held.pico_usd / _PICO,
            reserved_tool_calls=held.tool_calls,
            agents=account.agents,
            refused=account.refused,
        )

    def _accounts(self) -> list[_Account]:
        return [purse._account for purse in self.chain]  # noqa: SLF001 - purses of the same class

    def _take(self, amount: Amount, now: float) -> Hold:
        accounts = self._accounts()
        for account in accounts:
            account.check_time(now)
            account.check(amount)
        for account in accounts:
            account.held = account.held.plus(amount)
        return Hold(amount)

    def _settle(self, hold: Hold, spent: Amount) -> None:
        assert not hold.is_settled
        hold.is_settled = True
        for account in self._accounts():
            account.held = account.held.minus(hold.amount)
            account.spent = account.spent.plus(spent)


class _Account:
    """What one budget holds, and what has gone out of it."""

    def __init__(self, budget: Budget) -> None:
        self.spent = self.held = Amount()
        self.agents = 0
        self.refused = 0
        self.began_s: float | None = None
        self._budget = budget
        usd = None if budget.usd is None else math.floor(budget.usd * _PICO)
        self._caps = (budget.tokens, usd, budget.tool_calls)

    def check(self, amount: Amount) -> None:
        """Make sure that an amount is left.

        Raises:
            BudgetError: It is not.
        """
        for place, cap in enumerate(self._caps):
            wanted = amount[place]
            if cap is not None and wanted and wanted > cap - self.spent[place] - self.held[place]:
                raise self._refuse(place, cap, wanted)

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

    def room(self, prompt: int, rates: _Rates) -> int:
        """Tokens that may be generated for a prompt with what is left; below 0 where not even the prompt fits."""
        tokens, usd, _ = self._caps
        rooms = [UNBOUNDED_TOKENS**2]
        if tokens is not None:
            rooms.append(tokens - self.spent.tokens - self.held.tokens - prompt)
        if usd is not None and rates.completion:
            left = usd - self.spent.pico_usd - self.held.pico_usd - prompt * rates.prompt
            rooms.append(left // rates.completion)
        return min(rooms)

    def _refuse(self, place: int, cap: int, wanted: int) -> BudgetError:
        self.refused += 1
        bound = ("tokens", "usd", "tool_calls")[place]
        left, held = cap - self.spent[place] - self.held[place], self.held[place]
        words = ("{:,} tokens", "${:.6f}", "{:,} tool calls")[place]
        scale = _PICO if place == 1 else 1
        say = [words.format(number / scale if place == 1 else number) for number in (left, cap, wanted, held)]
        waits = f" ({say[3]} are reserved for steps under way)" if held else ""
        problem = f"{say[0]} of {say[1]} are left{waits}, and the next step could take {say[2]}"
        return BudgetError(problem, bound=bound, remedy=f"allow more {bound}, or lower max_tokens")


class _Rates:
    """Prices per token in whole millionths of a millionth of a dollar, rounded up."""

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


def _cost(reserved: Amount, outcome: Outcome | None, rates: _Rates) -> Amount:
    """What a call costs by the rules above."""
    if outcome is None:
        return reserved
    unseen = any(_may_have_worked(failure.error) for failure in outcome.failures)
    if outcome.reply is None:
        return reserved if unseen else Amount()
    if outcome.reply.usage.prompt_tokens <= 0:
        return reserved
    cost = rates.of(outcome.reply.usage)
    return Amount(*map(max, cost, reserved)) if unseen else cost


def _may_have_worked(error: CallError) -> bool:
    return not isinstance(error, ConnectError | OverloadedError | RequestRejectedError | WrongModelError)


def _rate(usd_per_million: float) -> int:
    return math.ceil(round(usd_per_million * 1e6, 3))


def _check(budget: Budget, price: Price | None) -> None:
    if budget.usd is not None and price is None:
        raise UsageError("a budget in money needs a price", remedy="give price=Price(prompt=..., completion=...)")
    bounds = (budget.tokens, budget.usd, budget.wall_s, budget.tool_calls, budget.width)
    prices = () if price is None else (price.prompt, price.completion, price.cached)
    for number in (*bounds, *prices):
        if number is not None and not 0 <= number < math.inf:
            raise UsageError(f"{number} is no bound and no price", remedy="give numbers of 0 or more")
