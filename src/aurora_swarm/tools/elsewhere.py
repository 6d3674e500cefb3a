"""The seam between the tools of a process and equal calls that other processes make."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from aurora_swarm.tools.flights import Execution

Make = Callable[[], Awaitable[Execution]]


class Elsewhere(Protocol):
    """Calls of pure tools that one of several processes makes for all."""

    async def once(self, key: str, make: Make, *, ttl_s: float | None, patience_s: float) -> Execution:
        """What a call comes to, made here only where no other process made it or is making it.

        A call that fails elsewhere is made here, or by one of the others that wait. Whatever happens to the other
        processes, or to what is shared, the call is made here in the end.

        Args:
            key: Identity of the call; the same in all processes.
            make: Makes it here; tells failures rather than raising them.
            ttl_s: Seconds that its answer stays true; None for the whole run.
            patience_s: Seconds that one call may take, elsewhere too.

        Returns:
            How it ended; `is_borrowed` where another process made it.
        """
        ...
