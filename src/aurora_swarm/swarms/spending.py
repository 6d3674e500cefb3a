"""What of a budget workers may spend, so that something is left to make one answer of theirs. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from aurora_swarm.agents.budgets import Purse
from aurora_swarm.values.budget import Budget

FOR_WORK = 0.8
"""Share of what is left that workers may spend."""


def share_for_work(purse: Purse, now: float) -> Budget:
    """A budget for the work alone.

    Args:
        purse: Out of which all of it is paid; those above it count too.
        now: The time.

    Returns:
        A share of the tokens, the money and the time that are left; no bound where there is none.
    """
    left_tokens, left_usd = [], []
    for each in purse.chain:
        spent = each.statistics()
        if each.budget.tokens is not None:
            left_tokens.append(each.budget.tokens - spent.tokens - spent.reserved_tokens)
        if each.budget.usd is not None:
            left_usd.append(each.budget.usd - spent.usd - spent.reserved_usd)
    tokens, usd, wall_s = _share(left_tokens), _share(left_usd), purse.left_s(now)
    return Budget(
        tokens=None if tokens is None else int(tokens),
        usd=usd,
        wall_s=None if wall_s is None else wall_s * FOR_WORK,
    )


def _share(left: Iterable[float]) -> float | None:
    least = min(left, default=None)
    return None if least is None else max(least, 0.0) * FOR_WORK
