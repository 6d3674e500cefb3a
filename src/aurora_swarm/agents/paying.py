"""Taking what a call can cost out of a purse, and waiting where only calls under way stand in the way."""

from __future__ import annotations

import asyncio

from aurora_swarm.agents.budgets import Hold, Purse
from aurora_swarm.values.call import Call


async def reserved(purse: Purse, call: Call) -> tuple[Call, Hold]:
    """Reserve a call, once what it needs is there.

    Who waits first is served first. Only calls to models are waited for: they have deadlines of their own and need
    nothing of who waits.

    Raises:
        BudgetError: The purse cannot pay for it, whatever is put back.
    """
    now = asyncio.get_running_loop().time
    waited: Purse | None = None
    try:
        while isinstance(found := purse.reserve_or_wait(call, now(), is_new=waited is None), Purse):
            if waited is not None and waited is not found:
                waited.wake()
            is_new, waited = waited is None, found
            await _put_back(found, is_new=is_new)
        return found
    finally:
        if waited is not None:
            waited.wake()  # also when cancelled: there may be room for the next one


async def _put_back(purse: Purse, *, is_new: bool) -> None:
    """Wait until something is put back into a purse, behind those who wait already unless this one did so before."""
    turn = asyncio.get_running_loop().create_future()

    def wake() -> None:
        if not turn.done():
            turn.set_result(None)

    if is_new:
        purse.waiting.append(wake)
    else:
        purse.waiting.appendleft(wake)
    try:
        await turn
    finally:
        purse.waiting.remove(wake)
