"""What agents may still spend: taken out of every purse above before a step, put back as far as it was not needed.

Pure: calls, counts and `now` in, refusals out. Purses form a tree (a run, its swarms, their agents). Whatever is
reserved or spent in one counts in all those above it, so that together they never spend more than any of them holds.

**The worst is reserved.** A call takes as many tokens as its prompt can have, one for each byte and some for the chat
template, and as many as it may generate; a call without a bound gets one. In money, all of it costs the dearest price
that it may have. Money is counted in whole millionths of a millionth of a dollar, so that sums are exact.

**Waiting.** What is only reserved may be put back: a call that could be paid then is better made later than refused or
cut short. `Purse.reserve_or_wait` tells where to wait; calls under way end by themselves, so the wait does too.

**What nobody counted costs what was reserved.** A call that failed or was cancelled after a server may have begun it,
or whose answer says nothing of tokens, costs its whole reservation. So does an answer before which such an attempt
failed. Attempts that a server refused (400, 429 ...) or never got cost nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import msgspec

from aurora_swarm.agents.accounts import PICO, Account, Amount, Rates, check_numbers, cost_of, most_prompt_tokens
from aurora_swarm.pools.budgets import with_max_tokens
from aurora_swarm.values.budget import Budget, Price
from aurora_swarm.values.call import Call
from aurora_swarm.values.outcome import Outcome

UNBOUNDED_TOKENS = 4096
"""What a call that sets no bound may generate at most, where tokens or money are bounded."""

USEFUL_TOKENS = 64
"""A bound is lowered to what is not spent yet while a quarter of it, and at least so much, remains; else the call is
refused.
"""


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

    Attributes:
        waiting: Calls back those who wait for something to be put back, in their order.

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
        check_numbers(budget, self.price)
        self.waiting: deque[Callable[[], None]] = deque()
        self._rates = Rates(self.price)
        self._account = Account(budget)
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
        return self._reserve(call, *self._need(call), now)

    def reserve_or_wait(self, call: Call, now: float, *, is_new: bool = True) -> tuple[Call, Hold] | Purse:
        """Like `reserve`, but tells where to wait when what calls under way have reserved would do.

        Args:
            call: What is to be asked.
            now: The time.
            is_new: Whether it comes behind those who wait already, rather than before them.

        Returns:
            As of `reserve`; or the purse in which something must be put back first.

        Raises:
            BudgetError: As of `reserve`; waiting would not help.
        """
        max_tokens, amount = self._need(call)
        short = [purse for purse in self.chain if (is_new and purse.waiting) or not purse._account.has(amount)]  # noqa: SLF001
        if short and all(account.has(amount, with_reserved=True) for account in self._accounts()):
            return short[0]
        return self._reserve(call, max_tokens, amount, now)

    def wake(self) -> None:
        """Call the first of those who wait for something to be put back."""
        if self.waiting:
            self.waiting[0]()

    def settle(self, hold: Hold, outcome: Outcome | None) -> None:
        """Book what a call cost, and put the rest of its reservation back.

        Args:
            hold: As of `reserve`.
            outcome: How the call ended; None when it was cancelled.
        """
        self._settle(hold, cost_of(hold.amount, outcome, self._rates))

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
            usd=spent.pico_usd / PICO,
            tool_calls=spent.tool_calls,
            reserved_tokens=held.tokens,
            reserved_usd=held.pico_usd / PICO,
            reserved_tool_calls=held.tool_calls,
            agents=account.agents,
            refused=account.refused,
        )

    def _accounts(self) -> list[Account]:
        return [purse._account for purse in self.chain]  # noqa: SLF001 - purses of the same class

    def _need(self, call: Call) -> tuple[int | None, Amount]:
        """What a call may generate, None for what it says itself, and the worst that it then costs."""
        asked = call.sampling.max_tokens
        wanted = UNBOUNDED_TOKENS if asked is None else asked
        prompt = self.prompt_tokens(call)
        if not self._bounds_calls:
            return None, self._rates.most(prompt, wanted)
        least = min(wanted, max(USEFUL_TOKENS, 0 if asked is None else wanted // 4))
        rooms = [account.room(prompt, self._rates) for account in self._accounts()]
        granted = max(least, min(wanted, *rooms))
        return granted, self._rates.most(prompt, granted)

    def _reserve(self, call: Call, max_tokens: int | None, amount: Amount, now: float) -> tuple[Call, Hold]:
        hold = self._take(amount, now)
        return call if max_tokens is None else with_max_tokens(call, max_tokens), hold

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
        for purse in self.chain:
            purse.wake()
