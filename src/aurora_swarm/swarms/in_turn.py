"""Thoughts that are worth waiting for: a plan or a consolidation is not given up because all places are taken."""

from __future__ import annotations

import asyncio
from typing import Any

from aurora_swarm.agents.budgets import Purse
from aurora_swarm.errors import BudgetError
from aurora_swarm.swarms.mind import Mind, Rein, Thought
from aurora_swarm.values.outcome import AgentResult

AGAIN_S = 0.25
"""Seconds until a place is looked for again."""


async def think_in_turn(
    mind: Mind, thought: Thought, *, purse: Purse | None = None, rein: Rein | None = None
) -> AgentResult[Any]:
    """As `Mind.think`; where a purse has as many agents under way as it may have, wait until one of them has ended.

    It ends: agents do. Nothing is spent while it waits.

    Args:
        mind: Who thinks.
        thought: What.
        purse: As for `Mind.think`.
        rein: As for `Mind.think`.
    """
    while True:
        result = await mind.think(thought, purse=purse, rein=rein)
        if not isinstance(result.error, BudgetError) or result.error.bound != "width" or _is_hopeless(purse):
            return result
        await asyncio.sleep(AGAIN_S)


def _is_hopeless(purse: Purse | None) -> bool:
    """Whether a purse allows nobody at all."""
    return purse is None or any(each.budget.width == 0 for each in purse.chain)
