"""Ends the tasks that keep workers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable


async def end(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancel tasks, and wait until what they had to end has ended.

    One that is being cancelled already is left alone: a second time would break off what it does to end in order.
    """
    waited = set(tasks)
    for task in waited:
        if not task.cancelling():
            task.cancel()
    if waited:
        await asyncio.wait(waited)
